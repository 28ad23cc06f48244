"""One request and its response: the state machine that a binding drives.

The binding makes an exchange for each request, calls :meth:`Exchange.start`, performs the action
it gets, reports the outcome with :meth:`Exchange.done` or :meth:`Exchange.failed`, performs the
next, until :class:`~sansio_copilot.actions.Finish` or :class:`~sansio_copilot.actions.Abandon`.
Whether a hook, an agent or a store is plain or async is the binding's business alone; the
sequence of actions is the same.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

import attrs

from .. import sse
from ..calls import Call
from ..config import RuntimeConfig
from ..endpoints import DISPATCH, JsonBody, LogStream, Refusal, Reply, Turn, adopt, check_values
from ..errors import BodyRefused, BodyTimeout, BodyTooLarge, LocalProtocolError, RunRefused, shorten
from ..hooks import HookContext, Reject
from ..http.envelope import (
    ENVELOPE_CODE,
    ENVELOPE_MESSAGE,
    GRAPHQL_CODE,
    GRAPHQL_MESSAGE,
    InvalidRequest,
    detect_envelope,
    detect_graphql,
    may_be_envelope,
    parse_envelope,
    require_body,
    resolve_envelope,
)
from ..http.messages import Headers, Request, Response
from ..http.paths import at_base_path, normalize_path, under_base_path
from ..http.refusals import TOO_MANY_BODIES, TOO_SLOW, coded, overloaded
from ..http.routing import Route, allowed_methods, match_path
from ..stores.calls import StoreCall
from ..stores.protocol import Batch, LogGone, check_outcome
from .actions import Abandon, Action, Finish, ReadBody, SendBytes, SendHead, StartRun, WaitForFrames

logger = logging.getLogger(__name__)

T = TypeVar("T")
Steps: TypeAlias = Generator[Action, Any, Any]


class ExchangeState(enum.Enum):
    """Where an exchange is: which outcome it waits for."""

    # Enum's own is Python code, and a state is looked up for every action.
    __hash__ = object.__hash__

    IDLE = "idle"
    CALLING = "calling"
    READING_BODY = "reading body"
    STORING = "storing"
    STARTING_RUN = "starting run"
    SENDING_HEAD = "sending head"
    READING_LOG = "reading log"
    SENDING_BYTES = "sending bytes"
    WAITING_FOR_FRAMES = "waiting for frames"
    FINISHED = "finished"
    ABANDONED = "abandoned"


_S = ExchangeState
_ANSWERING: dict[type[Action], ExchangeState] = {
    Call: _S.CALLING,
    ReadBody: _S.READING_BODY,
    StoreCall: _S.STORING,
    StartRun: _S.STARTING_RUN,
    SendHead: _S.SENDING_HEAD,
    Abandon: _S.ABANDONED,
}
_STREAMING: dict[type[Action], ExchangeState] = {
    StoreCall: _S.READING_LOG,
    SendBytes: _S.SENDING_BYTES,
    WaitForFrames: _S.WAITING_FOR_FRAMES,
    Finish: _S.FINISHED,
    Abandon: _S.ABANDONED,
}


def _only(
    actions: dict[type[Action], ExchangeState], *kinds: type[Action]
) -> dict[type[Action], ExchangeState]:
    return {kind: actions[kind] for kind in kinds}


TRANSITIONS: dict[ExchangeState, dict[type[Action], ExchangeState]] = {
    # Of a request whose body has been read before anything may be the first.
    _S.IDLE: _only(_ANSWERING, Call, ReadBody, StoreCall, StartRun, SendHead),
    _S.CALLING: _ANSWERING,
    _S.READING_BODY: _only(_ANSWERING, Call, StoreCall, StartRun, SendHead, Abandon),
    _S.STORING: _only(_ANSWERING, Call, StoreCall, StartRun, SendHead, Abandon),
    _S.STARTING_RUN: _only(_ANSWERING, StoreCall, SendHead),
    _S.SENDING_HEAD: _only(_STREAMING, StoreCall, SendBytes, Finish, Abandon),
    _S.READING_LOG: _STREAMING,
    _S.SENDING_BYTES: _only(_STREAMING, StoreCall, WaitForFrames, Finish, Abandon),
    _S.WAITING_FOR_FRAMES: _only(_STREAMING, StoreCall, SendBytes, Abandon),
    _S.FINISHED: {},
    _S.ABANDONED: {},
}
"""In each state, the actions that the exchange may ask for next, and the state each leads to."""

# RFC 9110 sections 15.3.5 and 15.4.5.
_WITHOUT_CONTENT = frozenset({204, 304})
# The thread that they are for is named in their body.
_WITH_THREAD_IN_BODY = frozenset({"agent/run", "agent/connect", "agent/suggest"})
_OVER = frozenset({_S.FINISHED, _S.ABANDONED})
_WITHOUT_OUTCOME = _OVER | {_S.IDLE}
# These are seen through when the client goes: what they began must be ended.
_UNINTERRUPTED = frozenset({_S.STORING, _S.READING_LOG, _S.STARTING_RUN})


class ClientGone(BaseException):
    """Thrown into the exchange's own steps when nobody will read the response any more.

    Not an Exception: what answers for errors on the way must not take it for one.
    """


class Exchange:
    """One request being answered. Made by :meth:`CopilotRuntime.exchange`.

    :param request: the request, without its body unless that has been read already.
    :param now: seconds since the epoch.
    """

    __slots__ = (
        *("_action", "_culprit", "_gone", "_now", "_parsed", "_path", "_request", "_route"),
        *("_runtime", "_steps", "state"),
    )

    state: ExchangeState

    def __init__(self, runtime: RuntimeConfig, request: Request, now: float) -> None:
        self.state = _S.IDLE
        self._runtime = runtime
        # As a browser would have sent it, so that no hook or route can be talked past with "..".
        self._path = normalize_path(request.path)
        if request.path != self._path:
            request = attrs.evolve(request, path=self._path)
        self._request = request
        self._route: Route | None = None
        # What the body says, until the endpoint has made sense of it.
        self._parsed: JsonBody | None = None
        self._now = now
        self._gone = False
        self._action: Action | None = None
        self._culprit: tuple[Exception | None, str] = (None, "")
        self._steps = self._run()

    def start(self) -> Action:
        """Begin; returns the first action.

        :raises LocalProtocolError: if the exchange was started before.
        """
        if self.state is not _S.IDLE:
            raise self._not_allowed("start")
        return self._advance(next(self._steps))

    def done(self, outcome: Any = None) -> Action:
        """The action succeeded with ``outcome``; returns the next.

        :raises LocalProtocolError: if no outcome is awaited.
        """
        if self.state in _WITHOUT_OUTCOME:
            raise self._not_allowed("done")
        return self._advance(self._steps.send(outcome))

    def failed(self, error: Exception) -> Action:
        """The action raised ``error``; returns the next action. The exchange deals with it.

        :raises LocalProtocolError: if no outcome is awaited.
        """
        if self.state in _WITHOUT_OUTCOME:
            raise self._not_allowed("failed")
        if isinstance(self._action, Call):
            self._culprit = (error, self._action.name)
        elif isinstance(self._action, WaitForFrames):
            self._culprit = (error, "store method watch")
        return self._advance(self._steps.throw(error))

    def client_gone(self) -> Action | None:
        """The client has closed the connection, so the action in progress may be given up.

        :returns: the next action; None to see the action through and report its outcome as usual.
        :raises LocalProtocolError: if the exchange has not started, or is over.
        """
        if self.state in _WITHOUT_OUTCOME:
            raise self._not_allowed("client_gone")
        self._gone = True
        if self.state in _UNINTERRUPTED:
            return None
        return self._advance(self._steps.throw(ClientGone()))

    def _not_allowed(self, call: str) -> LocalProtocolError:
        return LocalProtocolError(f"{call} is not allowed in state {self.state.name}")

    def _advance(self, action: Action) -> Action:
        while True:
            following = TRANSITIONS[self.state].get(type(action))
            if following is None:
                raise AssertionError(f"{action} cannot follow {self.state.name}")
            self.state = following
            self._action = action
            if following in _OVER:
                # Left suspended, the steps and this exchange would keep each other, and with them
                # all of the run's log, until the garbage collector comes by.
                self._steps.close()
                self._culprit = (None, "")
                return action
            if not self._gone or isinstance(action, StoreCall):
                return action
            action = self._steps.throw(ClientGone())

    # The steps, in order

    def _run(self) -> Steps:
        stream: LogStream | None = None
        complete = True
        # Of the request on the wire: a hook or an envelope may put one with another method there.
        is_head = self._request.method == "HEAD"
        try:
            response, stream = yield from self._answer()
            # A stream may last for hours, and nobody looks at the body any more.
            self._request = self._request.with_body(None)
            headers = response.headers.remove("content-length")
            has_content = response.status not in _WITHOUT_CONTENT
            if has_content and stream is None:
                headers = headers.set("content-length", str(len(response.body)))
            yield SendHead(response.status, headers.raw)
            if has_content and not is_head:
                if stream is not None:
                    complete = yield from self._follow(stream)
                elif response.body:
                    yield SendBytes(response.body)
        except ClientGone:
            yield from self._stop_ephemeral(stream)
            yield Abandon()
        except Exception as error:
            # The head has been sent: what is left is to not pretend that the body is complete.
            logger.error("the response broke off%s", self._at(error), exc_info=error)
            yield from self._stop_ephemeral(stream)
            yield Abandon()
        else:
            yield Finish() if complete and not self._gone else Abandon()
        finally:
            if stream is not None and stream.audience is not None:
                stream.audience.leave(self)

    def _answer(self) -> Generator[Action, Any, tuple[Response, LogStream | None]]:
        origin = self._request.headers.get("origin")
        if (preflight := self._preflight()) is not None:
            return preflight, None
        stream: LogStream | None = None
        try:
            try:
                reply = yield from self._handle()
            except (Reject, Refusal) as refused:
                reply = Reply(refused.response)
            stream = reply.stream
            response = yield from self._on_response(reply.response)
            if stream is not None:
                if not response.stream:
                    # A hook put another response in the stream's place.
                    yield from self._discard(stream)
                    stream = None
                else:
                    if stream.audience is not None:
                        stream.audience.join(self)
                    if stream.run is not None:
                        yield StartRun(stream.run)
        except ClientGone:
            yield from self._discard(stream)
            raise
        except RunRefused as refused_run:
            yield from self._discard(stream)
            stream = None
            response = overloaded(str(refused_run))
        except Exception as error:
            at = self._at(error)
            yield from self._discard(stream)
            stream = None
            response = yield from self._on_error(error, at)
        return self._with_cors(response, origin), stream

    def _preflight(self) -> Response | None:
        policy = self._runtime.cors
        try:
            return None if policy is None else policy.preflight(self._request)
        except Exception as error:
            logger.error("the CORS policy failed", exc_info=error)
            assert policy is not None
            return policy.lock_out(_internal_error(), preflight=True)

    def _with_cors(self, response: Response, origin: str | None) -> Response:
        policy = self._runtime.cors
        try:
            return response if policy is None else policy.apply(response, origin)
        except Exception as error:
            logger.error("the CORS policy failed", exc_info=error)
            assert policy is not None
            return policy.lock_out(response)

    def _handle(self) -> Generator[Action, Any, Reply]:
        yield from self._on_request("on_request")
        self._path = self._request.path
        if self._runtime.mode == "single-route":
            return (yield from self._handle_envelope())
        route = self._route = match_path(self._path, self._runtime.base_path)
        if route is None:
            if self._runtime.mode == "both" and self._may_take_envelope():
                return (yield from self._handle_envelope())
            yield from self._refuse_unrouted()
        assert route is not None
        self._check_method(route)
        if self._request.method in ("POST", "PATCH"):
            yield from self._read_body()
        self._find_thread(route)
        yield from self._on_request("on_before_handler")
        return (yield from self._dispatch())

    def _may_take_envelope(self) -> bool:
        """Whether an unrouted request, in mode "both", is at the place of envelopes."""
        base_path = self._runtime.base_path
        if base_path is None:
            # Any path may be the place, so that only what can be an envelope is at it.
            return may_be_envelope(self._request)
        return at_base_path(self._path, base_path)

    def _handle_envelope(self) -> Generator[Action, Any, Reply]:
        if not under_base_path(self._path, self._runtime.base_path):
            yield from self._refuse_unrouted()
        if self._request.method != "POST":
            logger.warning(
                "%s %s: the runtime takes only POST there, of envelopes (mode %r)",
                shorten(self._request.method),
                shorten(self._path),
                self._runtime.mode,
            )
            raise Refusal(_method_not_allowed(("POST",)))
        yield from self._read_body()
        check_values(self._request.body or b"", self._runtime.limits.body_values)
        try:
            envelope = parse_envelope(self._request)
            resolved = resolve_envelope(envelope, self._request)
            if resolved is None:
                raise Refusal(_not_found())
            route, self._request = resolved
            self._route, self._path = route, self._request.path
            if envelope.method == "resource/request":
                self._check_method(route)
            if isinstance(envelope.body, (dict, list)) and self._request.body:
                self._parsed = JsonBody(self._request.body, envelope.body)
            self._find_thread(route)
            yield from self._on_request("on_before_handler")
            require_body(envelope, self._request)
        except InvalidRequest as error:
            body = {"error": "invalid_request", "message": error.message}
            raise Refusal(Response.json(body, error.status)) from None
        return (yield from self._dispatch())

    def _find_thread(self, route: Route) -> None:
        """Make the route name the thread, where the body does; hooks decide by it."""
        body = self._request.body
        if body is not None and route.name in _WITH_THREAD_IN_BODY:
            if self._parsed is None:
                self._parsed = JsonBody.parse(body, self._runtime.limits.body_values)
            route = Route(route.name, route.agent_id, self._parsed.thread_id, route.memory_id)
        self._route = route

    def _dispatch(self) -> Generator[Action, Any, Reply]:
        """The steps of the route's endpoint."""
        assert self._route is not None
        turn = Turn(self._runtime, self._request, self._route, self._now, self._parsed)
        # A stream may last for hours, and needs none of it.
        self._parsed = None
        return DISPATCH[self._route.name](turn)

    def _check_method(self, route: Route) -> None:
        if route.name.startswith("memories/"):
            # The hosted platform's; a self-hosted runtime does not have the resource at all.
            raise Refusal(_not_found())
        allowed = allowed_methods(route.name)
        if self._request.method not in allowed:
            raise Refusal(_method_not_allowed(allowed))

    def _refuse_unrouted(self) -> Steps:
        request, base_path = self._request, self._runtime.base_path
        hint = ""
        body = {"error": "Not found"}
        if may_be_envelope(request):
            yield from self._read_body()
            request = self._request
            check_values(request.body or b"", self._runtime.limits.body_values)
        if detect_graphql(request):
            hint = "; it is GraphQL, of a client that is too old"
            body |= {"code": GRAPHQL_CODE, "message": GRAPHQL_MESSAGE}
        elif at_base_path(self._path, base_path) and detect_envelope(request) is not None:
            hint = "; it is an envelope, which a runtime made with mode='both' takes"
            body |= {"code": ENVELOPE_CODE, "message": ENVELOPE_MESSAGE}
        method, path = shorten(request.method), shorten(self._path)
        logger.warning("no route for %s %s; the base path is %r%s", method, path, base_path, hint)
        raise Refusal(Response.json(body, 404))

    def _read_body(self) -> Steps:
        if self._request.body is not None:
            return
        coding = self._request.headers.get("content-encoding", "identity")
        if coding.strip().lower() not in ("", "identity"):
            raise Refusal(coded(coding))
        limit = self._runtime.limits.body_bytes
        try:
            body = yield ReadBody(limit)
        except BodyTooLarge:
            message = f"The request body is longer than {limit} bytes"
            raise Refusal(
                Response.json({"error": "Payload too large", "message": message}, 413)
            ) from None
        except BodyTimeout:
            raise Refusal(TOO_SLOW) from None
        except BodyRefused:
            raise Refusal(TOO_MANY_BODIES) from None
        self._request = self._request.with_body(body)

    # Hooks

    def _context(self, **known: Any) -> HookContext:
        return HookContext(self._request, self._path, self._runtime, self._route, **known)

    def _ask(self, name: str, expected: type[T], **known: Any) -> Generator[Action, Any, T | None]:
        """Call the hook of that name, if there is one; what it wants instead of what there is.

        :raises TypeError: if it returned something else than that, or None.
        """
        hook = getattr(self._runtime.hooks, name)
        if hook is None:
            return None
        wanted = yield Call(hook, (self._context(**known),), name=f"hook {name}")
        if wanted is None or isinstance(wanted, expected):
            return wanted
        answered = isinstance(wanted, Response)
        raise TypeError(
            f"hook {name} ({getattr(hook, '__name__', repr(hook))}) returned "
            f"{type(wanted).__name__}, expected {expected.__name__} or None"
            + ("; to answer at once, raise Reject(response)" if answered else "")
        )

    def _on_request(self, name: str) -> Steps:
        replacement = yield from self._ask(name, Request)
        if replacement is not None:
            self._request = replacement

    def _on_response(self, response: Response) -> Generator[Action, Any, Response]:
        try:
            replacement = yield from self._ask("on_response", Response, response=response)
        except Reject as rejection:
            return rejection.response
        return replacement or response

    def _on_error(self, error: Exception, at: str) -> Generator[Action, Any, Response]:
        try:
            response = yield from self._ask("on_error", Response, error=error)
            if response is not None:
                return response
        except Reject as rejection:
            return rejection.response
        except Exception as hook_error:
            logger.error("the on_error hook failed", exc_info=hook_error)
        method, path = shorten(self._request.method), shorten(self._path)
        logger.error("%s %s failed%s", method, path, at, exc_info=error)
        return _internal_error()

    def _at(self, error: Exception) -> str:
        """Which of the application's parts raised ``error``, for a log line."""
        culprit, name = self._culprit
        return f" in {name}" if culprit is error and name else ""

    # Streams

    def _discard(self, stream: LogStream | None) -> Steps:
        """Undo the opening of a run that is not going to start."""
        if stream is not None and stream.run is not None:
            yield from _clean_up(stream.call("close_run", stream.run.key, b"", None))

    def _stop_ephemeral(self, stream: LogStream | None) -> Steps:
        if stream is not None and stream.ephemeral and stream.run is not None:
            yield from _clean_up(stream.call("request_stop", stream.run.key.thread_id, None))

    def _follow(self, stream: LogStream) -> Generator[Action, Any, bool]:
        """Send the log until it ends, with a comment whenever it is silent for long.

        :returns: whether all of it was sent; False if the rest is gone.
        """
        cursor, limits = stream.cursor, self._runtime.limits
        if stream.preface:
            yield SendBytes(stream.preface)
        while True:
            batch = yield stream.call("read", cursor, limits.read_bytes)
            if type(batch) is not Batch:
                batch = check_outcome("read", batch)
                if isinstance(batch, LogGone):
                    logger.warning(
                        "%s %s was broken off: what was to be sent has been evicted or deleted",
                        self._request.method,
                        self._path,
                    )
                    return False
            cursor, size = batch.cursor, len(batch.data)
            if size:
                yield SendBytes(batch.data)
            if batch.ended:
                return True
            if batch.orphan is not None:
                runtime = self._runtime
                yield from adopt(runtime.store, runtime.limits, batch.orphan, self._now)
            elif size < limits.read_bytes:
                # An idle stream keeps nothing of what it has sent.
                del batch
                wait = WaitForFrames(stream.store, cursor, limits.heartbeat_seconds)
                if not (yield wait):
                    yield SendBytes(sse.HEARTBEAT)


def _clean_up(action: StoreCall) -> Steps:
    """Perform what must not hide why it is needed if it fails itself, twice if it does."""
    for _ in range(2):
        try:
            yield action
        except Exception as error:
            what = action.args[0]
            logger.error("%s failed to clean up: %s", action.name, what, exc_info=error)
        else:
            return


def _internal_error() -> Response:
    return Response.json({"error": "internal_error"}, 500)


def _not_found() -> Response:
    return Response.json({"error": "Not found"}, 404)


def _method_not_allowed(allowed: tuple[str, ...]) -> Response:
    headers = Headers((("allow", ", ".join(allowed)),))
    return Response.json({"error": "Method not allowed"}, 405, headers)
