"""The settings of a runtime, which hooks, endpoints and exchanges read, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import attrs

from .access import Authorize, IdentifyUser
from .agents.disclosure import ErrorMessage
from .agents.protocols import Agent, AgentsFunction
from .hooks import Hooks
from .http.cors import CorsPolicy
from .http.forwarding import ForwardHeaders
from .http.long_answers import LongAnswers
from .limits import Limits
from .metrics import Metrics
from .runs.audience import Audiences
from .runs.lost_reports import LostRuns
from .runs.parameters import Title
from .runs.quotas import Quotas
from .stores.debug_feed import DebugFeeds
from .stores.protocol import ThreadStore
from .transcription import TranscriptionService

LifeFunction: TypeAlias = Callable[[], object]
"""A plain or async function that is called around serving."""
Mode: TypeAlias = Literal["multi-route", "single-route", "both"]


# The class is not attrs.frozen, because a subclass of the runtime may have attributes of its own.
@attrs.define(eq=False, kw_only=True, slots=False, on_setattr=attrs.setters.frozen)
class RuntimeConfig:
    """The settings of a :class:`~sansio_copilot.CopilotRuntime`, checked, with defaults filled in.

    Most are described there. These differ from the arguments of the same name, or have no argument:

    :param base_path: the form that :func:`~sansio_copilot.http.paths.normalize_base_path` gives it.
    :param cors: the policy; None sends no CORS header.
    :param audiences: the readers of each live run, if abandoned runs are to be stopped.
    :param debug_feeds: the logs that ``/cpk-debug-events`` streams, if the runtime has them.
    :param quotas: the quotas of users, if the limits have any.
    :param lost: the reports of runs whose processes died, which the application has to be told.
    :param long_answers: the long answers that are being sent.
    :param exposed: whether other machines reach the runtime, as far as a binding knows.
    :ivar probe_paths: the normalized paths of the probes.
    """

    agents: Mapping[str, Agent] | AgentsFunction
    base_path: str | None
    mode: Mode
    cors: CorsPolicy | None
    hooks: Hooks
    store: ThreadStore
    transcription: TranscriptionService | None
    forward_headers: ForwardHeaders
    limits: Limits
    stop_when_abandoned: float | None
    audiences: Audiences | None
    thread_mutations: bool
    raw_events: bool
    error_message: ErrorMessage | None
    a2ui: bool | tuple[str, ...]
    open_generative_ui: bool
    debug_feeds: DebugFeeds | None
    identify_user: IdentifyUser | None
    authorize: Authorize | None
    shared_threads: bool | None
    quotas: Quotas | None
    on_start: LifeFunction | None
    on_close: LifeFunction | None
    title: Title | None
    liveness_path: str | None
    readiness_path: str | None
    metrics_path: str | None
    metrics: Metrics | None
    lost: LostRuns
    long_answers: LongAnswers
    exposed: bool = False
    probe_paths: frozenset[str | None] = attrs.field(init=False)

    @probe_paths.default
    def _paths_of_probes(self) -> frozenset[str | None]:
        return frozenset((self.liveness_path, self.readiness_path, self.metrics_path))
