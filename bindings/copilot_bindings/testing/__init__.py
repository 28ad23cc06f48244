"""Test agents that really wait: a client without a network, under asyncio and under trio.

    async with AsyncClient(runtime) as client:
        answer = await client.run(run_input(text="hi"))

``sansio_copilot.testing`` has the client for agents that need no event loop, scripted agents and
recordings.
"""

from __future__ import annotations

from .client import AsyncClient
from .stream import AsyncStream

__all__ = ["AsyncClient", "AsyncStream"]
