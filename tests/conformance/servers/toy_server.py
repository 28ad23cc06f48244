"""The toy binding of docs/bindings.md: what it is there for is to be short."""

import asyncio
import importlib
import sys
from pathlib import Path

from sansio_copilot import CopilotRuntime

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

CANNOT = {
    "blocking-hooks": "plain hooks are called in its event loop",
    "gives-up-bodies": "it waits for every body, for as long as that takes",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    sys.path.append(str(EXAMPLES))
    toy_binding = importlib.import_module("toy_binding")

    asyncio.run(toy_binding.serve(runtime, host, port))
