"""A server of one's own by copilot_bindings.embedding, as docs/examples has it."""

import asyncio
import importlib
import sys
from pathlib import Path

from sansio_copilot import CopilotRuntime

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

CANNOT = {
    "gives-up-bodies": "its I/O library reads every body to its end, for as long as that takes"
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    sys.path.append(str(EXAMPLES))
    own_server = importlib.import_module("own_server")

    asyncio.run(own_server.serve(runtime, host, port))
