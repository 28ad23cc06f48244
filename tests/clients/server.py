"""Serves the agents of agents.py to the client tests, until SIGTERM.

Prints one line, `{"url": ..., "singleUrl": ..., "bothUrl": ...}`, when it accepts requests: there
is a runtime in multi-route mode, one in single-route mode, and one that takes both.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from agents import AGENTS, OnPurposeError  # type: ignore[import-not-found]

from copilot_bindings.asyncio import Server, serve, start_server
from sansio_copilot import CopilotRuntime, Limits


def is_surprising(record: logging.LogRecord) -> bool:
    """Whether the log may show this: the tests take a traceback in it for a bug of the server."""
    return not (record.exc_info and isinstance(record.exc_info[1], OnPurposeError))


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/api/copilotkit"


async def main() -> None:
    # Heartbeats as short as this reach the clients while they wait for an agent.
    limits = Limits(heartbeat_seconds=0.1)
    single_route = CopilotRuntime(AGENTS, mode="single-route", limits=limits)
    single = await start_server(single_route, "127.0.0.1", 0)
    of_both = CopilotRuntime(AGENTS, mode="both", limits=limits)
    both = await start_server(of_both, "127.0.0.1", 0)

    def announce(server: Server) -> None:
        urls = {"url": url_of(server), "singleUrl": url_of(single), "bothUrl": url_of(both)}
        sys.stdout.write(json.dumps(urls) + "\n")
        sys.stdout.flush()

    # The call returns at SIGTERM, so that the other two servers are closed behind it.
    await serve(CopilotRuntime(AGENTS, limits=limits), "127.0.0.1", 0, ready=announce)
    await single.close()
    await both.close()


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(is_surprising)
    logging.basicConfig(handlers=[handler])
    asyncio.run(main())
