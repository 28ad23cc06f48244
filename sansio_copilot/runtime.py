"""CopilotRuntime: agents, policies and limits in one place; makes exchanges."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Generator, Mapping
from typing import Any

from .access import Authorize, IdentifyUser, check_access
from .agents.checks import check_given_agents
from .agents.disclosure import ErrorMessage, check_error_message
from .agents.protocols import Agent, AgentsFunction
from .calls import Call
from .config import LifeFunction, Mode, RuntimeConfig
from .exchange.machine import Exchange
from .functions import check_function
from .hooks import Hooks
from .http.cors import CorsPolicy, answer_preflight, policy_from, with_cors
from .http.forwarding import ForwardHeaders
from .http.long_answers import LongAnswers
from .http.messages import Request, Response
from .http.paths import normalize_base_path, normalize_path
from .limits import Limits, check_positive
from .metrics import Metrics, counted
from .runs.audience import Audiences
from .runs.lost_reports import LostRuns
from .runs.orphans import sweep
from .runs.parameters import Title
from .runs.quotas import Quotas
from .stores.debug_feed import DebugFeeds
from .stores.memory import MemoryStore
from .stores.protocol import ThreadStore, check_store
from .transcription import TranscriptionService

logger = logging.getLogger(__name__)

_EXPOSED = (
    "the runtime is served to other machines, and knows no users: whoever reaches it may run every "
    "agent, and read and stop each thread whose id they know. Pass "
    "CopilotRuntime(identify_user=...), so that threads belong to users; see docs/users.md%s"
)


class CopilotRuntime(RuntimeConfig):
    """A CopilotKit runtime: what a binding serves, and a test drives.

    Immutable once made, apart from its store, so one may be served by several bindings at once.

    :param agents: a mapping from id to agent, or a function of the :class:`Request`, plain or
        async, that returns one (for agents per tenant). See :data:`sansio_copilot.agents.Agent`.
    :param base_path: the path at which the runtime is mounted. None matches routes by their last
        segments under any prefix, for an application that mounts it at a path that it does not
        know.
    :param mode: "multi-route" has a path for each operation; "single-route" takes them all as
        envelopes, POSTed to ``base_path``; "both" takes routes and, at ``base_path`` itself,
        envelopes, for pages of several generations, because those before 1.69 send envelopes unless
        told not to.
    :param cors: True lets any origin in, without credentials; False sends no CORS header; or a
        :class:`CorsPolicy`.
    :param hooks: the application's functions around each request.
    :param store: the store that has the threads; a :class:`MemoryStore` of the runtime's own by
        default.
    :param transcription: a service that turns recordings into text, for the client's voice input;
        None for no service. See :data:`sansio_copilot.transcription.TranscriptionService`.
    :param forward_headers: the choice of the request headers that an agent gets.
    :param limits: see :class:`Limits`.
    :param stop_when_abandoned: seconds after which a run is stopped that nobody follows any more,
        because its starter has gone, and no connect reads it. None lets it go on to its end.
        Readers are counted in the process that owns the run, so that with several processes over
        one store a reader elsewhere does not count.
    :param thread_mutations: whether clients may rename, archive and delete threads. They may not by
        default, because without users only a hook of yours can know who owns a thread.
    :param raw_events: whether RAW events and ``rawEvent`` members are passed on and kept. They are
        dropped by default, because an agent's framework puts prompts and other private data into
        them, often many times the size of the rest.
    :param error_message: a plain function of an agent's id and an exception, or the RUN_ERROR event
        (a dict) that the agent yielded; it returns the text that clients are told instead of the
        error's own, or None to leave that. A transcription service's exception comes with None for
        the id. If the function fails, clients are told a fixed text. The server's log has all of
        it.
    :param a2ui: whether agents send ``a2ui-surface`` activities of their own, or the ids of the
        agents that do. /info says so, because otherwise the front end does not render them.
    :param open_generative_ui: whether agents send ``open-generative-ui`` activities of their own.
    :param debug: whether ``/cpk-debug-events`` streams every event of every run of a user; or, if
        there are no users, of every run, to anybody who asks. For development.
    :param identify_user: a function of the :class:`Request`, plain or async, that returns the
        :class:`User` who sends it, or None, who is answered 401. Every thread belongs to the user
        who has opened it then, and does not exist for others. None for an application without
        users, where everybody shares all threads.
    :param authorize: a function of a user, an action and the id of a thread, plain or async, that
        lets the user do that with a thread of another user; see :mod:`sansio_copilot.access`.
    :param shared_threads: whether, without ``identify_user``, anybody may list and clear all
        threads. By default only on a server that no other machine reaches, as far as its binding
        knows.
    :param on_start: a plain or async function without arguments, which each server calls before it
        serves, once its store is open: each event loop of an application, and each process. It has
        :attr:`Limits.service_seconds`. If it fails, nothing is served.
    :param on_close: the same for a server's end, when its runs have ended and before its store is
        closed. It is called whenever ``on_start`` was, even if that failed.
    :param title: a plain or async function of a :class:`.RunReport` and the thread's messages (as
        dicts of AG-UI's JSON shape) that returns a title, or None. It is asked after each run that
        has finished in a thread without a name, and has :attr:`Limits.service_seconds`. A title is
        one line of at most 120 characters, and is shortened to that.
    :param liveness_path: the path at which the runtime says that its process lives, to anybody who
        asks, and without calling a hook; None for no such path. Where the runtime is mounted in an
        application, only paths below that place reach it.
    :param readiness_path: the same for whether requests may be sent here: 503 while the store is
        unavailable, or the server is shutting down.
    :param metrics_path: the same for what this process has counted, in the text format of
        Prometheus; None counts nothing. See :mod:`sansio_copilot.metrics`.
    :raises TypeError: for agents, hooks, an ``error_message``, limits, a transcription service, one
        of the functions or one of the switches of the wrong type, or a store that lacks one of the
        methods of its protocol.
    :raises ValueError: for a path without a leading slash, an unknown ``mode``, a
        ``stop_when_abandoned`` that is not a number above 0, or an ``authorize`` without
        ``identify_user``.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent] | AgentsFunction,
        *,
        base_path: str | None = "/api/copilotkit",
        mode: Mode = "multi-route",
        cors: bool | CorsPolicy = True,
        hooks: Hooks | None = None,
        store: ThreadStore | None = None,
        transcription: TranscriptionService | None = None,
        forward_headers: ForwardHeaders | None = None,
        limits: Limits | None = None,
        stop_when_abandoned: float | None = None,
        thread_mutations: bool = False,
        raw_events: bool = False,
        error_message: ErrorMessage | None = None,
        a2ui: bool | Collection[str] = False,
        open_generative_ui: bool = False,
        debug: bool = False,
        identify_user: IdentifyUser | None = None,
        authorize: Authorize | None = None,
        shared_threads: bool | None = None,
        on_start: LifeFunction | None = None,
        on_close: LifeFunction | None = None,
        title: Title | None = None,
        liveness_path: str | None = "/healthz",
        readiness_path: str | None = "/readyz",
        metrics_path: str | None = None,
    ) -> None:
        if mode not in ("multi-route", "single-route", "both"):
            raise ValueError(f"mode is 'multi-route', 'single-route' or 'both', not {mode!r}")
        agents = check_given_agents(agents)
        _check_types(hooks=(hooks, Hooks), limits=(limits, Limits))
        _check_types(forward_headers=(forward_headers, ForwardHeaders))
        # The text "false" of an environment variable would open what is closed by default.
        _check_types(thread_mutations=(thread_mutations, bool), debug=(debug, bool))
        _check_types(raw_events=(raw_events, bool), shared_threads=(shared_threads, bool))
        _check_types(open_generative_ui=(open_generative_ui, bool))
        _check_a2ui(a2ui)
        _check_optional(store, stop_when_abandoned)
        check_function("transcription", transcription, "a function of an AudioFile")
        check_function("on_start", on_start, "a function without arguments", 0)
        check_function("on_close", on_close, "a function without arguments", 0)
        check_function("title", title, "a function of a RunReport and messages", 2)
        store = MemoryStore() if store is None else store
        check_access(identify_user, authorize, store, limits)
        metrics = None if metrics_path is None else Metrics()
        super().__init__(
            agents=agents,
            base_path=normalize_base_path(base_path),
            mode=mode,
            cors=policy_from(cors),
            hooks=hooks or Hooks(),
            store=store,
            transcription=transcription,
            forward_headers=forward_headers or ForwardHeaders(),
            limits=limits or Limits(),
            stop_when_abandoned=stop_when_abandoned,
            audiences=None if stop_when_abandoned is None else Audiences(),
            thread_mutations=thread_mutations,
            raw_events=raw_events,
            error_message=check_error_message(error_message),
            a2ui=a2ui if isinstance(a2ui, bool) else tuple(a2ui),
            open_generative_ui=open_generative_ui,
            debug_feeds=DebugFeeds() if debug else None,
            identify_user=identify_user,
            authorize=authorize,
            shared_threads=shared_threads,
            quotas=Quotas.of(limits or Limits()),
            on_start=on_start,
            on_close=on_close,
            title=title,
            liveness_path=_probed("liveness_path", liveness_path),
            readiness_path=_probed("readiness_path", readiness_path),
            metrics_path=_probed("metrics_path", metrics_path),
            metrics=metrics,
            lost=LostRuns(hooks.on_run_end if hooks else None, metrics),
            long_answers=LongAnswers((limits or Limits()).answers_bytes),
        )

    def behind_cors(self) -> CopilotRuntime:
        """The same runtime, for a place behind another CORS policy.

        The default policy is left out, because its headers would let in origins that the other one
        does not. A :class:`CorsPolicy` other than the default stays, because somebody has chosen
        it.
        """
        if self.cors != CorsPolicy():
            return self
        behind = copy.copy(self)
        # attrs freezes a runtime that has been made, but nobody else has this copy yet.
        object.__setattr__(behind, "cors", None)
        return behind

    def where_exposed(self) -> CopilotRuntime:
        """The same runtime, for a place that other machines reach; to be asked for by a binding.

        A runtime that knows no users warns of that, and lists and clears no threads, unless
        ``shared_threads`` says so.
        """
        if self.exposed:
            return self
        exposed = copy.copy(self)
        # The attribute is set past the frozen class, because the copy is not in use yet.
        object.__setattr__(exposed, "exposed", True)
        if self.identify_user is None:
            closed = "" if self.shared_threads else ". Until then no threads are listed or cleared"
            logger.warning(_EXPOSED, closed)
        return exposed

    def with_store(self, store: ThreadStore) -> CopilotRuntime:
        """The same runtime with other threads, as a command line asks for.

        :raises TypeError: for a store that lacks one of the methods of its protocol, or one of
            whose optional methods cannot be called.
        :raises ValueError: for a store whose ``lease`` is not a number above 0.
        """
        check_store(store)
        check_access(self.identify_user, self.authorize, store, self.limits)
        other = copy.copy(self)
        # The attribute is set past the frozen class, because the copy is not in use yet.
        object.__setattr__(other, "store", store)
        return other

    def sweep(self, now: float) -> Generator[Call, Any, int]:
        """The steps of ending all runs of the store that have lost their owners.

        To be done once in a lease (``store.lease``), so that a thread which nobody visits is ended
        too. Each step is a :class:`~sansio_copilot.actions.Call`, of the store or of
        ``on_run_end``; send its outcome, or throw what it raised.

        :param now: seconds since the epoch.
        """
        return counted(sweep(self, now), self.metrics)

    def tell_of_lost(self) -> Generator[Call, Any, None]:
        """The steps of telling ``on_run_end`` of the lost runs that requests have ended.

        A sweep does it, too; this is for a server's end. Each step is a
        :class:`~sansio_copilot.actions.Call`.
        """
        return self.lost.tell()

    def exchange(self, request: Request, now: float, *, closing: bool = False) -> Exchange:
        """A new exchange for ``request``.

        :param now: seconds since the epoch, because the core has no clock.
        :param closing: whether the server is shutting down, which a readiness probe is told.
        """
        return Exchange(self, request, now, closing)

    def refused(self, request: Request, response: Response) -> Response:
        """Return ``response`` as it is sent for a request for which no exchange is made.

        It has the CORS headers of any other response, because a page of another origin would
        otherwise take it for a network that is down.

        :param response: a refusal of the request. A preflight is answered by the policy.
        """
        policy = self.cors
        if policy is None or normalize_path(request.path) in self.probe_paths:
            return response
        preflight = answer_preflight(policy, request)
        return preflight or with_cors(policy, response, request.headers.get("origin"))

    def needs_start(self, request: Request) -> bool:
        """Whether ``request`` waits for the store to be open, and for ``on_start``.

        A probe of the process's life does not wait, because a server that starts late, or cannot
        start, is alive nevertheless.
        """
        return normalize_path(request.path) != self.liveness_path


