"""From a request to the reply: routing, hooks, CORS, and the endpoint, in one order.

The order is that of the reference runtime, for both modes::

    CORS preflight -> on_request -> identify_user (401) -> routing (404), method check (405)
        -> body -> on_before_handler -> endpoint (authorize) -> on_run_start -> on_response
        -> CORS headers

Who asks is found out as early as can be: a hook may have put the request right, and nobody who is
not known is told which paths there are, or is waited for with a body. A preflight comes without
credentials, so that nobody can be asked of it.

Each step either goes on or raises a response: the core raises
:class:`~sansio_copilot.http.refusals.Refusal`, a hook :class:`~sansio_copilot.Reject`, and both
pass ``on_response`` as a reply does. Any other exception goes to ``on_error``, and becomes a 500
that says nothing of the cause, or a 503 if the store stays unavailable. Whatever comes out gets
CORS headers, because a browser shows a page no response without them, not even a failure.

In front of all that stand the two probes (:mod:`~sansio_copilot.endpoints.probes`), which have
neither a user nor an origin.

The request changes on its way: a hook may replace it, an envelope stands for another one, its body
arrives. :class:`Pipeline` holds the request as it is now; who sends it stays what ``identify_user``
has said, whatever takes its place. Nothing of it is needed any more once the reply is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

import attrs

from ..access import IdentifyUser, checked_user
from ..calls import Call
from ..config import RuntimeConfig
from ..endpoints import DISPATCH, JsonBody, LogStream, Reply, Turn, check_values
from ..endpoints.probes import is_probe, probe
from ..errors import (
    BodyRefused,
    BodyTimeout,
    BodyTooLarge,
    RunRefused,
    StoreUnavailable,
    shorten,
    text_of,
)
from ..hooks import HookContext, Reject, RequestHook, ResponseHook, RunStartHook
from ..http.cors import CorsPolicy
from ..http.envelope import (
    ENVELOPE_CODE,
    ENVELOPE_MESSAGE,
    GRAPHQL_CODE,
    GRAPHQL_MESSAGE,
    detect_envelope,
    detect_graphql,
    may_be_envelope,
    parse_envelope,
    require_body,
    resolve_envelope,
)
from ..http.messages import Request, Response
from ..http.paths import at_base_path, normalize_path, under_base_path
from ..http.refusals import (
    INTERNAL_ERROR,
    NOT_FOUND,
    STORE_UNAVAILABLE,
    TOO_MANY_BODIES,
    TOO_SLOW,
    UNAUTHORIZED,
    Refusal,
    coded,
    method_not_allowed,
    overloaded,
    too_large,
)
from ..http.routing import Route, allowed_methods, match_path
from ..runs.report import RunStart
from ..users import User
from .actions import Action, ClientGone, ExchangeSteps, ReadBody, StartRun
from .outages import patient
from .stream import discard

logger = logging.getLogger(__name__)

T = TypeVar("T")
Hook: TypeAlias = RequestHook | ResponseHook

# The body of a request to these endpoints names the thread.
_WITH_THREAD_IN_BODY = frozenset({"agent/run", "agent/connect", "agent/suggest"})


class Pipeline:
    """A request on its way to its reply.

    :param runtime: the settings.
    :param request: the request, without its body unless that has been read already.
    :param now: seconds since the epoch.
    :param where: says for a log line which part of the application raised an exception.
    :param closing: whether the server is shutting down.
    """

    __slots__ = (
        *("_closing", "_now", "_parsed", "_route", "_runtime", "_user", "_where", "path"),
        "request",
    )

    def __init__(
        self,
        runtime: RuntimeConfig,
        request: Request,
        now: float,
        where: Callable[[Exception], str],
        closing: bool = False,
    ) -> None:
        self._runtime = runtime
        # The path is as a browser would have sent it, so that ".." talks past no hook or route.
        self.path = normalize_path(request.path)
        if request.path != self.path:
            request = attrs.evolve(request, path=self.path)
        self.request = request
        self._route: Route | None = None
        self._user: User | None = None
        # The parsed body is kept until the endpoint has made sense of it.
        self._parsed: JsonBody | None = None
        self._now = now
        self._where = where
        self._closing = closing

    def reply(self, reader: object) -> Generator[Action, Any, Reply]:
        """The steps that lead to the reply; a run that belongs to it has been started.

        :param reader: an object that stands for the client in the audience of a run.
        :raises ClientGone: if the client goes; a run that was opened for it has been closed.
        """
        if is_probe(self._runtime, self.path):
            steps = probe(self._runtime, self.request, self.path, self._closing)
            return Reply((yield from steps))
        cors, origin = self._runtime.cors, None
        if cors is not None:
            origin = self.request.headers.get("origin")
            if (preflight := self._preflight(cors)) is not None:
                return Reply(preflight)
        stream: LogStream | None = None
        try:
            try:
                reply = yield from self._handle()
                if (starting := self._runtime.hooks.on_run_start) is not None:
                    yield from self._on_run_start(starting, reply.stream)
            except (Reject, Refusal) as refused:
                reply = Reply(refused.response)
            response, stream = reply.response, reply.stream
            if (hook := self._runtime.hooks.on_response) is not None:
                response = yield from self._on_response(hook, response)
            if stream is not None:
                if not response.stream:
                    # A hook put another response in the stream's place.
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
            yield from discard(stream)
            response, stream = overloaded(str(refused_run)), None
        except Exception as error:
            where = self._where(error)
            yield from discard(stream)
            response, stream = (yield from self._on_error(error, where)), None
        if cors is not None:
            response = self._with_cors(cors, response, origin)
        return Reply(response, stream)

    @property
    def route_name(self) -> str:
        """The name of the route, for metrics; "none" if nothing matched."""
        return "none" if self._route is None else self._route.name

    # -- CORS ------------------------------------------------------------------------------

    def _preflight(self, policy: CorsPolicy) -> Response | None:
        try:
            return policy.preflight(self.request)
        except Exception as error:
            logger.error("the CORS policy failed", exc_info=error)
            return policy.lock_out(INTERNAL_ERROR, preflight=True)

    def _with_cors(self, policy: CorsPolicy, response: Response, origin: str | None) -> Response:
        try:
            return policy.apply(response, origin)
        except Exception as error:
            logger.error("the CORS policy failed", exc_info=error)
            return policy.lock_out(response)

    # -- who asks --------------------------------------------------------------------------

    def _identify(self, identify_user: IdentifyUser) -> ExchangeSteps:
        call = Call(identify_user, (self.request,), name="the function identify_user")
        user = self._user = checked_user((yield call))
        if user is None:
            raise Refusal(UNAUTHORIZED)
        self.request = attrs.evolve(self.request, user=user)

    # -- routing ---------------------------------------------------------------------------

    def _handle(self) -> Generator[Action, Any, Reply]:
        if (hook := self._runtime.hooks.on_request) is not None:
            yield from self._on_request("on_request", hook)
        self.path = self.request.path
        if self._runtime.identify_user is not None:
            yield from self._identify(self._runtime.identify_user)
        if self._runtime.mode == "single-route":
            return (yield from self._handle_envelope())
        route = self._route = match_path(self.path, self._runtime.base_path)
        if route is None:
            if self._runtime.mode == "both" and self._may_take_envelope():
                return (yield from self._handle_envelope())
            yield from self._refuse_unrouted()
        assert route is not None
        self._check_method(route)
        if self.request.method in ("POST", "PATCH"):
            yield from self._read_body()
        self._find_thread(route)
        if (hook := self._runtime.hooks.on_before_handler) is not None:
            yield from self._on_request("on_before_handler", hook)
        return (yield from self._endpoint())

    def _may_take_envelope(self) -> bool:
        """Whether an unrouted request, in mode "both", is at the place of envelopes."""
        base_path = self._runtime.base_path
        if base_path is None:
            # Any path may be the place, so that only what can be an envelope is at it.
            return may_be_envelope(self.request)
        return at_base_path(self.path, base_path)

    def _handle_envelope(self) -> Generator[Action, Any, Reply]:
        if not under_base_path(self.path, self._runtime.base_path):
            yield from self._refuse_unrouted()
        if self.request.method != "POST":
            logger.warning(
                "%s %s: the runtime takes only POST there, of envelopes (mode %r)",
                shorten(self.request.method),
                shorten(self.path),
                self._runtime.mode,
            )
            raise Refusal(method_not_allowed(("POST",)))
        yield from self._read_body()
        check_values(self.request.body or b"", self._runtime.limits.body_values)
        envelope = parse_envelope(self.request)
        resolved = resolve_envelope(envelope, self.request)
        if resolved is None:
            raise Refusal(NOT_FOUND)
        route, inner = resolved
        self.request = inner.in_place_of(self.request, self._user)
        self._route, self.path = route, self.request.path
        if envelope.method == "resource/request":
            self._check_method(route)
        if isinstance(envelope.body, (dict, list)) and self.request.body:
            self._parsed = JsonBody(self.request.body, envelope.body)
        self._find_thread(route)
        if (hook := self._runtime.hooks.on_before_handler) is not None:
            yield from self._on_request("on_before_handler", hook)
        require_body(envelope, self.request)
        return (yield from self._endpoint())

    def _find_thread(self, route: Route) -> None:
        """Make the route name the thread where the body does, because hooks decide by it."""
        body = self.request.body
        if body is not None and route.name in _WITH_THREAD_IN_BODY:
            if self._parsed is None:
                self._parsed = JsonBody.parse(body, self._runtime.limits.body_values)
            route = Route(route.name, route.agent_id, self._parsed.thread_id, route.memory_id)
        self._route = route

    def _endpoint(self) -> Generator[Action, Any, Reply]:
        """The steps of the route's endpoint, which wait for a store that is unavailable."""
        assert self._route is not None
        turn = Turn(self._runtime, self.request, self._route, self._now, self._parsed, self._user)
        self._parsed = None
        return patient(DISPATCH[self._route.name](turn), self._runtime.limits)

    def _check_method(self, route: Route) -> None:
        if route.name.startswith("memories/"):
            # Memories belong to the hosted platform; a self-hosted runtime does not have them at
            # all.
            raise Refusal(NOT_FOUND)
        allowed = allowed_methods(route.name)
        if self.request.method not in allowed:
            raise Refusal(method_not_allowed(allowed))

    def _refuse_unrouted(self) -> ExchangeSteps:
        request, base_path = self.request, self._runtime.base_path
        hint, body = "", {"error": "Not found"}
        if may_be_envelope(request):
            yield from self._read_body()
            request = self.request
            check_values(request.body or b"", self._runtime.limits.body_values)
        if detect_graphql(request):
            hint = "; it is GraphQL, of a client that is too old"
            body |= {"code": GRAPHQL_CODE, "message": GRAPHQL_MESSAGE}
        elif at_base_path(self.path, base_path) and detect_envelope(request) is not None:
            hint = "; it is an envelope, which a runtime made with mode='both' takes"
            body |= {"code": ENVELOPE_CODE, "message": ENVELOPE_MESSAGE}
        method, path = shorten(self.request.method), shorten(self.path)
        logger.warning("no route for %s %s; the base path is %r%s", method, path, base_path, hint)
        raise Refusal(Response.json(body, 404))

    def _read_body(self) -> ExchangeSteps:
        if self.request.body is not None:
            return
        coding = self.request.headers.get("content-encoding", "identity")
        if coding.strip().lower() not in ("", "identity"):
            raise Refusal(coded(coding))
        limit = self._runtime.limits.body_bytes
        try:
            body = yield ReadBody(limit)
        except BodyTooLarge:
            raise Refusal(too_large(f"The request body is longer than {limit} bytes")) from None
        except BodyTimeout:
            raise Refusal(TOO_SLOW) from None
        except BodyRefused:
            raise Refusal(TOO_MANY_BODIES) from None
        self.request = self.request.with_body(body)

    # -- hooks -----------------------------------------------------------------------------

    def _ask(
        self, name: str, hook: Hook, expected: type[T], **known: Any
    ) -> Generator[Action, Any, T | None]:
        """Call a hook.

        :param name: its name in :class:`~sansio_copilot.Hooks`.
        :param expected: the type that it may return besides None.
        :param known: the attributes of its context besides the request and the route.
        :returns: the request or response that replaces the present one; None to keep that.
        :raises TypeError: if it returned something else.
        """
        context = HookContext(
            self.request, self.path, self._runtime, self._route, user=self._user, **known
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
            self.request = replacement.in_place_of(self.request, self._user)

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
            if (hook := self._runtime.hooks.on_error) is not None:
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
