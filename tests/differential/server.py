"""Our runtime with what reference.mjs has: the same agents, configurations and common store.

Prints one line, a JSON object from the name of a configuration to its origin, and serves until
SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

from ag_ui.core import RunAgentInput

from copilot_bindings.asyncio import start_server
from sansio_copilot import AgentContext, CopilotRuntime, CorsPolicy, MemoryStore


class OnPurposeError(Exception):
    """The error that a script asks for; in the server's log, any other exception is a bug."""


class Scripted:
    """Yields what the request tells it to; then fails, or waits to be cancelled, if it says so."""

    def __init__(self, description: str = "") -> None:
        self.description = description

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
        props = input.forwarded_props if isinstance(input.forwarded_props, dict) else {}
        for event in props.get("script", ()):
            yield event
        if props.get("wait"):
            await asyncio.Event().wait()
        if "fail" in props:
            raise OnPurposeError(props["fail"])


CREDENTIALS = CorsPolicy(
    origin=["https://app.example.com"],
    credentials=True,
    expose_headers=["x-request-id"],
    max_age=600,
)
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {"cors": False},
    "cors": {"cors": True},
    "credentials": {"cors": CREDENTIALS},
    "anywhere": {"base_path": None, "cors": True},
    "root": {"base_path": "/", "cors": False},
    "single": {"cors": True, "mode": "single-route"},
    "single-credentials": {"cors": CREDENTIALS, "mode": "single-route"},
}


def is_surprising(record: logging.LogRecord) -> bool:
    """Whether the log may show this: the test takes a traceback in it for a bug of the server."""
    return not (record.exc_info and isinstance(record.exc_info[1], OnPurposeError))


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    agents = {"default": Scripted("scripted"), "research-agent": Scripted()}
    store = MemoryStore()
    servers = {
        name: await start_server(
            CopilotRuntime(agents, store=store, raw_events=True, **configuration), "127.0.0.1", 0
        )
        for name, configuration in CONFIGURATIONS.items()
    }
    origins = {name: f"http://127.0.0.1:{server.port}" for name, server in servers.items()}
    sys.stdout.write(json.dumps(origins) + "\n")
    sys.stdout.flush()
    await stop.wait()
    for server in servers.values():
        await server.close(grace_seconds=0)


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(is_surprising)
    logging.basicConfig(handlers=[handler], level=logging.ERROR)
    asyncio.run(main())
