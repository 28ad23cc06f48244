"""One HTTP/1.1 connection without its I/O: bytes to requests, requests to exchanges.

What the bindings on sockets share. It is driven like an exchange: each call returns what to do
next, the binding does it and reports the outcome. Bytes that arrive are fed at any time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import h11

from sansio_copilot import (
    BodyRefused,
    BodyTimeout,
    BodyTooLarge,
    Exchange,
    RemoteProtocolError,
    Response,
    RunRefused,
)
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    StoreCall,
    WaitForFrames,
)
from sansio_copilot.http import refusals

from ..serving.bodies import Body
from . import messages
from .reader import RequestReader
from .wants import GONE, TIMED_OUT, Close, CloseWriting, Host, Outcome, Receive, Rest, Send, Want

logger = logging.getLogger(__name__)

_FLUSH_BYTES = 64 * 1024
_LINGER_SECONDS = 2.0
# What a client may have done before others have their turn.
_TURN_REQUESTS = 16
_TURN_PIECES = 1024

Wants: TypeAlias = Generator[Want, Any, Any]


class HTTPConnection:
    """Answers the requests of one connection, one after the other, in order.

    :param admitted: False for a connection that there is no room for; it is told so.
    """

    __slots__ = (
        *("_body", "_broken", "_exchange", "_limits", "_out", "_out_size", "_reader", "_service"),
        *("_steps", "context"),
    )

    def __init__(self, service: Host, *, admitted: bool = True) -> None:
        self._service = service
        self._limits = service.runtime.limits
        self._reader = RequestReader(int(self._limits.header_bytes))
        self._out: list[bytes] = []
        self._out_size = 0
        self._exchange: Exchange | None = None
        self._body: Body | None = None
        """What has been read of the body, while the exchange may need it."""
        self.context = service.context.copy()
        """Where to call what is wanted; each exchange has one of its own."""
        self._broken = False
        """Whether a response is incomplete, and nothing may be sent behind it."""
        self._steps = self._serve(admitted)

    # What the binding calls

    def start(self) -> Want:
        """The connection is made; returns the first want."""
        return self._resumed(self._steps.send, None)

    def done(self, outcome: Any = None) -> Want:
        """What was wanted is done; returns the next want."""
        return self._resumed(self._steps.send, outcome)

    def failed(self, error: Exception) -> Want:
        """A call raised ``error``; returns the next want."""
        return self._resumed(self._steps.throw, error)

    def feed(self, data: bytes) -> None:
        """Bytes have arrived; b"" is the end of what the client sends."""
        self._reader.feed(data)

    @property
    def full(self) -> bool:
        """Whether no more should be read from the socket until the next :class:`Receive`."""
        return self._reader.is_full

    # The steps, in order

    def _resumed(self, resume: Callable[[Any], Want], value: Any) -> Want:
        """What the steps want next; after the last one the connection is closed."""
        try:
            return resume(value)
        except StopIteration:
            return Close(abort=self._broken)

    def _serve(self, admitted: bool) -> Wants:
        served = 0
        try:
            if not admitted:
                yield from self._refuse(refusals.TOO_MANY_CONNECTIONS)
            else:
                try:
                    while (exchange := (yield from self._next_exchange())) is not None:
                        yield from self._answer(exchange)
                        if self._broken or not (yield from self._next_cycle()):
                            break
                        served += 1
                        if served % _TURN_REQUESTS == 0 and self._reader.has_begun():
                            # The flush sends what is ready first, so that it cannot pile up.
                            if (yield from self._flush()) is GONE:
                                break
                            yield Rest()
                except (h11.RemoteProtocolError, RemoteProtocolError) as error:
                    yield from self._refuse(messages.refusal(error))
                yield from self._flush()
        except Exception as error:
            logger.error("a connection failed", exc_info=error)
            self._broken = True
        finally:
            self._release_body()

    def _next_exchange(self) -> Generator[Want, Any, Exchange | None]:
        """Read the next request's head; None if there will be none."""
        reader = self._reader
        deadline = time.monotonic() + self._limits.idle_seconds
        while not reader.has_begun():
            if reader.eof or (yield from self._receive(deadline, idle=True)) is not None:
                return None
        if (request := reader.read_head()) is None:
            deadline = time.monotonic() + self._limits.header_seconds
            while request is None:
                outcome = yield from self._receive(deadline)
                if outcome is TIMED_OUT:
                    yield from self._refuse(refusals.TOO_SLOW)
                if outcome is not None:
                    return None
                request = reader.read_head()
        return self._service.runtime.exchange(request, time.time())

    def _answer(self, exchange: Exchange) -> Wants:
        """Drive an exchange to its end."""
        self._exchange = exchange
        self.context = self._service.context.copy()
        framing = self._reader.response
        is_starting = False
        action = exchange.start()
        while True:
            match action:
                case StoreCall():
                    pass  # It is answered soon, so that what is ready may wait for it.
                case SendBytes():
                    # No name for the bytes: it would keep them while the stream is idle.
                    self._out += framing.data(action.data)
                    self._out_size += len(action.data)
                    if self._out_size >= _FLUSH_BYTES and (yield from self._flush()) is GONE:
                        action = _gone(exchange)
                    else:
                        action = exchange.done()
                    continue
                case WaitForFrames() if is_starting:
                    # What the agent says at once leaves with the head.
                    is_starting = False
                    gone = (yield Rest()) is GONE
                    action = _gone(exchange) if gone else exchange.done(True)
                    continue
                case WaitForFrames() | Call():
                    # Nothing that is ready waits for what may take long. A client that closed its
                    # side only (RFC 9112 section 9.6) gets what is ready; a stream that falls
                    # silent ends, since that is also how a client that is gone looks.
                    if (yield from self._flush()) is GONE or (
                        self._reader.eof and isinstance(action, WaitForFrames)
                    ):
                        action = _gone(exchange)
                        continue
                case SendHead(status=status, headers=headers):
                    self._release_body()
                    action = _attempt(exchange, self._send_head, status, headers)
                    continue
                case Finish():
                    self._out += framing.end()
                    self._exchange = None
                    return
                case ReadBody(limit=limit):
                    action = yield from self._read_body(exchange, limit)
                    continue
                case StartRun(run=run):
                    action = _attempt(
                        exchange, self.context.current.run, self._service.start_run, run
                    )
                    is_starting = True
                    continue
                case Abandon():
                    self._broken = True
                    return
            # Here and not in a generator of its own, because each would be passed by every outcome.
            try:
                outcome = yield action
            except Exception as error:
                action = exchange.failed(error)
            else:
                action = _gone(exchange) if outcome is GONE else exchange.done(outcome)
            # An idle stream keeps nothing of what it has read.
            outcome = None

    def _read_body(self, exchange: Exchange, limit: int) -> Generator[Want, Any, Action]:
        reader = self._reader
        body = self._body = self._service.bodies.begin(limit)
        deadline = time.monotonic() + self._limits.body_seconds
        pieces = 0
        try:
            body.expect(reader.expected)
            if reader.body_left != 0 and (invitation := reader.invitation()):
                self._out.append(invitation)
            while isinstance(piece := (yield from self._body_piece(deadline, body)), bytes):
                if not piece:
                    break
                body.add(piece)
                if (pieces := pieces + 1) % _TURN_PIECES == 0:
                    yield Rest()
        except (BodyTooLarge, BodyRefused) as error:
            return exchange.failed(error)
        if piece is TIMED_OUT:
            reader.give_up()
            return exchange.failed(BodyTimeout())
        return _gone(exchange) if piece is GONE else exchange.done(body.whole())

    def _release_body(self) -> None:
        if self._body is not None:
            self._body.release()
            self._body = None

    def _body_piece(
        self, deadline: float, body: Body | None = None
    ) -> Generator[Want, Any, bytes | Outcome]:
        """The next piece of the body, b"" at its end.

        :param body: what it is going to be part of.
        :raises BodyTooLarge: if that would be too long with what is announced.
        :raises BodyRefused: if there is no room for that now.
        """
        while (piece := self._reader.read_body()) is None:
            if body is not None:
                body.expect(self._reader.expected)
            outcome: Outcome | None = yield from self._receive(deadline)
            if outcome is not None:
                return outcome
        return piece

    def _next_cycle(self) -> Generator[Want, Any, bool]:
        """The response is complete: whether another request may follow."""
        reader = self._reader
        if self._service.closing or not reader.response.may_be_followed:
            if not reader.is_done:
                yield from self._linger()
            return False
        if reader.has_body:
            # That nobody asked for.
            deadline = time.monotonic() + self._limits.body_seconds
            while piece := (yield from self._body_piece(deadline)):
                if isinstance(piece, Outcome):
                    return False
        reader.next_cycle()
        return True

    # Refusing and closing

    def _refuse(self, response: Response) -> Wants:
        """Answer what cannot be served, as far as no response has begun, and close."""
        if self._exchange is not None:
            _gone(self._exchange)
        framing = self._reader.response
        if not framing.has_begun:
            fields = response.headers.set("content-length", str(len(response.body)))
            self._out += framing.head(response.status, fields.raw, close=True)
            if not self._reader.is_head:
                self._out += framing.data(response.body)
            self._out += framing.end()
        yield from self._linger()

    def _linger(self) -> Wants:
        """Close, but not under the feet of a client that is still sending.

        Closing a socket with unread data resets the connection, and the client may lose the
        response to that (RFC 9112 section 9.6).
        """
        if (yield from self._flush()) is GONE:
            return
        self._reader.discard()
        yield CloseWriting()
        deadline = time.monotonic() + _LINGER_SECONDS
        while not self._reader.eof:
            if (yield from self._receive(deadline)) is not None:
                return

    # Bytes

    def _receive(self, deadline: float, *, idle: bool = False) -> Wants:
        self._reader.has_news = False
        if (yield from self._flush()) is GONE:
            return GONE
        if self._reader.has_news:
            # It came while the response was being sent.
            return None
        seconds = deadline - time.monotonic()
        return (yield Receive(seconds, idle)) if seconds > 0 else TIMED_OUT

    def _send_head(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        close = self._service.closing or self._reader.must_close
        self._out += self._reader.response.head(status, headers, close=close)

    def _flush(self) -> Wants:
        if not self._out:
            return None
        data = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        outcome = yield Send(data)
        if outcome is GONE:
            self._broken = True
        return outcome


def _attempt(exchange: Exchange, function: Callable[..., None], *args: Any) -> Action:
    try:
        function(*args)
    # The second two are those of a hook's header that is none.
    except (RunRefused, h11.LocalProtocolError, ValueError) as error:
        return exchange.failed(error)
    return exchange.done()


def _gone(exchange: Exchange) -> Action:
    action = exchange.client_gone()
    assert action is not None, "only a store call is seen through"
    return action
