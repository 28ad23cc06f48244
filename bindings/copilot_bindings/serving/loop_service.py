"""The service inside the server of another project: it lives on the event loop that runs now.

The other server gives it no task or nursery. So the service begins a task of its own, which must
not be the task of the first request, because it lives longer.
"""

from __future__ import annotations

import asyncio
import contextvars

from sansio_copilot import CopilotRuntime, Run

from .async_library import running_library
from .backend import Flag
from .service import Service
from .shutdown import serve_until_closed


class LoopService(Service):
    """The runs of one event loop, and the task that ends them.

    The task begins with the first run, or with the shutdown if there has been no run.
    """

    def __init__(self, runtime: CopilotRuntime, loop: object, grace_seconds: float) -> None:
        self.loop = loop
        backend, self._start = running_library()
        super().__init__(runtime, backend, grace_seconds)
        self._keeper: object = None
        self._kept: Flag | None = None

    @property
    def is_dropped(self) -> bool:
        """Whether the loop was closed without a shutdown, as test clients do."""
        return isinstance(self.loop, asyncio.AbstractEventLoop) and self.loop.is_closed()

    async def open(self) -> None:
        """Open the store and start.

        :raises NotStarted: if that fails.
        """
        await self.life.open()
        self._keep()

    def start_run(self, run: Run) -> bool:
        self._keep()
        return super().start_run(run)

    def end(self, grace_seconds: float | None) -> None:
        """Begin the shutdown; if it has begun already, end the grace period."""
        again, self.closing = self.closing, True
        self._keep()
        self.begin_close(0 if again else grace_seconds)

    async def finish(self, grace_seconds: float | None) -> None:
        """Begin the shutdown, and wait until it is done."""
        self.closing = True
        self._keep()
        self.begin_close(grace_seconds)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        assert self._kept is not None
        await self._kept.wait()

    def _keep(self) -> None:
        if self._kept is None:
            self._kept = self.backend.flag()
            # The task is kept here, because a loop holds no strong reference to it. It has an empty
            # context, because it outlives the request that happens to begin it.
            self._keeper = contextvars.Context().run(self._start, self._live, self._kept)

    async def _live(self, kept: Flag) -> None:
        try:
            await serve_until_closed(self, lambda: None)
        except GeneratorExit:
            # The loop was dropped, and every task that waits was dropped with it.
            raise
        except BaseException:
            kept.set()
            raise
        kept.set()
