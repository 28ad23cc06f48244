"""The asyncio binding, which owns its sockets."""

import asyncio

from copilot_bindings.asyncio import serve as serve_asyncio
from sansio_copilot import CopilotRuntime

OWNS_SOCKETS = True


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    asyncio.run(serve_asyncio(runtime, host, port, grace_seconds=0.2))
