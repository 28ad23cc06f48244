"""The mock of a model's API (mock_model.py), in a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import attrs

from .mock_model import Call, MockModel


@attrs.frozen
class RunningModel:
    """A mock that answers at ``url``."""

    url: str
    calls: list[Call]
    """The requests to the model, and what became of each."""

    def wait_for(self, state: str) -> Call:
        """The last request, as soon as that is what became of it."""
        deadline = time.monotonic() + 30
        while not self.calls or self.calls[-1].state != state:
            assert time.monotonic() < deadline, self.calls
            time.sleep(0.01)
        return self.calls[-1]


@contextlib.contextmanager
def running_model() -> Iterator[RunningModel]:
    """A mock that answers meanwhile."""
    mock = MockModel()
    begun: Future[int] = Future()
    ended = asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(mock.serve, "127.0.0.1", 0)
        loops.append(asyncio.get_running_loop())
        begun.set_result(server.sockets[0].getsockname()[1])
        await ended.wait()
        server.close()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    try:
        yield RunningModel(f"http://127.0.0.1:{begun.result(30)}/v1", mock.calls)
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join(30)
