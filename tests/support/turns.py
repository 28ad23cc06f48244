"""Waiting on an event loop, and the turns of it that others get, under asyncio and trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import attrs

_SECONDS = 30.0


async def until(reached: Callable[[], object]) -> None:
    """Wait until ``reached()``.

    :raises TimeoutError: if it is not reached within 30 s.
    """
    with anyio.fail_after(_SECONDS):
        while not reached():
            await anyio.sleep(0.001)


@attrs.define
class Turns:
    """A counter of the turns that another task has had so far."""

    count: int = 0


@asynccontextmanager
async def counted_turns() -> AsyncIterator[Turns]:
    """Counts the turns that another task gets meanwhile."""
    turns = Turns()

    async def count() -> None:
        while True:
            turns.count += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        yield turns
        group.cancel_scope.cancel()
