"""The application that test_app.py serves under gunicorn."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, MemoryStore
from sansio_copilot.stores import Batch

begun = threading.Event()
"""The first event of the agent that is going to fail has been read."""


class Store(MemoryStore):
    """Fails in the middle of the stream of one agent."""

    def read(self, cursor: Any, max_bytes: int) -> Any:
        batch = super().read(cursor, max_bytes)
        assert isinstance(batch, Batch)
        if b"broken" in batch.data and b"RUN_FINISHED" in batch.data:
            raise OSError("the disk is gone")
        if b"broken" in batch.data:
            begun.set()
        return batch


async def endless(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    await asyncio.sleep(1000)


async def broken(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    await asyncio.to_thread(begun.wait)
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


runtime = CopilotRuntime({"endless": endless, "broken": broken}, store=Store())
app = CopilotWSGI(runtime, grace_seconds=0.2)
