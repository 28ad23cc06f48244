"""One client's connection under asyncio, driven by callbacks: one that waits costs no task."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import Any, cast

from sansio_copilot.actions import Call, StoreCall, WaitForFrames
from sansio_copilot.stores.protocol import Cancel

from ..http1.connection import HTTPConnection
from ..http1.wants import GONE, TIMED_OUT, Close, CloseWriting, Receive, Rest, Send, Want
from ..net.progress import unacknowledged
from ..serving.asyncio_backend import AsyncioBackend
from ..serving.calls import Pending, begin_watch, end_watch
from ..serving.service import Service

_TIMER_SECONDS = 10.0
# How often within ``Limits.write_seconds`` progress is looked for.
_LOOKS = 8


class Connection(asyncio.Protocol):
    """Moves the bytes of an :class:`HTTPConnection`, and waits for it.

    :param refused: there is no room for it, whatever the service says.
    """

    __slots__ = (
        *("_backend", "_backlog", "_choked", "_closed", "_deadline", "_http", "_loop"),
        *("_lost", "_pending", "_refused", "_service", "_thread", "_timer", "_transport"),
        *("_unwatch", "_want"),
    )

    def __init__(self, service: Service, backend: AsyncioBackend, *, refused: bool = False) -> None:
        self._service = service
        self._refused = refused
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._http: HTTPConnection
        self._transport: asyncio.Transport
        self._want: Want | None = None
        """What is waited for."""
        self._pending: Pending | None = None
        self._unwatch: Cancel | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._choked = False
        self._backlog = (0, 0)
        self._lost = False
        self._closed = False

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it under uvloop.
        self._transport = cast("asyncio.Transport", transport)
        admitted = self._service.admit(self, room=not self._refused)
        self._http = HTTPConnection(self._service, admitted=admitted)
        self._perform(self._http.start())

    def data_received(self, data: bytes) -> None:
        self._http.feed(data)
        if isinstance(self._want, Receive):
            self._resume(self._want)
        elif self._http.full:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._http.feed(b"")
        if isinstance(self._want, Receive):
            self._resume(self._want)
        elif isinstance(self._want, WaitForFrames):
            self._resume(self._want, GONE)
        # Kept open for the response; what is encrypted cannot be closed by halves.
        return not self._closed and self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._closed:
            self._service.connection_ended(self)
        elif self._want is not None and not isinstance(self._want, StoreCall):
            self._resume(self._want, GONE)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if isinstance(self._want, Send):
            # In a turn of its own: asyncio's transport does not bear being closed in this call.
            self._loop.call_soon(self._resume, self._want)

    # What the service says

    def close_if_idle(self) -> None:
        """Close, unless a request is being received or answered."""
        if isinstance(self._want, Receive) and self._want.idle:
            self._resume(self._want, TIMED_OUT)

    def abort(self) -> None:
        """Close at once, whatever is being sent."""
        self._transport.abort()

    # What the connection wants

    def _perform(self, want: Want) -> None:
        """Do what is wanted until it has to be waited for; what it waits for calls back."""
        http = self._http
        while True:
            if self._lost and not isinstance(want, (StoreCall, Close)):
                want = http.done(GONE)
                continue
            try:
                match want:
                    case Call():
                        outcome = self._service.calls.begin(want, http.context, self._home)
                        if isinstance(outcome, Pending):
                            if outcome.then(partial(self._backend.promptly, self._called, want)):
                                self._pending = outcome
                                self._wait(want, outcome.time_left())
                                return
                            outcome = outcome.result()
                        want = http.done(outcome)
                    case Send(data=data):
                        self._transport.write(data)
                        if self._choked:
                            self._expect_progress(want)
                            return
                        want = http.done()
                    case WaitForFrames(store=store, cursor=cursor, timeout=timeout):
                        self._wait(want, timeout)
                        lock, notify = self._service.calls.lock, self._notified
                        self._unwatch = http.context.current.run(
                            begin_watch, lock, store, "watch", cursor, notify
                        )
                        return
                    case Receive(seconds=seconds):
                        self._transport.resume_reading()
                        self._wait(want, seconds)
                        return
                    case Rest():
                        self._want = want
                        self._loop.call_soon(self._resume, want)
                        return
                    case CloseWriting():
                        if self._transport.can_write_eof():
                            # The error is suppressed, because a client may have reset the
                            # connection, which is not known yet.
                            with contextlib.suppress(OSError):
                                self._transport.write_eof()
                        want = http.done()
                    case Close(abort=abort):
                        self._closed = True
                        if self._lost:
                            self._service.connection_ended(self)
                        elif abort:
                            self._transport.abort()
                        else:
                            self._transport.close()
                            self._expect_progress(want)
                        return
            except Exception as error:
                # The connection decides, because its exchange answers a call that failed, and
                # anything else ends it.
                self._want = None
                want = http.failed(error)

    def _resume(self, want: Want, outcome: Any = None) -> None:
        """``want`` has its outcome, unless it was given up meanwhile."""
        if self._want is not want:
            return
        self._want = None
        if self._unwatch is not None:
            self._http.context.current.run(end_watch, self._service.calls.lock, self._unwatch)
            self._unwatch = None
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.give_up(RuntimeError("the client has gone"))
        self._perform(self._http.done(outcome))

    def _called(self, want: Call) -> None:
        """What was called has ended, unless it was given up."""
        pending = self._pending
        if self._want is not want or pending is None:
            return
        self._want = self._pending = None
        try:
            outcome = pending.result()
        except Exception as error:
            self._perform(self._http.failed(error))
        else:
            self._perform(self._http.done(outcome))

    def _home(self) -> AsyncioBackend:
        return self._backend

    # Waiting

    def _expect_progress(self, want: Send | Close) -> None:
        """Wait as long as the client takes something of what it is sent."""
        self._backlog = self._unsent()
        self._wait(want, self._service.runtime.limits.write_seconds)

    def _unsent(self) -> tuple[int, int]:
        """What the transport holds, and the kernel: while the client takes nothing, the same.

        What is encrypted has left the transport for another one, whose buffer nobody tells of; but
        what moves from there to the kernel shows.
        """
        sock = self._transport.get_extra_info("socket")
        return self._transport.get_write_buffer_size(), unacknowledged(sock)

    def _wait(self, want: Want, seconds: float) -> None:
        self._want = want
        self._deadline = self._loop.time() + seconds
        # One timer a connection, moved on when it fires: most waits end long before.
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer()

    def _set_timer(self) -> None:
        # Not for long, since one that is cancelled, for a wait that is shorter than the one before,
        # stays with the loop until its time comes.
        seconds = _TIMER_SECONDS
        if isinstance(self._want, (Send, Close)):
            # The buffer is looked at often, because it may fill again once the client took some.
            seconds = min(seconds, self._service.runtime.limits.write_seconds / _LOOKS)
        at = min(self._deadline, self._loop.time() + seconds)
        self._timer = self._loop.call_at(at, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        want = self._want
        if want is None or isinstance(want, Rest):
            return
        if isinstance(want, Call):
            assert self._pending is not None
            if left := self._pending.time_left():
                self._deadline = self._loop.time() + left
                self._set_timer()
            # Otherwise it has ended, and whoever waits for it was told.
            return
        if isinstance(want, (Send, Close)):
            backlog = self._unsent()
            if backlog != self._backlog:
                # It takes little, but it takes.
                self._backlog = backlog
                self._deadline = self._loop.time() + self._service.runtime.limits.write_seconds
        if self._loop.time() < self._deadline:
            self._set_timer()
        elif isinstance(want, (Send, Close)):
            self._transport.abort()
        else:
            self._resume(want, False if isinstance(want, WaitForFrames) else TIMED_OUT)

    def _notified(self) -> None:
        want = self._want
        if want is None:
            return
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._resume, want, True)
        else:
            self._backend.soon(self._resume, want, True)
