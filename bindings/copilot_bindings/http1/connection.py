"""One HTTP/1.1 connection without its I/O: bytes become requests, and requests become exchanges.

The bindings that own their sockets (asyncio, trio, sockets) share this module.

Theory of operation
===================

:class:`HTTPConnection` models the server's side of one connection (RFC 9112 section 9). It is
driven as an exchange is: each call returns a :data:`Want`, which says what the binding has to do
next; the binding does it, and reports the outcome by ``done`` or ``failed``. Exactly one want is
pending at any time. Only ``feed`` may be called between, whenever bytes arrive.

The steps are one generator, because the order of the steps is the order of the protocol::

    refuse | (read a head -> drive the exchange -> read the rest of the body)* -> linger -> close

Generators are nested only around waits that are rare. ``_answer`` yields its actions itself,
because each generator between it and the binding would be passed by every outcome.

The rule that makes it right is: *output is collected in* ``_out``, *and is flushed before anything
that may take long.* So what is ready together leaves in one packet, and no byte that is ready waits
for a hook, a store that blocks, or a client. ``_receive``, ``WaitForFrames`` and ``Call`` flush
first; a ``StoreCall`` does not, because its answer comes soon and gives more to send.

Three more rules hold. After GONE nothing is sent; a response that is incomplete sets ``_broken``,
which has the connection closed by a reset, so that the response never looks complete. The next
request is read only behind the end of this one; a connection that ends with input left lingers,
reading and forgetting what arrives, so that closing does not destroy the response. And one client
never keeps the thread: after ``_TURN_REQUESTS`` requests or ``_TURN_PIECES`` pieces of a body the
connection wants a ``Rest``.

A reader may change the limits below, and what is flushed together, without breaking a client. The
order of the cases in ``_answer`` matters: a ``StoreCall`` is a ``Call`` too.
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
# A connection does this many requests, or pieces of a body, before other connections have a turn.
_TURN_REQUESTS = 16
_TURN_PIECES = 1024

Wants: TypeAlias = Generator[Want, Any, Any]


class HTTPConnection:
    """Answers the requests of one connection, one after the other, in order (RFC 9112 section 9.3).

    :param service: gives the runtime, the limits, the room for bodies, and homes for runs.
    :param admitted: False if there is no room for the connection. Its client is sent a refusal, and
        the connection is closed.
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
        """The request's body, from its first byte until the exchange needs it no more."""
        self.context = service.context.copy()
        """The context in which calls that are wanted are made; each exchange has its own."""
        self._broken = False
        """Whether a response is incomplete, so that nothing may be sent after it."""
        self._steps = self._serve(admitted)

    # Interface to the binding

    def start(self) -> Want:
        """Begin, once the connection is made; returns the first want."""
        return self._resumed(self._steps.send, None)

    def done(self, outcome: Any = None) -> Want:
        """Report that the last want is done.

        :param outcome: of the kind that the documentation of the want names.
        :returns: the next want.
        """
        return self._resumed(self._steps.send, outcome)

    def failed(self, error: Exception) -> Want:
        """Report that the last want raised ``error``; returns the next want."""
        return self._resumed(self._steps.throw, error)

    def feed(self, data: bytes) -> None:
        """Report bytes that have arrived; b"" says that the client has closed its side."""
        self._reader.feed(data)

    @property
    def full(self) -> bool:
        """Whether the binding should stop reading its socket until the next :class:`Receive`."""
        return self._reader.is_full

    # Steps of the connection, in their order

    def _resumed(self, resume: Callable[[Any], Want], value: Any) -> Want:
        """Run the steps to their next want; after the last step that is to close."""
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
                            # The output is flushed before the rest, so that it cannot pile up.
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
        """Read the next request's head; returns None if there will be no further request."""
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
                    pass  # The output may wait for a store's answer, because that comes soon.
                case SendBytes():
                    # The bytes get no name here, because a name would keep them in memory while
                    # the stream is idle.
                    self._out += framing.data(action.data)
                    self._out_size += len(action.data)
                    if self._out_size >= _FLUSH_BYTES and (yield from self._flush()) is GONE:
                        action = _gone(exchange)
                    else:
                        action = exchange.done()
                    continue
                case WaitForFrames() if is_starting:
                    # The agent has one turn before the flush, so that its first events leave in
                    # the same packet as the head.
                    is_starting = False
                    gone = (yield Rest()) is GONE
                    action = _gone(exchange) if gone else exchange.done(True)
                    continue
                case WaitForFrames() | Call():
                    # The output is flushed, because this action may take long. A client that has
                    # closed its side only (RFC 9112 section 9.6) gets what is ready. Its stream
                    # ends when it falls silent, because a client that has left looks the same.
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
            # The action is yielded here and not in a nested generator, because every outcome would
            # have to pass through that.
            try:
                outcome = yield action
            except Exception as error:
                action = exchange.failed(error)
            else:
                action = _gone(exchange) if outcome is GONE else exchange.done(outcome)
            # The outcome is forgotten, so that an idle stream keeps nothing of what it has read.
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
        """Read the next piece of the body; b"" at its end.

        :param deadline: when to stop waiting, in seconds of the monotonic clock.
        :param body: the body that the piece is going to be part of; None if it is thrown away.
        :raises BodyTooLarge: if the body would be too long with the bytes that are announced.
        :raises BodyRefused: if there is no room for the announced bytes now.
        """
        while (piece := self._reader.read_body()) is None:
            if body is not None:
                body.expect(self._reader.expected)
            outcome: Outcome | None = yield from self._receive(deadline)
            if outcome is not None:
                return outcome
        return piece

    def _next_cycle(self) -> Generator[Want, Any, bool]:
        """Prepare for the next request after a complete response; False if none may follow."""
        reader = self._reader
        if self._service.closing or not reader.response.may_be_followed:
            if not reader.is_done:
                yield from self._linger()
            return False
        if reader.has_body:
            # This body was not asked for by its exchange; it is read and thrown away, because the
            # next request stands behind it.
            deadline = time.monotonic() + self._limits.body_seconds
            while piece := (yield from self._body_piece(deadline)):
                if isinstance(piece, Outcome):
                    return False
        reader.next_cycle()
        return True

    # Refusals and closing

    def _refuse(self, response: Response) -> Wants:
        """Send ``response`` instead of serving, if no response has begun, and close."""
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
        """Close this side, and read on for two seconds at most before the connection is closed.

        Closing a socket that has unread data resets the connection, and then a client that is still
        sending may lose the response (RFC 9112 section 9.6).
        """
        if (yield from self._flush()) is GONE:
            return
        self._reader.discard()
        yield CloseWriting()
        deadline = time.monotonic() + _LINGER_SECONDS
        while not self._reader.eof:
            if (yield from self._receive(deadline)) is not None:
                return

    # Input and output of bytes

    def _receive(self, deadline: float, *, idle: bool = False) -> Wants:
        self._reader.has_news = False
        if (yield from self._flush()) is GONE:
            return GONE
        if self._reader.has_news:
            # Bytes have arrived while the output was being sent, so there is no need to wait.
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
    # LocalProtocolError and ValueError are raised for a header of a hook that cannot be sent.
    except (RunRefused, h11.LocalProtocolError, ValueError) as error:
        return exchange.failed(error)
    return exchange.done()


def _gone(exchange: Exchange) -> Action:
    action = exchange.client_gone()
    assert action is not None, "only a store call is seen through"
    return action
