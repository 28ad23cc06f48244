"""Ending runs that have lost their owners, in their place.

Whoever finds an orphan ends it: the next run of its thread, a stop, a reader. A thread that nobody
visits is found by a sweep, which a binding begins from time to time.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from ..calls import Call
from ..errors import StoreUnavailable
from ..limits import Limits
from ..stores import calls
from ..stores.calls import perform
from ..stores.protocol import Orphan, ThreadStore
from .recorder import RunRecorder

logger = logging.getLogger(__name__)

# How many orphans are held at once, because each comes with all that its owner had appended.
_AT_ONCE = 16


def adopt(
    store: ThreadStore, limits: Limits, orphan: Orphan, now: float
) -> Generator[Call, Any, None]:
    """Finalize a run whose owner died, in its place."""
    recorder = RunRecorder.adopt(orphan, limits.patch_bytes)
    frames, result = recorder.finish(
        now,
        stop_requested=orphan.stop_requested,
        error=None if orphan.stop_requested else "The server that ran the agent has died",
    )
    recorder.close()
    yield calls.close_run(store, orphan.key, len(orphan.frames), frames, result)


def sweep(store: ThreadStore, limits: Limits, now: float) -> Generator[Call, Any, int]:
    """End all runs of ``store`` that have lost their owners.

    :returns: how many were ended. One that cannot be is logged, and left to the next sweep.
    :raises StoreUnavailable: if the store is away; what is left, the next sweep ends.
    """
    ended = 0
    while True:
        found = yield from perform(calls.orphans(store, _AT_ONCE))
        before = ended
        for orphan in found:
            try:
                yield from adopt(store, limits, orphan, now)
            except StoreUnavailable:
                # The sweep ends here, because the store would fail for the other orphans as well.
                raise
            except Exception:
                logger.exception("an orphan could not be ended: %s", orphan.key)
            else:
                ended += 1
        if len(found) < _AT_ONCE or ended == before:
            return ended
