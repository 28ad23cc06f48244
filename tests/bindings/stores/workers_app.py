"""An application for servers with several workers, over the file that ``STORE`` names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.stores import SQLiteStore
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, Hooks, Limits, Response
from sansio_copilot.hooks import HookContext


async def told(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield as many deltas as a file has bytes, and end when it is gone."""
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    gate = Path(os.environ["STORE"]).with_name(f"{input.thread_id}.gate")
    yield {"type": "RUN_STARTED", **ids}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    number = 0
    while gate.exists():
        while gate.exists() and number < gate.stat().st_size:
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": f"{number} "}
            number += 1
        await asyncio.sleep(0.01)
    yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
    yield {"type": "RUN_FINISHED", **ids}


def named(context: HookContext) -> Response:
    """Say which worker answers."""
    assert context.response is not None
    headers = context.response.headers.set("x-worker", str(os.getpid()))
    response = context.response
    return Response(response.status, headers, response.body, stream=response.stream)


runtime = CopilotRuntime(
    {"default": told},
    store=SQLiteStore(os.environ["STORE"]),
    hooks=Hooks(on_response=named),
    limits=Limits(heartbeat_seconds=0.5),
)
asgi = CopilotASGI(runtime)
wsgi = CopilotWSGI(runtime)