def _probed(name: str, path: str | None) -> str | None:
    """Return the path of a probe in the form in which the paths of requests are compared.

    :raises ValueError: if it does not begin with a slash.
    """
    if path is None:
        return None
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError(f"{name} is a path that begins with '/', or None, not {path!r}")
    return normalize_path(path)


def _check_types(**arguments: tuple[object, type]) -> None:
    """Check that each argument is None or of the type beside it.

    :raises TypeError: if one is not.
    """
    for name, (value, kind) in arguments.items():
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} is a {kind.__name__}, not {type(value).__name__}")


def _check_a2ui(a2ui: object) -> None:
    """Check the argument ``a2ui``, because a type checker accepts more values than the runtime.

    :raises TypeError: if it is wrong.
    """
    if isinstance(a2ui, str) or not isinstance(a2ui, bool | Collection):
        raise TypeError(f"a2ui is a bool or the ids of agents, not {type(a2ui).__name__}")


def _check_optional(store: object, stop_when_abandoned: float | None) -> None:
    """Check the arguments that have checks of their own, and may be None.

    :raises TypeError: if the store lacks a method, or has one that cannot be called.
    :raises ValueError: if the seconds, or those of the store's lease, are not a number above 0.
    """
    if store is not None:
        check_store(store)
    if stop_when_abandoned is not None:
        check_positive("stop_when_abandoned", stop_when_abandoned)
