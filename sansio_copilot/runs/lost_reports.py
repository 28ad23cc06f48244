"""Runs whose owners died, as the application is told of them.

The process that ends such a run in its log also makes the report that the dead process has not
made. If several processes try, the one whose close has ended the run makes it. The request that
finds a lost run does not wait for the application's function: the report is kept here, and the next
sweep hands it to the application. A sweep belongs to no request, so that no client can cancel it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator
from typing import Any, Final

from ag_ui.core import RunAgentInput

from ..agents.protocols import AgentContext
from ..calls import Call
from ..http.messages import Request
from ..metrics import Metrics
from ..stores.protocol import Orphan
from ..users import User
from .parameters import RunEnd
from .recorder import RunRecorder
from .report import RunOutcome, RunReport

logger = logging.getLogger(__name__)

DIED: Final = "The server that ran the agent has died"

MOST_REPORTS: Final = 10_000
"""The most reports that are kept at once; each of them is small."""


class LostRuns:
    """The reports of lost runs that the application has not been told of yet.

    :param on_end: the function that is told of each run; see :attr:`.Hooks.on_run_end`.
    :param metrics: the metrics that count each run, if there are any.
    """

    def __init__(self, on_end: RunEnd | None, metrics: Metrics | None) -> None:
        self._on_end = on_end
        self._metrics = metrics
        # Servers in several threads may share a runtime, and a deque is safe there.
        self._reports: deque[RunReport] = deque()

    def __len__(self) -> int:
        return len(self._reports)

    def add(self, report: RunReport) -> None:
        """Keep the report of a lost run that was ended here."""
        if self._metrics is not None:
            self._metrics.run_lost(report.agent_id, report.outcome)
            self._metrics.run_said(report.agent_id, report.events, report.size, report.usage)
        if self._on_end is None:
            return
        if len(self._reports) >= MOST_REPORTS:
            logger.error("hook on_run_end is not told of lost run %r: too many", report.run_id)
            return
        self._reports.append(report)

    def tell(self) -> Generator[Call, Any, None]:
        """The steps of telling the application. Errors of its function are logged."""
        while self._reports:
            report = self._reports.popleft()
            try:
                yield Call(self._on_end or _ignore, (report,), name="hook on_run_end")
            except Exception as error:
                logger.error("hook on_run_end failed after run %r", report.run_id, exc_info=error)


def report_of_lost(
    orphan: Orphan, recorder: RunRecorder, outcome: RunOutcome, now: float
) -> RunReport:
    """The report of a run that another process than its owner has ended.

    The request and the input were lost with the owner. Only the id of the user is left.

    :param recorder: the recorder that was fed all frames of the run.
    :param now: seconds since the epoch.
    """
    key = orphan.key
    empty = RunAgentInput(
        thread_id=key.thread_id,
        run_id=key.run_id,
        state=None,
        messages=[],
        tools=[],
        context=[],
        forwarded_props=None,
    )
    user = _user(orphan.owner)
    context = AgentContext(orphan.agent_id, Request("POST", "", user=user), user=user)
    return RunReport(
        empty,
        context,
        outcome=outcome,
        error=DIED if outcome == "lost" else recorder.failure,
        started_at=orphan.opened_at,
        seconds=max(now - orphan.opened_at, 0.0) if orphan.opened_at else 0.0,
        events=recorder.events,
        size=recorder.size,
        usage=tuple(recorder.usage),
    )


def _user(owner: str | None) -> User | None:
    try:
        return None if owner is None else User(owner)
    except ValueError:
        # The owner of a thread may be an id that is no valid id of a user.
        return None


def _ignore(report: RunReport) -> None:
    """Do nothing, for an application that wants no reports."""
