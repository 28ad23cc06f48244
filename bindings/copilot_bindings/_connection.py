"""One HTTP/1.1 connection without its I/O: bytes to h11, its requests to exchanges.

What the bindings on sockets share. It is driven like an exchange: each call returns what to do
next, the binding does it and reports the outcome. Bytes that arrive are fed at any time.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeAlias

import h11

from sansio_copilot import (
    BodyTimeout,
    BodyTooLarge,
    Exchange,
    RemoteProtocolError,
    Response,
    RunRefused,
    refusals,
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

from . import _http11
from ._service import Service
from ._wants import GONE, TIMED_OUT, Close, CloseWriting, Receive, Rest, Send, Want

_FLUSH_BYTES = 64 * 1024
_FULL_BYTES = 64 * 1024
_LINGER_SECONDS = 2.0
_TURN_REQUESTS = 16

Wants: TypeAlias = Generator[Want, Any, Any]

# h11 has no list of its own.
_CLOSED = (h11.DONE, h11.CLOSED, h11.MUST_CLOSE)


class HTTPConnection:
    """Answers the requests of one connection, one after the other, in order.

    :param admitted: False for a connection that there is no room for; it is told so.
    """

    def __init__(self, service: Service, *, admitted: bool = True) -> None:
        self._service = service
        self._admitted = admitted
        self._limits = service.runtime.limits
        self._h11 = h11.Connection(
            h11.SERVER, max_incomplete_event_size=int(self._limits.header_bytes)
        )
        self._out: list[bytes] = []
        self._out_size = 0
        self._unread = 0
        self._begun = False
        self._eof = False
        self._discarding = False
        self._exchange: Exchange | None = None
        self._steps = self._serve()

    # What the binding calls

    def start(self) -> Want:
        """The connection is made; returns the first want."""
        return next(self._steps)

    def done(self, outcome: Any = None) -> Want:
        """What was wanted is done; returns the next want."""
        return self._steps.send(outcome)

    def failed(self, error: Exception) -> Want:
        """A call raised ``error``; returns the next want."""
        return self._steps.throw(error)

    def feed(self, data: bytes) -> None:
        """Bytes have arrived; b"" is the end of what the client sends."""
        if self._discarding or self._eof:
            self._eof = self._eof or not data
            return
        if not data:
            self._eof = True
        elif not self._begun:
            # RFC 9112 section 2.2: an empty line before a request is to be ignored.
            data = data.lstrip(b"\r\n")
            if not data:
                return
            self._begun = True
        self._unread += len(data)
        self._h11.receive_data(data)

    @property
    def full(self) -> bool:
        """Whether no more should be read from the socket until the next :class:`Receive`."""
        return self._unread > _FULL_BYTES and not self._discarding

    @property
    def eof(self) -> bool:
        """Whether the client has closed its side."""
        return self._eof

    # The steps, in order

    def _serve(self) -> Wants:
        served = 0
        if not self._admitted:
            yield from self._refuse(refusals.TOO_MANY_CONNECTIONS)
            yield Close()
        try:
            while (event := (yield from self._next_request())) is not None:
                yield from self._answer(event)
                if not (yield from self._next_cycle()):
                    break
                served += 1
                if served % _TURN_REQUESTS == 0 and self._begun:
                    yield Rest()
        except (h11.RemoteProtocolError, RemoteProtocolError) as error:
            yield from self._refuse(_http11.refusal(error))
        yield from self._flush()
        yield Close()

    def _next_request(self) -> Generator[Want, Any, h11.Request | None]:
        deadline = None
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                if _http11.head_size(event) <= self._limits.header_bytes:
                    return event
                yield from self._refuse(refusals.HEAD_TOO_LARGE)
                return None
            if isinstance(event, h11.ConnectionClosed):
                return None
            if not self._begun:
                if (yield from self._receive(self._limits.idle_seconds, idle=True)) is not None:
                    return None
                continue
            deadline = deadline or time.monotonic() + self._limits.header_seconds
            outcome = yield from self._receive(deadline - time.monotonic())
            if outcome is TIMED_OUT:
                yield from self._refuse(refusals.TOO_SLOW)
            if outcome is not None:
                return None

    def _answer(self, event: h11.Request) -> Generator[Want, Any, None]:
        """Drive an exchange to the end of its response."""
        request = _http11.request_of(event)
        announced = _http11.announced_length(event)
        exchange = self._exchange = self._service.runtime.exchange(request, time.time())
        action = exchange.start()
        while True:
            match action:
                case StoreCall():
                    action = yield from self._call(exchange, action)
                case SendBytes(data=data):
                    self._queue(h11.Data(data=data))
                    if self._out_size >= _FLUSH_BYTES and (yield from self._flush()) is GONE:
                        action = _gone(exchange)
                    else:
                        action = exchange.done()
                case WaitForFrames() | Call():
                    # Nothing that is ready waits for what may take long. A client that closed its
                    # side only (RFC 9112 section 9.6) gets what is ready; a stream that falls
                    # silent ends, since that is also how a client that is gone looks.
                    if (yield from self._flush()) is GONE or (
                        self._eof and isinstance(action, WaitForFrames)
                    ):
                        action = _gone(exchange)
                    else:
                        action = yield from self._call(exchange, action)
                case ReadBody(limit=limit):
                    action = yield from self._read_body(exchange, limit, announced)
                case StartRun(run=run):
                    try:
                        self._service.start_run(run)
                    except RunRefused as refused:
                        action = exchange.failed(refused)
                    else:
                        action = exchange.done()
                case SendHead(status=status, headers=headers):
                    close = self._service.closing or _http11.must_close(self._h11, announced)
                    try:
                        self._queue(_http11.head_of(status, headers, close=close))
                    except (h11.LocalProtocolError, ValueError) as error:
                        # A hook's header that is none.
                        action = exchange.failed(error)
                    else:
                        action = exchange.done()
                case Finish():
                    self._queue(h11.EndOfMessage())
                    self._exchange = None
                    return
                case Abandon():
                    yield Close(abort=True)

    def _call(
        self, exchange: Exchange, action: Call | WaitForFrames
    ) -> Generator[Want, Any, Action]:
        try:
            outcome = yield action
        except Exception as error:
            return exchange.failed(error)
        return _gone(exchange) if outcome is GONE else exchange.done(outcome)

    def _read_body(
        self, exchange: Exchange, limit: int, announced: int | None
    ) -> Generator[Want, Any, Action]:
        if announced is not None and announced > limit:
            return exchange.failed(BodyTooLarge())
        if announced != 0 and self._h11.they_are_waiting_for_100_continue:
            self._queue(_http11.CONTINUE)
        deadline = time.monotonic() + self._limits.body_seconds
        body = bytearray()
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > limit:
                    return exchange.failed(BodyTooLarge())
            elif isinstance(event, h11.EndOfMessage):
                return exchange.done(bytes(body))
            else:
                outcome = yield from self._receive(deadline - time.monotonic())
                if outcome is TIMED_OUT:
                    return exchange.failed(BodyTimeout())
                if outcome is GONE:
                    return _gone(exchange)

    def _next_cycle(self) -> Generator[Want, Any, bool]:
        """The response is complete: whether another request may follow."""
        if self._service.closing or self._h11.our_state is not h11.DONE:
            yield from self._linger()
            return False
        deadline = time.monotonic() + self._limits.body_seconds
        while self._h11.their_state is h11.SEND_BODY:
            # A body that nobody asked for.
            if self._h11.next_event() is h11.NEED_DATA and (
                yield from self._receive(deadline - time.monotonic())
            ):
                return False
        self._h11.start_next_cycle()
        self._begun = bool(self._h11.trailing_data[0])
        return True

    # Refusing and closing

    def _refuse(self, response: Response) -> Wants:
        """Answer what cannot be served, as far as no response has begun, and close."""
        if self._exchange is not None:
            _gone(self._exchange)
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in _http11.whole(response):
                self._queue(event)
        yield from self._linger()

    def _linger(self) -> Wants:
        """Close, but not under the feet of a client that is still sending.

        Closing a socket with unread data resets the connection, and the client may lose the
        response to that (RFC 9112 section 9.6).
        """
        if (yield from self._flush()) is GONE:
            return
        if self._h11.their_state in _CLOSED:
            return
        self._discarding = True
        yield CloseWriting()
        deadline = time.monotonic() + _LINGER_SECONDS
        while not self._eof and (left := deadline - time.monotonic()) > 0:
            if (yield Receive(left)) is not None:
                return

    # Bytes

    def _receive(self, seconds: float, *, idle: bool = False) -> Wants:
        if (yield from self._flush()) is GONE:
            return GONE
        self._unread = 0
        return (yield Receive(seconds, idle))

    def _queue(self, event: h11.Event) -> None:
        for piece in self._h11.send_with_data_passthrough(event) or ():
            self._out.append(piece)
            self._out_size += len(piece)

    def _flush(self) -> Wants:
        if not self._out:
            return None
        data = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        return (yield Send(data))


def _gone(exchange: Exchange) -> Action:
    action = exchange.client_gone()
    assert action is not None, "only a store call is seen through"
    return action
