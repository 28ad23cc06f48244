"""The messages that tell an application of a run: that it starts, and how it went.

Both are arguments of hooks (:attr:`.Hooks.on_run_start`, :attr:`.Hooks.on_run_end`): for an audit
log, a bill, a metric, or a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs
from ag_ui.core import RunAgentInput

from ..agents.protocols import AgentContext
from ..users import User

RunOutcome: TypeAlias = Literal["finished", "failed", "stopped", "sealed", "lost"]
"""The way in which a run ended. "lost" is a run whose process was found dead: the process that has
ended the run in its place makes the report. "sealed" is a run whose process was thought dead and
came back: then there are two reports of the run, and that of the other process says "lost"."""


@attrs.frozen
class RunStart:
    """A run whose agent is about to be called.

    :param input: the input of the agent.
    :param context: the context of the agent: its id, the request without its body, headers.
    :param ephemeral: whether the run belongs to no thread's history, as one for suggestions.
    """

    input: RunAgentInput
    context: AgentContext
    ephemeral: bool = False

    @property
    def agent_id(self) -> str:
        """The id under which the agent is registered."""
        return self.context.agent_id

    @property
    def thread_id(self) -> str:
        """The thread."""
        return self.input.thread_id

    @property
    def user(self) -> User | None:
        """The user who has started the run; None where the application knows no users."""
        return self.context.user

    @property
    def run_id(self) -> str:
        """The client's name for the run."""
        return self.input.run_id


@attrs.frozen(kw_only=True)
class RunReport(RunStart):
    """A run that is over.

    :param outcome: see :data:`RunOutcome`.
    :param error: why the run failed, in words for its developer, which clients may not have been
        told; None if it has not failed.
    :param started_at: seconds since the epoch.
    :param seconds: the seconds from the call of the agent to the end of the run's log. The log of a
        lost run ends when another process finds the run.
    :param first_event_seconds: the seconds from the call of the agent to its first event; None if
        it has sent none.
    :param events: the number of events that it has sent.
    :param size: the bytes of these events as frames.
    :param usage: the tokens that the agent says it has used, one entry for each provider and model,
        as AG-UI's ``TokenUsage`` in JSON: ``{"model": ..., "inputTokens": ..., ...}``.
    """

    outcome: RunOutcome
    error: str | None = None
    started_at: float = 0.0
    seconds: float = 0.0
    first_event_seconds: float | None = None
    events: int = 0
    size: int = 0
    usage: tuple[Mapping[str, Any], ...] = ()
