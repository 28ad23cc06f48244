"""The steps after the end of a run: the application hears of it, and may name the thread.

The run has ended in its log before these steps, so that an application's function delays neither
its readers nor the next run of its thread.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from ..calls import Call
from ..metrics import Metrics
from .parameters import RunParameters
from .report import RunReport
from .thread_title import name_thread

logger = logging.getLogger(__name__)


def farewell(run: RunParameters) -> Generator[Call, Any, None]:
    """The steps that follow a run which is over; none if the application wants none.

    An error of an application's function is logged, and does not end the steps.
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
            yield from name_thread(run, run.title, report)
    except Exception as error:
        logger.error("thread %r has got no title", run.key.thread_id, exc_info=error)


def count(run: RunParameters, metrics: Metrics) -> None:
    """Count a run that is over."""
    report = report_of(run)
    metrics.run_ended(report.agent_id, report.outcome, report.seconds, report.first_event_seconds)
    metrics.run_said(report.agent_id, report.events, report.size, report.usage)


def report_of(run: RunParameters) -> RunReport:
    """The report of a run that is over."""
    course, recorder = run.course, run.recorder
    first = course.first_event_at
    return RunReport(
        run.input,
        run.context,
        run.ephemeral,
        outcome=course.outcome,
        error=course.error or recorder.failure if course.outcome == "failed" else None,
        started_at=course.started_at,
        seconds=course.seconds,
        first_event_seconds=None if first is None else max(first - course.started_at, 0.0),
        events=recorder.events,
        size=recorder.size,
        usage=tuple(recorder.usage),
    )
