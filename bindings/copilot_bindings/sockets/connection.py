"""One client's connection over a stdlib socket, in the thread that drives it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl as tls
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from sansio_copilot.actions import Call, StoreCall, WaitForFrames

from ..http1.connection import HTTPConnection
from ..http1.wants import GONE, TIMED_OUT, Close, CloseWriting, Receive, Rest, Send, Want
from ..net.progress import unacknowledged
from ..serving.background_loop import BackgroundLoop, watching
from ..serving.calls import Pending
from .wake import Wake

Socket: TypeAlias = socket.socket
T = TypeVar("T")

_PIECE_BYTES = 64 * 1024
# How late an event may be when there is no file descriptor to be woken by.
_LOOK_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 3600.0
_GONE_EVENTS = select.POLLERR | select.POLLHUP
_WOULD_BLOCK = (BlockingIOError, tls.SSLWantReadError, tls.SSLWantWriteError)


class Connection:
    """Moves the bytes of an :class:`HTTPConnection`, and waits for it.

    :param sock: becomes non-blocking, and is closed at the end.
    :param ssl: to speak TLS on it; not if it is an ``ssl.SSLSocket`` already.
    """

    def __init__(
        self, loop: BackgroundLoop, sock: Socket, ssl: tls.SSLContext | None = None
    ) -> None:
        self._loop = loop
        self._limits = loop.runtime.limits
        self._socket = sock
        self._ssl = ssl
        self._http: HTTPConnection
        self._idle = True
        self._wake: Wake | None = None
        self._notified = False
        self._lock = threading.Lock()
        """Held while another thread uses the socket, and while it is closed."""

    def serve(self) -> None:
        """Answer requests until the connection ends, and close it."""
        abort = True
        admitted = self._loop.service.admit(self)
        try:
            self._socket.setblocking(False)
            with contextlib.suppress(OSError):
                # Not by Nagle's algorithm, which has an event wait for the one before to arrive. A
                # Unix socket has none.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._shake_hands():
                self._http = HTTPConnection(self._loop, admitted=admitted)
                abort = self._drive()
            else:
                # What TLS has to say about it is still on its way.
                abort = False
        finally:
            self._close(abort)
            self._loop.connection_ended(self)

    # What the service says

    def close_if_idle(self) -> None:
        """Close, unless a request is being received or answered."""
        if self._idle:
            self._shut(socket.SHUT_RD)

    def abort(self) -> None:
        """Close at once, whatever is being sent."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            # Not an SSLSocket's own, which would have it go on unencrypted.
            socket.socket.shutdown(self._socket, how)

    # What the connection wants

    def _drive(self) -> bool:
        """Do what is wanted until the connection is to be closed; returns whether by a reset."""
        http = self._http
        want = http.start()
        while not isinstance(want, Close):
            try:
                outcome = self._perform(want)
            except Exception as error:
                want = http.failed(error)
            else:
                want = http.done(outcome)
        return want.abort

    def _perform(self, want: Want) -> Any:
        match want:
            case Call():
                loop, context = self._loop, self._http.context
                outcome = loop.service.calls.begin(want, context, loop.home, own=True)
                if not isinstance(outcome, Pending):
                    return outcome
                return outcome.block() if isinstance(want, StoreCall) else self._await(outcome)
            case Send(data=data):
                return self._send(data)
            case WaitForFrames():
                return self._wait_for_frames(want)
            case Receive():
                return self._receive(want)
            case CloseWriting():
                if not isinstance(self._socket, tls.SSLSocket):
                    self._shut(socket.SHUT_WR)
            case Rest():
                time.sleep(0)
        return None

    def _send(self, data: bytes) -> Any:
        view = memoryview(data)
        expired = False
        while view:
            try:
                # In pieces, since what is encrypted goes as a whole.
                view = view[self._socket.send(view[:_PIECE_BYTES]) :]
                expired = False
            except _WOULD_BLOCK as error:
                if expired:
                    return GONE
                held = unacknowledged(self._socket)
                events = _events_for(error, select.POLLOUT)
                ready = self._poll(events, time.monotonic() + self._limits.write_seconds)
                # Once more after that: the system may not tell what the client takes.
                expired = not ready and unacknowledged(self._socket) >= held
            except OSError:
                return GONE
        return None

    def _receive(self, want: Receive) -> Any:
        self._idle = want.idle
        # Whoever begins to close looks for what is idle after that.
        if want.idle and self._loop.closing:
            return TIMED_OUT
        try:
            data = self._wait_to(self._recv, select.POLLIN, want.seconds)
        except TimeoutError:
            return TIMED_OUT
        except OSError:
            return GONE
        finally:
            self._idle = False
        self._http.feed(data)
        return None

    def _wait_for_frames(self, want: WaitForFrames) -> Any:
        """Until there are frames, or the client has closed the connection."""
        wake = self._expect_notice()
        deadline = time.monotonic() + want.timeout
        with watching(want, self._loop.service.calls.lock, self._http.context, self._notify):
            while not self._notified:
                event = self._poll_woken(wake, deadline, listening=True)
                if event is None:
                    return False
                if event and not self._take_in(event):
                    return GONE
        return True

    def _await(self, pending: Pending) -> Any:
        """Wait for what is given up with a client that breaks the connection. One that has closed
        its side only still waits for the answer."""
        wake = self._expect_notice()
        listening = pending.then(self._notify)
        while left := pending.time_left():
            event = self._poll_woken(wake, time.monotonic() + left, listening=listening)
            if event and event & _GONE_EVENTS:
                pending.give_up(RuntimeError("the client has gone"))
                return GONE
            if event:
                listening = self._take_in(event)
        return pending.result()

    def _expect_notice(self) -> Wake | None:
        self._notified = False
        if self._wake is None:
            # Out of file descriptors a stream goes on without.
            with contextlib.suppress(OSError):
                self._wake = Wake()
        return self._wake

    def _poll_woken(self, wake: Wake | None, deadline: float, *, listening: bool) -> int | None:
        """What the socket has to say, 0 if :meth:`_notify` was called, or None in time.

        :param wake: None to look now and then whether it was, so that 0 may say nothing.
        """
        listening = listening and not self._http.full
        if listening and isinstance(self._socket, tls.SSLSocket) and self._socket.pending():
            return select.POLLIN
        events = select.POLLIN if listening else 0
        until = deadline
        if wake is None:
            until = min(time.monotonic() + _LOOK_SECONDS, deadline)
        ready = dict(self._poll(events, until, wake))
        if not ready:
            return None if until == deadline else 0
        if wake is not None and ready.pop(wake.fileno(), 0):
            wake.clear()
        return ready.get(self._socket.fileno(), 0)

    def _notify(self) -> None:
        self._notified = True
        if self._wake is not None:
            self._wake.set()

    def _take_in(self, event: int) -> bool:
        """Feed what has arrived while nothing was asked for; False if it is the end."""
        if self._http.full:
            return not event & _GONE_EVENTS
        try:
            data = self._recv()
        except _WOULD_BLOCK:
            return True
        except OSError:
            return False
        self._http.feed(data)
        return bool(data)

    # The socket

    def _recv(self) -> bytes:
        return self._socket.recv(_PIECE_BYTES)

    def _shake_hands(self) -> bool:
        try:
            if self._ssl is not None:
                # Of one that has gone already, wrap_socket() would leave the socket open.
                self._socket.getpeername()
                self._socket = self._ssl.wrap_socket(
                    self._socket, server_side=True, do_handshake_on_connect=False
                )
            if isinstance(self._socket, tls.SSLSocket):
                self._wait_to(self._socket.do_handshake, select.POLLIN, self._limits.header_seconds)
        except (OSError, ValueError):
            # A client that speaks something else, or has gone.
            return False
        return True

    def _wait_to(self, operation: Callable[[], T], events: int, seconds: float) -> T:
        """Do what may have to wait for the socket.

        :raises TimeoutError: if it waits for longer than ``seconds``.
        :raises OSError: if the connection is broken.
        """
        deadline = time.monotonic() + seconds
        expired = False
        while True:
            try:
                return operation()
            except _WOULD_BLOCK as error:
                # Once more after the time is over: a busy machine may be late.
                if expired:
                    raise TimeoutError from None
                expired = not self._poll(_events_for(error, events), deadline)

    def _poll(
        self, events: int, deadline: float, wake: Wake | None = None
    ) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self._socket, events)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        return poll.poll(max(min(deadline - time.monotonic(), _LONGEST_POLL_SECONDS), 0) * 1000)

    def _close(self, abort: bool) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if abort:
                # A reset, so that nobody takes what was sent for complete.
                linger = struct.pack("ii", 1, 0)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif isinstance(self._socket, tls.SSLSocket):
                # Says so to the client, and does not wait for its answer.
                self._socket.unwrap()
        with self._lock:
            self._socket.close()
        if self._wake is not None:
            self._wake.close()


def _events_for(error: OSError, otherwise: int) -> int:
    """What to wait for before the operation that raised ``error`` is tried again."""
    if isinstance(error, tls.SSLWantReadError):
        return select.POLLIN
    return select.POLLOUT if isinstance(error, tls.SSLWantWriteError) else otherwise
