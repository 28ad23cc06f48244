"""The end of orphans: runs whose owners have died are ended in their owners' place.

The call that finds an orphan ends it: that of the next run of its thread, of a stop, or of a
reader. An orphan in a thread that nobody visits is found by a sweep, which a binding begins from
time to time.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from ..calls import Call
from ..config import RuntimeConfig
from ..errors import StoreAnswerLost, StoreUnavailable
from ..stores import calls
from ..stores.calls import perform
from ..stores.protocol import Orphan
from .lost_reports import DIED, report_of_lost
from .recorder import RunRecorder
from .report import RunOutcome

logger = logging.getLogger(__name__)

# A sweep holds at most this many orphans at once, because each comes with all frames that its owner
# has appended.
_AT_ONCE = 16


def adopt(config: RuntimeConfig, orphan: Orphan, now: float) -> Generator[Call, Any, None]:
    """End a run in its log in the place of its owner, which has died.

    If this call has ended the run, and not that of another process, it adds the run's report to
    those of lost runs.
    """
    recorder = RunRecorder.adopt(orphan, config.limits)
    outcome: RunOutcome = "lost"
    if recorder.terminal:
        # The agent of this run has ended by itself, and only the close of the log is missing.
        outcome = "failed" if recorder.has_failed else "finished"
    frames, result = recorder.finish(
        now, is_stopped=orphan.stop_requested, error=None if orphan.stop_requested else DIED
    )
    closing = calls.close_run(config.store, orphan.key, len(orphan.frames), frames, result)
    try:
        ended = closing.checked((yield closing))
    except StoreAnswerLost:
        # The application is told of the end, because one of the two calls has ended the run, and
        # this process has made both.
        yield closing
        ended = True
    key = orphan.key
    if ended is False:
        logger.debug("run %r of thread %r was ended by another process", key.run_id, key.thread_id)
    else:
        logger.info(
            "run %r of thread %r, whose owner has died, was ended here: %s",
            *(key.run_id, key.thread_id, outcome),
        )
        config.lost.add(report_of_lost(orphan, recorder, outcome, now))
    recorder.close()


def sweep(config: RuntimeConfig, now: float) -> Generator[Call, Any, int]:
    """End all orphans of the store, and tell the application of them.

    The application is also told of the orphans that requests have ended since the last sweep.

    :returns: the number of orphans that were ended. An orphan that cannot be ended is logged, and
        left to the next sweep.
    :raises StoreUnavailable: if the store is unavailable; the next sweep ends the orphans that are
        left.
    """
    yield from config.lost.tell()
    ended = 0
    while True:
        found = yield from perform(calls.orphans(config.store, _AT_ONCE))
        before = ended
        for orphan in found:
            try:
                yield from adopt(config, orphan, now)
            except StoreUnavailable:
                # The sweep ends here, because the store would fail for the other orphans as well.
                raise
            except Exception:
                logger.exception("an orphan could not be ended: %s", orphan.key)
            else:
                ended += 1
                yield from config.lost.tell()
        if len(found) < _AT_ONCE or ended == before:
            return ended
