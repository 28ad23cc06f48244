"""What is done when a run is over: the application hears of it, and may name the thread.

The run has ended in its log before that, so that neither its readers nor the next run of its thread
wait for an application's function.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any, Final

from .. import json_codec
from ..calls import Call
from ..errors import shorten
from ..metrics import Metrics
from ..stores.calls import perform, update_thread
from .parts import RunParts, Title
from .report import RunReport

logger = logging.getLogger(__name__)

_TITLE_LENGTH: Final = 120 - len("...")
"""How many characters of a longer title are kept, which is more than a list of threads shows."""


def farewell(run: RunParts) -> Generator[Call, Any, None]:
    """The steps that follow a run which is over; none if the application wants none.

    What an application's function raises is logged, and ends nothing.
    """
    if run.on_end is None and run.title is None:
        return
    report = report_of(run)
    try:
        if run.on_end is not None:
            yield Call(run.on_end, (report,), name="hook on_run_end")
    except Exception as error:
        logger.error("hook on_run_end failed after run %r", run.key.run_id, exc_info=error)
    try:
        if run.title is not None and report.outcome == "finished" and not run.ephemeral:
            yield from _name_thread(run, run.title, report)
    except Exception as error:
        logger.error("thread %r has got no title", run.key.thread_id, exc_info=error)


def count(run: RunParts, metrics: Metrics) -> None:
    """Count a run that is over."""
    report = report_of(run)
    metrics.run_ended(report.agent_id, report.outcome, report.seconds, report.first_event_seconds)
    metrics.run_said(report.agent_id, report.events, report.size, report.usage)


def report_of(run: RunParts) -> RunReport:
    """The report of a run that is over."""
    lifeline, recorder = run.lifeline, run.recorder
    first = lifeline.first_event_at
    return RunReport(
        run.input,
        run.context,
        run.ephemeral,
        outcome=lifeline.outcome,
        error=lifeline.error or recorder.failure if lifeline.outcome == "failed" else None,
        started_at=lifeline.started_at,
        seconds=lifeline.seconds,
        first_event_seconds=None if first is None else max(first - lifeline.started_at, 0.0),
        events=recorder.events,
        size=recorder.size,
        usage=tuple(recorder.usage),
    )


def _has_no_name(run: RunParts) -> Generator[Call, Any, bool]:
    """Whether the run's thread is there, and nobody has named it."""
    known = yield from perform(update_thread(run.store, run.key.thread_id, {}, run.owner))
    return known is not None and known.name is None


def _name_thread(run: RunParts, make: Title, report: RunReport) -> Generator[Call, Any, None]:
    """Ask for a title, unless the thread has a name, which a person may have given it."""
    thread_id = run.key.thread_id
    result = run.recorder.result
    if result is None or result.messages is None or not (yield from _has_no_name(run)):
        return
    messages = json_codec.decode(result.messages)
    title = yield Call(make, (report, messages), name="title function", part="service")
    if title is None:
        return
    if not isinstance(title, str):
        raise TypeError(f"title returned {type(title).__name__}, expected str or None")
    # A title is one line, whatever a model makes of the question for one.
    name = shorten(" ".join(title.split()), _TITLE_LENGTH)
    # A person may have named the thread while a title was sought, which may take minutes.
    if name and (yield from _has_no_name(run)):
        yield from perform(update_thread(run.store, thread_id, {"name": name}, run.owner))
