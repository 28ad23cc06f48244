"""From a request to the reply: routing, hooks, CORS, and the endpoint, in one order.

The order is that of the reference runtime, for both modes::

    CORS preflight -> on_request -> identify_user (401) -> routing (404), method check (405)
        -> body -> on_before_handler -> endpoint (authorize) -> on_run_start -> on_response
        -> CORS headers

The user is identified as early as possible, behind ``on_request`` because this hook may correct the
request. So an unknown user does not learn which paths exist, and no body of such a user is read. A
preflight has no credentials, so that no user can be identified for it.

Each step either goes on or raises a response: the core raises
:class:`~sansio_copilot.http.refusals.Refusal`, a hook :class:`~sansio_copilot.Reject`, and both
pass ``on_response`` as a reply does. Any other exception goes to ``on_error``, and becomes a 500
that says nothing of the cause, or a 503 if the store stays unavailable. Every response gets CORS
headers, because a browser shows a page no response without them, not even a failure.

Requests for probes (:mod:`~sansio_copilot.endpoints.probes`) are answered before all these steps,
because they have neither a user nor an origin.

The request changes on its way: a hook may replace it, an envelope stands for another one, its body
arrives. :class:`Pipeline` holds the request as it is now. Its user stays the one that
``identify_user`` has returned, even if the request is replaced. The pipeline is not needed any more
once the reply is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

import attrs
from msgspec import Struct

from ..access import IdentifyUser, checked_user
from ..calls import Call
from ..config import RuntimeConfig
from ..endpoints import DISPATCH, Content, EndpointInput, JsonBody, LogStream, Reply, check_values
from ..endpoints.probes import probe
from ..errors import RunRefused, StoreUnavailable, shorten, text_of
from ..hooks import HookContext, Reject, RequestHook, ResponseHook, RunStartHook
from ..http.cors import answer_preflight, with_cors
from ..http.envelope import (
    ENVELOPE_CODE,
    ENVELOPE_MESSAGE,
    GRAPHQL_CODE,
    GRAPHQL_MESSAGE,
    Envelope,
    detect_envelope,
    detect_graphql,
    may_be_envelope,
    parse_envelope,
    require_body,
    resolve_envelope,
)
from ..http.long_answers import LONG
from ..http.messages import Request, Response
from ..http.paths import at_base_path, normalize_path, under_base_path
from ..http.refusals import (
    INTERNAL_ERROR,
    NOT_FOUND,
    STORE_UNAVAILABLE,
    UNAUTHORIZED,
    Refusal,
    coded,
    method_not_allowed,
    overloaded,
)
from ..http.routing import METHODS, WITH_BODY, Route, match_path
from ..runs.report import RunStart
from ..stores.calls import StoreCall
from ..users import User
from .actions import Action, ClientGone, ExchangeSteps, ReadBody, StartRun
from .retries import Retries, ask_again
from .stream import discard

logger = logging.getLogger(__name__)

T = TypeVar("T")
Hook: TypeAlias = RequestHook | ResponseHook
Steps: TypeAlias = Generator[Action, Any, Any]

# Memories are left out, because they belong to the hosted platform: a self-hosted runtime does not
# have them at all.
_SERVED = {name: methods for name, methods in METHODS.items() if not name.startswith("memories/")}
# The body of a request to these endpoints names the thread.
_WITH_THREAD_IN_BODY = frozenset({"agent/run", "agent/connect", "agent/suggest"})


class Pipeline(Struct, eq=False):
    """A request on its way to its reply.

    :param runtime: the settings.
    :param request: the request, without its body unless that has been read already.
    :param now: seconds since the epoch.
    :param where: says for a log line which part of the application raised an exception.
    :param closing: whether the server is shutting down.
    :ivar parsed: the parsed body, until the endpoint is given it.
    :ivar is_asking: whether the endpoint's steps go on; their store calls are made again if the
        store is unavailable.
    :ivar retries: the time that they wait for the store, from the first call that has failed.
    :ivar suspended: the steps while such a call is made again (:func:`.retries.ask_again`).
    """

    runtime: RuntimeConfig
    request: Request
    now: float
    where: Callable[[Exception], str]
    closing: bool = False
    path: str = ""
    route: Route | None = None
    user: User | None = None
    parsed: JsonBody | None = None
    is_asking: bool = False
    retries: Retries | None = None
    suspended: Steps | None = None

    def reply(self, reader: object) -> Generator[Action, Any, Reply]:
        """The steps that lead to the reply; a run that belongs to it has been started.

        :param reader: an object that stands for the client in the audience of a run, and among
            those who are sent long answers.
        :raises ClientGone: if the client goes; a run that was opened for it has been closed.
        """
        # This is one function, because a generator inside of it would be resumed for each outcome,
        # and because whatever fails on the way has to pass the same end.
        runtime = self.runtime
        # The path is as a browser would have sent it, so that ".." gets past no hook or route.
        self.path = normalize_path(self.request.path)
        if self.request.path != self.path:
            self.request = attrs.evolve(self.request, path=self.path)
        if self.path in runtime.probe_paths:
            steps = probe(runtime, self.request, self.path, self.closing)
            return Reply((yield from steps))
        cors, origin = runtime.cors, None
        if cors is not None:
            origin = self.request.headers.get("origin")
            if (preflight := answer_preflight(cors, self.request)) is not None:
                return Reply(preflight)
        stream: LogStream | None = None
        content: Content | None = None
        try:
            try:
                if (hook := runtime.hooks.on_request) is not None:
                    yield from self._on_request("on_request", hook)
                self.path = self.request.path
                if runtime.identify_user is not None:
                    yield from self._identify(runtime.identify_user)
                envelope: Envelope | None = None
                if runtime.mode != "single-route":
                    self.route = match_path(self.path, runtime.base_path)
                if self.route is None:
                    envelope = yield from self._open_envelope()
                else:
                    if self.request.method not in _SERVED.get(self.route.name, ()):
                        raise self._not_served(self.route)
                    if self.request.method in WITH_BODY and self.request.body is None:
                        self.request = self.request.with_body((yield self._wanted_body()))
                route = self._find_thread()
                if (hook := runtime.hooks.on_before_handler) is not None:
                    yield from self._on_request("on_before_handler", hook)
                if envelope is not None:
                    require_body(envelope, self.request)
                if logger.isEnabledFor(logging.DEBUG):
                    self._log("taken as %s", route.name)
                given = EndpointInput(
                    runtime, self.request, route, self.now, self.parsed, self.user
                )
                self.parsed, self.is_asking = None, True
                reply = yield from DISPATCH[route.name](given)
                self.is_asking = False
                if (starting := runtime.hooks.on_run_start) is not None:
                    yield from self._on_run_start(starting, reply.stream)
            except (Reject, Refusal) as refused:
                by = "a hook" if isinstance(refused, Reject) else "the runtime"
                self._log("refused with %d by %s", refused.response.status, by)
                reply = Reply(refused.response)
            response, stream = reply.response, reply.stream
            if (ending := runtime.hooks.on_response) is not None:
                response = yield from self._on_response(ending, response)
            if response.stream:
                content = reply.content
            if stream is not None:
                if not response.stream:
                    # The stream is given up, because a hook has put another response in its place.
                    yield from discard(stream)
                    stream = None
                else:
                    if stream.audience is not None:
                        stream.audience.join(reader)
                    if stream.run is not None:
                        yield StartRun(stream.run)
        except ClientGone:
            yield from discard(stream)
            raise
        except RunRefused as refused_run:
            self._log("refused a run: %s", refused_run)
            yield from discard(stream)
            response, stream = overloaded(str(refused_run)), None
        except Exception as error:
            where = self.where(error)
            yield from discard(stream)
            response, stream = (yield from self._on_error(error, where)), None
        if stream is None:
            text, own = (response.body, 0) if content is None else (content.text, content.own)
            if len(text) > LONG and not runtime.long_answers.admit(reader, text, own):
                response, content = overloaded("The server is sending too many long answers"), None
        if cors is not None:
            response = with_cors(cors, response, origin)
        return Reply(response, stream, content)

    def _log(self, what: str, *more: object) -> None:
        """Write a line about the way of the request, at DEBUG."""
        logger.debug("%s %s: " + what, shorten(self.request.method), shorten(self.path), *more)

    def ask_again(
        self, steps: Steps, call: StoreCall[Any], error: StoreUnavailable
    ) -> Steps | None:
        """The steps that make a call of the endpoint again, after it has raised ``error``.

        :param steps: the steps that have asked for the call, and wait for its outcome.
        :returns: None if the call is not the endpoint's, or is being made again already.
        """
        if not self.is_asking or self.suspended is not None:
            return None
        limits = self.runtime.limits
        self.retries = self.retries or Retries(limits.unavailable_seconds, limits)
        self.suspended = steps
        return ask_again(call, error, self.retries)

    @property
    def route_name(self) -> str:
        """The name of the route, for metrics; "none" if nothing matched."""
        return "none" if self.route is None else self.route.name

    # -- the user who asks -----------------------------------------------------------------

    def _identify(self, identify_user: IdentifyUser) -> ExchangeSteps:
        call = Call(identify_user, (self.request,), name="the function identify_user")
        user = self.user = checked_user((yield call))
        if user is None:
            raise Refusal(UNAUTHORIZED)
        self.request = attrs.evolve(self.request, user=user)

    # -- routing ---------------------------------------------------------------------------

    def _may_take_envelope(self) -> bool:
        """Whether an unrouted request is at the place of envelopes, if there is one."""
        base_path = self.runtime.base_path
        if self.runtime.mode != "both":
            return self.runtime.mode == "single-route" and under_base_path(self.path, base_path)
        if base_path is None:
            # The body decides, because any path may be the place of envelopes.
            return may_be_envelope(self.request)
        return at_base_path(self.path, base_path)

    def _open_envelope(self) -> Generator[Action, Any, Envelope]:
        """Put the request in the place of the envelope that it came in."""
        if not self._may_take_envelope():
            yield from self._refuse_unrouted()
        if self.request.method != "POST":
            logger.warning(
                "%s %s: the runtime takes only POST there, of envelopes (mode %r)",
                shorten(self.request.method),
                shorten(self.path),
                self.runtime.mode,
            )
            raise Refusal(method_not_allowed(("POST",)))
        self.request = yield from self._read_body()
        check_values(self.request.body or b"", self.runtime.limits.body_values)
        envelope = parse_envelope(self.request)
        resolved = resolve_envelope(envelope, self.request)
        if resolved is None:
            raise Refusal(NOT_FOUND)
        route, inner = resolved
        self.request = inner.in_place_of(self.request, self.user)
        self.route, self.path = route, self.request.path
        is_resource = envelope.method == "resource/request"
        if is_resource and self.request.method not in _SERVED.get(route.name, ()):
            raise self._not_served(route)
        if isinstance(envelope.body, (dict, list)) and self.request.body:
            self.parsed = JsonBody(self.request.body, envelope.body)
        return envelope

    def _find_thread(self) -> Route:
        """Make the route name the thread where the body does, because hooks decide by it."""
        route, body = self.route, self.request.body
        assert route is not None
        if body is not None and route.name in _WITH_THREAD_IN_BODY:
            if self.parsed is None:
                self.parsed = JsonBody.parse(body, self.runtime.limits.body_values)
            content = self.parsed.content
            thread_id = content.get("threadId") if isinstance(content, dict) else None
            named = thread_id if isinstance(thread_id, str) else None
            route = self.route = Route(route.name, route.agent_id, named, route.memory_id)
        return route

    def _not_served(self, route: Route) -> Refusal:
        methods = _SERVED.get(route.name)
        return Refusal(NOT_FOUND if methods is None else method_not_allowed(methods))

    def _refuse_unrouted(self) -> ExchangeSteps:
        request, base_path = self.request, self.runtime.base_path
        hint, body = "", {"error": "Not found"}
        if may_be_envelope(request):
            request = self.request = yield from self._read_body()
            check_values(request.body or b"", self.runtime.limits.body_values)
        if detect_graphql(request):
            hint = "; it is GraphQL, of a client that is too old"
            body |= {"code": GRAPHQL_CODE, "message": GRAPHQL_MESSAGE}
        elif at_base_path(self.path, base_path) and detect_envelope(request) is not None:
            hint = "; it is an envelope, which a runtime made with mode='both' takes"
            body |= {"code": ENVELOPE_CODE, "message": ENVELOPE_MESSAGE}
        method, path = shorten(self.request.method), shorten(self.path)
        logger.warning("no route for %s %s; the base path is %r%s", method, path, base_path, hint)
        raise Refusal(Response.json(body, 404))

    def _read_body(self) -> Generator[Action, Any, Request]:
        if self.request.body is not None:
            return self.request
        return self.request.with_body((yield self._wanted_body()))

    def _wanted_body(self) -> ReadBody:
        coding = self.request.headers.get("content-encoding", "identity")
        if coding.strip().lower() not in ("", "identity"):
            raise Refusal(coded(coding))
        return ReadBody(self.runtime.limits.body_bytes)

    # -- hooks -----------------------------------------------------------------------------

    def _ask(
        self, name: str, hook: Hook, expected: type[T], **known: Any
    ) -> Generator[Action, Any, T | None]:
        """Call a hook.

        :param name: its name in :class:`~sansio_copilot.Hooks`.
        :param expected: the type that it may return besides None.
        :param known: the attributes of its context besides the request and the route.
        :returns: the request or response that replaces the present one; None to keep the present
            one.
        :raises TypeError: if it returned something else.
        """
        context = HookContext(
            self.request, self.path, self.runtime, self.route, user=self.user, **known
        )
        wanted = yield Call(hook, (context,), name=f"hook {name}")
        if wanted is None or isinstance(wanted, expected):
            return wanted
        is_response = isinstance(wanted, Response)
        raise TypeError(
            f"hook {name} ({getattr(hook, '__name__', repr(hook))}) returned "
            f"{type(wanted).__name__}, expected {expected.__name__} or None"
            + ("; to answer at once, raise Reject(response)" if is_response else "")
        )

    def _on_request(self, name: str, hook: Hook) -> ExchangeSteps:
        replacement = yield from self._ask(name, hook, Request)
        if replacement is not None:
            self.request = replacement.in_place_of(self.request, self.user)

    def _on_run_start(self, hook: RunStartHook, stream: LogStream | None) -> ExchangeSteps:
        """Tell the hook of the run that ``stream`` is to start, if it is to start one."""
        if stream is None or (run := stream.run) is None:
            return
        start = RunStart(run.input, run.context, stream.ephemeral)
        try:
            yield Call(hook, (start,), name="hook on_run_start")
        except BaseException:
            yield from discard(stream)
            raise

    def _on_response(self, hook: Hook, response: Response) -> Generator[Action, Any, Response]:
        try:
            replacement = yield from self._ask("on_response", hook, Response, response=response)
        except Reject as rejection:
            return rejection.response
        return replacement or response

    def _on_error(self, error: Exception, where: str) -> Generator[Action, Any, Response]:
        try:
            if (hook := self.runtime.hooks.on_error) is not None:
                response = yield from self._ask("on_error", hook, Response, error=error)
                if response is not None:
                    return response
        except Reject as rejection:
            return rejection.response
        except Exception as hook_error:
            logger.error("the on_error hook failed", exc_info=hook_error)
        method, path = shorten(self.request.method), shorten(self.path)
        if isinstance(error, StoreUnavailable):
            logger.error("%s %s is answered 503%s: %s", method, path, where, text_of(error))
            return STORE_UNAVAILABLE
        logger.error("%s %s failed%s", method, path, where, exc_info=error)
        return INTERNAL_ERROR
