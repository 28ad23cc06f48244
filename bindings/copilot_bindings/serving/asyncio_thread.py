"""An asyncio loop in a thread, for agents that need asyncio where the binding runs on trio.

An agent may say that it needs asyncio (``loop="asyncio"``). Under trio it then lives on the loop of
an :class:`AsyncioThread`, which a server begins when it is first needed and ends at its own end.
What is called there has the context of its exchange, as everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

from .asyncio_backend import AsyncioBackend

logger = logging.getLogger(__name__)

_END_SECONDS = 2.0


class AsyncioThread:
    """An asyncio loop in a thread of its own, which begins at once.

    The thread is a daemon, because an agent that ignores its cancellation must not keep the process
    alive.
    """

    def __init__(self) -> None:
        self.backend: AsyncioBackend
        """The backend of the loop, by which tasks are begun on it."""
        self._ended: asyncio.Event
        begun: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._live, args=(begun,), name="copilot-asyncio", daemon=True
        )
        self._thread.start()
        begun.result()
        logger.debug("an asyncio loop for agents begins in a thread")

    def end(self) -> None:
        """Cancel the tasks that are left, and end the loop. Tasks that do not end in time are left
        behind."""
        self.backend.soon(self._ended.set)
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive():
            logger.error("left behind an asyncio loop, whose tasks do not end")

    def _live(self, begun: Future[None]) -> None:
        async def main() -> None:
            self.backend = AsyncioBackend()
            self._ended = asyncio.Event()
            begun.set_result(None)
            await self._ended.wait()

        try:
            run_to_its_end(main)
        except BaseException as error:
            if begun.done():
                logger.critical("the asyncio loop of agents has ended", exc_info=error)
            else:
                begun.set_exception(error)


def for_asyncio(context: contextvars.Context) -> contextvars.Context:
    """A copy of a context of trio's for asyncio.

    The copy is needed because a context variable of ``sniffio`` says that trio runs, which code on
    the asyncio loop would believe.
    """
    # The package is installed wherever trio is, because trio depends on it.
    import sniffio

    copied = context.copy()
    copied.run(sniffio.current_async_library_cvar.set, "asyncio")
    return copied


def run_to_its_end(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``main`` on a new loop, which goes on if an agent stops it.

    :raises OSError: if there is no descriptor for a loop; ``main`` is not called then.
    """
    with _closing(asyncio.Runner()) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main())
        while not task.done():
            _run_until_done(loop, task)
        task.result()


@contextlib.contextmanager
def _closing(runner: asyncio.Runner) -> Iterator[asyncio.Runner]:
    try:
        yield runner
    finally:
        try:
            runner.close()
        except RuntimeError as error:
            # asyncio begins a thread to wait for the threads of its executor, which fails at the
            # interpreter's end since Python 3.12. The error is ignored, because Python has waited
            # for those threads already, and the loop is closed nevertheless.
            if "new thread" not in str(error):
                raise


def _run_until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    try:
        loop.run_until_complete(task)
    except BaseException as error:
        if not task.done():
            # The loop is run again, because its tasks are not lost: a callback of an agent has
            # stopped it, or has raised SystemExit.
            logger.error("an agent has stopped the event loop, which goes on: %r", error)
