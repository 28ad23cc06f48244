"""Serves the agents of agents.py to the client tests, until SIGTERM.

Prints one line, `{"url": ...}`, when it accepts requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from agents import AGENTS, OnPurposeError

from copilot_bindings.asyncio import Server, serve
from sansio_copilot import CopilotRuntime, Limits


def is_surprising(record: logging.LogRecord) -> bool:
    """Whether the log may show this: the tests take a traceback in it for a bug of the server."""
    return not (record.exc_info and isinstance(record.exc_info[1], OnPurposeError))


def announce(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/api/copilotkit"
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(is_surprising)
    logging.basicConfig(handlers=[handler])
    # Heartbeats as short as this reach the clients while they wait for an agent.
    runtime = CopilotRuntime(AGENTS, limits=Limits(heartbeat_seconds=0.1))
    asyncio.run(serve(runtime, "127.0.0.1", 0, ready=announce))
