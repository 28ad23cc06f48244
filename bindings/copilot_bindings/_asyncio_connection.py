"""One client's connection under asyncio: bytes to h11, its requests to exchanges."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import h11

from sansio_copilot import BodyTooLarge, Exchange, RunRefused
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    WaitForFrames,
)

from . import _http11
from ._asyncio_call import begin, is_pending

if TYPE_CHECKING:
    from .asyncio import Server

logger = logging.getLogger("sansio_copilot")

_MAX_HEADER_BYTES = 64 * 1024
_MAX_UNREAD_BYTES = 64 * 1024
_MAX_PIPELINED = 16
"""Requests of one connection that are answered before the event loop goes on."""
_FLUSH_BYTES = 64 * 1024
_LINGER_SECONDS = 2.0


class Connection(asyncio.Protocol):
    """Answers the requests of one connection, one after the other, in order."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADER_BYTES)
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._pending: asyncio.Task[None] | None = None
        # Reading
        self._reading = False
        self._unread = 0
        self._announced: int | None = None
        self._body: bytearray | None = None
        self._body_limit = 0
        self._eof = False
        self._lingering = False
        # Writing
        self._out: list[bytes] = []
        self._out_size = 0
        self._choked = False
        self._awaits_drain = False
        self._cycle_due = False
        # Waiting for frames
        self._unwatch: Callable[[], None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it under uvloop.
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        if self._server.closing:
            # Accepted before the listener closed.
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._h11.receive_data(data)
        if self._cycle_due or (self._exchange is not None and self._body is None):
            # Pipelined, or a body that nobody has asked for yet: it may not pile up.
            self._unread += len(data)
            if self._unread > _MAX_UNREAD_BYTES:
                self._transport.pause_reading()
            return
        self._read()

    def eof_received(self) -> bool:
        if self._lingering:
            return False
        self._eof = True
        self._h11.receive_data(b"")
        if self._exchange is None or self._body is not None:
            self._read()
        if self._unwatch is not None:
            self._client_gone()
        # The client may have closed its side only (RFC 9112 section 9.6): what it asked for is
        # answered still. A stream that falls silent ends all the same, since that is also how
        # a client that is gone looks.
        return self._exchange is not None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._client_gone()
        self._server.connection_ended(self)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        # In a turn of its own: asyncio's transport does not bear being closed in this call.
        self._loop.call_soon(self._drained)

    def _drained(self) -> None:
        if self._choked:
            return
        if self._cycle_due:
            self._cycle_due = False
            self._next_cycle()
        elif self._awaits_drain and self._exchange is not None:
            self._awaits_drain = False
            self._perform(self._exchange.done())

    # What the server says

    def close_if_idle(self) -> None:
        """Close, unless a request is being received or answered."""
        if self._exchange is None and self._h11.their_state is h11.IDLE:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is being sent."""
        self._transport.abort()

    # Reading

    def _read(self) -> None:
        """Take events from h11 while they are wanted."""
        self._reading = True
        begun = 0
        try:
            while not self._transport.is_closing() and not self._lingering:
                if self._cycle_due or (self._exchange is not None and self._body is None):
                    break
                if begun == _MAX_PIPELINED:
                    # The other connections have their turn.
                    self._loop.call_soon(self._read_on)
                    break
                event = self._h11.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                begun += isinstance(event, h11.Request)
                self._received(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error)
        finally:
            self._reading = False

    def _received(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._announced = _http11.announced_length(event)
            request = _http11.request_of(event)
            self._exchange = self._server.runtime.exchange(request, time.time())
            self._perform(self._exchange.start())
        elif isinstance(event, h11.Data):
            if self._body is not None and self._exchange is not None:
                self._body += event.data
                if len(self._body) > self._body_limit:
                    self._body = None
                    self._perform(self._exchange.failed(BodyTooLarge()))
        elif isinstance(event, h11.EndOfMessage):
            if self._body is not None and self._exchange is not None:
                body, self._body = bytes(self._body), None
                self._perform(self._exchange.done(body))
            else:
                self._next_cycle()
        else:
            assert isinstance(event, h11.ConnectionClosed)
            self._transport.close()

    def _read_on(self) -> None:
        if self._transport.is_closing():
            return
        self._unread = 0
        self._transport.resume_reading()
        if not self._reading:
            self._read()

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is not HTTP/1.1 as far as the response has not begun, and close."""
        if self._exchange is not None:
            exchange, self._exchange, self._body = self._exchange, None, None
            exchange.client_gone()
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in _http11.refusal(error):
                self._send(event)
        self._flush()
        self._linger()

    # Writing

    def _send(self, event: h11.Event) -> None:
        for piece in self._h11.send_with_data_passthrough(event) or ():
            self._out.append(piece)
            self._out_size += len(piece)

    def _flush(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()
            self._out_size = 0

    def _next_cycle(self) -> None:
        """The response is complete: go on to the next request, or close."""
        if self._choked:
            # A client that does not read its responses gets no more of them.
            self._cycle_due = True
            return
        if self._server.closing or self._h11.our_state is not h11.DONE:
            self._linger()
        elif self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        if not self._transport.is_closing():
            self._read_on()

    def _linger(self) -> None:
        """Close, but not under the feet of a client that is still sending.

        Closing a socket with unread data resets the connection, and the client may lose the
        response to that (RFC 9112 section 9.6).
        """
        if self._eof or self._h11.their_state in (h11.DONE, h11.CLOSED, h11.MUST_CLOSE):
            self._transport.close()
        elif not self._lingering:
            self._lingering = True
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._transport.resume_reading()
            self._loop.call_later(_LINGER_SECONDS, self._transport.close)

    # Driving the exchange

    def _perform(self, action: Action) -> None:
        """Perform actions until one has to wait; what it waits for calls back."""
        exchange = self._exchange
        assert exchange is not None
        while True:
            match action:
                case SendBytes(data=data):
                    self._send(h11.Data(data=data))
                    if self._choked or self._out_size >= _FLUSH_BYTES:
                        self._flush()
                        if self._choked:
                            self._awaits_drain = True
                            return
                    action = exchange.done()
                case Call():
                    try:
                        outcome = begin(action)
                    except Exception as error:
                        action = exchange.failed(error)
                        continue
                    if is_pending(outcome):
                        self._flush()
                        self._pending = self._server.spawn(self._await(exchange, outcome))
                        return
                    action = exchange.done(outcome)
                case WaitForFrames():
                    self._flush()
                    try:
                        self._wait(action)
                    except Exception as error:
                        action = exchange.failed(error)
                        continue
                    return
                case ReadBody(limit=limit):
                    if self._announced is not None and self._announced > limit:
                        action = exchange.failed(BodyTooLarge())
                        continue
                    self._body, self._body_limit = bytearray(), limit
                    if self._announced != 0 and self._h11.they_are_waiting_for_100_continue:
                        self._send(_http11.CONTINUE)
                        self._flush()
                    self._read_on()
                    return
                case StartRun(run=run):
                    try:
                        self._server.start_run(run)
                    except RunRefused as refused:
                        action = exchange.failed(refused)
                    else:
                        action = exchange.done()
                case SendHead():
                    close = self._server.closing or _http11.must_close(self._h11, self._announced)
                    try:
                        self._send(_http11.response_of(action, close=close))
                    except (h11.LocalProtocolError, ValueError) as error:
                        # A hook's status or header that is none.
                        action = exchange.failed(error)
                        continue
                    action = exchange.done()
                case Finish():
                    self._exchange = None
                    self._send(h11.EndOfMessage())
                    self._flush()
                    self._next_cycle()
                    return
                case Abandon():
                    self._exchange = None
                    self._transport.abort()
                    return

    async def _await(self, exchange: Exchange, awaitable: Awaitable[Any]) -> None:
        error: Exception | None = None
        outcome = None
        try:
            outcome = await awaitable
        except asyncio.CancelledError:
            error = RuntimeError("what the exchange called was cancelled")
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
        if self._pending is not asyncio.current_task():
            # Given up meanwhile; the exchange may be waiting for something else by now.
            return
        self._pending = None
        self._perform(exchange.done(outcome) if error is None else exchange.failed(error))

    def _client_gone(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._stop_waiting()
        if (action := exchange.client_gone()) is None:
            return
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._perform(action)

    # Waiting for frames

    def _wait(self, action: WaitForFrames) -> None:
        self._deadline = self._loop.time() + action.timeout
        self._unwatch = action.store.watch(action.cursor, self._notified)
        if self._eof:
            self._client_gone()
        elif self._timer is None:
            # One timer a connection, moved on when it fires: most waits end long before.
            self._timer = self._loop.call_at(self._deadline, self._time_out)

    def _notified(self) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._wake)
        else:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._unwatch is not None and self._exchange is not None:
            self._unwatch = None
            self._perform(self._exchange.done(True))

    def _time_out(self) -> None:
        self._timer = None
        if self._unwatch is None or self._exchange is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._time_out)
            return
        self._stop_waiting()
        self._perform(self._exchange.done(False))

    def _stop_waiting(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
