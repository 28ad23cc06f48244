"""Ending a run whose event loop was dropped with its tasks, as by a test client or loop.close().

Nothing can be awaited any more. So the run is ended by plain calls, in a thread of its own.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import time
from concurrent.futures import Future

from sansio_copilot import Run
from sansio_copilot.actions import Pause, RunOver, StoreCall

from .failures import contained
from .store_watches import StoreLock

logger = logging.getLogger(__name__)

_LAST_SECONDS = 10.0
"""The seconds that a store may take to end such a run."""


def end_without_loop(run: Run, lock: StoreLock) -> None:
    """End ``run`` as far as that needs no loop."""
    # The run ends in a thread of its own, because Python may collect its home at any moment, while
    # the interrupted code holds a lock. The error is suppressed, because the interpreter starts no
    # thread at its own end.
    with contextlib.suppress(RuntimeError):
        _thread.start_new_thread(_end, (run, lock))


def _end(run: Run, lock: StoreLock) -> None:
    action = run.interrupt(time.time(), "The server has gone")
    while isinstance(action, StoreCall | Pause):
        if isinstance(action, Pause):
            # The sleep blocks only this thread, which has nothing else to do.
            time.sleep(action.seconds)
            action = run.resume(time.time())
            continue
        try:
            with contextlib.nullcontext() if action.blocking else lock.held:
                outcome = contained(action.function, *action.args)
        except Exception as error:
            action = run.store_failed(error, time.time())
            continue
        if isinstance(outcome, Future):
            try:
                outcome = outcome.result(_LAST_SECONDS)
            except Exception as error:
                action = run.store_failed(error, time.time())
                continue
        if hasattr(outcome, "__await__"):
            # The awaitable cannot be awaited any more; the run's lease runs out instead.
            if (close := getattr(outcome, "close", None)) is not None:
                close()
            return
        action = run.stored(outcome, time.time())
    if isinstance(action, RunOver) and (call := action.call) is not None:
        try:
            outcome = contained(call.function, *call.args)
        except Exception:
            logger.exception("%s failed", call.name)
        else:
            # The awaitable is closed, because nobody can await it.
            if (close := getattr(outcome, "close", None)) is not None:
                close()
