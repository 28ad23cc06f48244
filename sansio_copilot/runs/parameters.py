"""The parameters of a run: what it is made of, and what a binding may set before it starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import attrs
from ag_ui.core import RunAgentInput

from ..agents.agui import AguiAgent
from ..agents.protocols import Agent, AgentContext, loop_of
from ..limits import DEFAULT_LIMITS, Limits
from ..metrics import Metrics
from ..stores.protocol import RunKey, ThreadStore
from .actions import RunOver
from .audience import Audience
from .course import Course
from .quotas import QuotaSlot
from .recorder import RunRecorder
from .report import RunReport

#: A tap is called with frames of a run when they are recorded, and with the time in seconds since
#: the epoch.
Tap: TypeAlias = Callable[[bytes, float], None]
#: This function is called with the report of a run that has ended.
RunEnd: TypeAlias = Callable[[RunReport], "Awaitable[None] | None"]
#: This function is called with the report of a run and the messages of its thread; it returns a
#: title for the thread, or None for no title.
Title: TypeAlias = Callable[[RunReport, list[dict[str, Any]]], "str | Awaitable[str | None] | None"]


@attrs.define(eq=False)
class RunParameters:
    """The parameters of a :class:`~sansio_copilot.Run`.

    A binding that sets ``batch_seconds`` has frames that come in quick succession appended
    together. An event that comes later than that after the last append is appended at once; one
    that comes sooner is held until an event comes later, or ends the run, or
    :meth:`~sansio_copilot.Run.flush` is called. So a store that does I/O is called a bounded number
    of times a second, and the readers of the run wake up as often.

    :param agent: the agent.
    :param input: its input.
    :param context: its context.
    :param store: the store that has opened the run.
    :param key: the run's name in the store.
    :param recorder: the recorder of its events.
    :param lease: seconds; None if the store needs no renewal.
    :param limits: how long an agent may be silent after its terminal event, how long the run goes
        on while the store is unavailable, and how many bytes of frames it holds meanwhile.
    :param tap: a function that is given all frames of the run as they are recorded.
    :param batch_seconds: seconds for which frames may wait for others; 0 for not at all.
    :param audience: the readers of the run, if it is to be stopped when it has none.
    :param abandon_seconds: seconds without a reader after which the binding calls
        :meth:`~sansio_copilot.Run.abandon`, counted from each call of the audience's ``on_empty``.
    :param ephemeral: whether the run belongs to no thread's history.
    :param owner: the id of the user whose thread it is.
    :param quota_slot: its slot among the runs of the user who has started it, if they are counted.
    :param on_end: a function that is told of the run's end; see :func:`.run_end.farewell`.
    :param title: a function that makes a title for a thread without a name.
    :param metrics: count the run, if there are any.
    """

    agent: Agent = attrs.field(repr=False)
    input: RunAgentInput = attrs.field(repr=False)
    context: AgentContext = attrs.field(repr=False)
    store: ThreadStore = attrs.field(repr=False)
    key: RunKey
    recorder: RunRecorder = attrs.field(repr=False)
    lease: float | None = None
    limits: Limits = attrs.field(default=DEFAULT_LIMITS, repr=False)
    tap: Tap | None = attrs.field(default=None, repr=False)
    batch_seconds: float = 0.0
    audience: Audience | None = attrs.field(default=None, repr=False)
    abandon_seconds: float | None = None
    ephemeral: bool = False
    owner: str | None = None
    quota_slot: QuotaSlot | None = None
    on_end: RunEnd | None = attrs.field(default=None, repr=False)
    title: Title | None = attrs.field(default=None, repr=False)
    metrics: Metrics | None = attrs.field(default=None, repr=False)
    course: Course = attrs.field(
        default=attrs.Factory(lambda run: Course(run.key, run.context.agent_id), takes_self=True),
        init=False,
        repr=False,
    )

    @property
    def loop(self) -> Literal["asyncio"] | None:
        """The event loop that the agent has to be run in; None for the binding's own."""
        return loop_of(self.agent)

    def disband(self) -> None:
        """Free the messages, and leave the audience and the user's quota, as the run is over."""
        self.recorder.close()
        if self.audience is not None:
            self.audience.disperse()
        if self.quota_slot is not None:
            self.quota_slot.leave(0 if self.ephemeral else self.recorder.size)

    def with_stop_call(self, fate: RunOver) -> RunOver:
        """Return ``fate``, which cancels the agent, with the function that the application wants
        to be called at a stop."""
        if isinstance(self.agent, AguiAgent):
            return RunOver("cancel", self.agent.stop_call(self.context.agent_id, self.input))
        return fate
