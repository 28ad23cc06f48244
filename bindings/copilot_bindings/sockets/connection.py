"""One client's connection over a stdlib socket, in the thread that drives it.

Theory of operation
===================

:class:`SocketConnection` moves the bytes of an :class:`HTTPConnection`, which decides everything:
the HTTPConnection returns a want, and the connection performs it and reports the outcome, which
gives the next want. One thread serves the connection (:meth:`~SocketConnection.serve`), and may be
blocked by it; plain hooks and agents are called in it, too.

The thread waits in one place, ``_poll``, for the socket or for a :class:`~.wake.Wake`, which other
threads set: a store that has news, and a call that has ended. While it waits for either, it also
takes in what the client sends, so that it learns that the client has gone.

The rule that makes it right is: *only the serving thread reads, writes and closes the socket.*
Other threads (a service that ends) only shut the socket down, with ``_lock`` held, so that the
number of a socket that was closed meanwhile is never that of another one. The serving thread then
finds the end of its input, or an error, and ends as it would if the client had gone.

The socket does not block, because a client that takes nothing would otherwise hold the thread for
ever: each operation is repeated when the socket is ready for it, until its time is over.

You may change the sizes of pieces and the times of waits. A wait that is added has to go
through ``_poll``, and has to end when the connection is shut down.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl as tls
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from sansio_copilot.actions import WaitForFrames

from ..http1.connection import HTTPConnection
from ..http1.wants import GONE, TIMED_OUT, Close, CloseWriting, Receive, Rest, Want
from ..net.progress import Progress
from ..serving.background_loop import BackgroundLoop, watching
from ..serving.pending_call import Pending
from .wake import Wake

logger = logging.getLogger(__name__)

Socket: TypeAlias = socket.socket
T = TypeVar("T")

_PIECE_BYTES = 64 * 1024
# A thread that has no file descriptor to be woken by looks for events this often, in seconds.
_LOOK_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 3600.0
_GONE_EVENTS = select.POLLERR | select.POLLHUP
_WOULD_BLOCK = (BlockingIOError, tls.SSLWantReadError, tls.SSLWantWriteError)


class SocketConnection:
    """Moves the bytes of an :class:`HTTPConnection`, and does its waiting.

    :param sock: the connection's socket; it becomes non-blocking, and is closed at the end.
    :param ssl: a context to speak TLS on the socket; None for HTTP without TLS, and for a socket
        that is an ``ssl.SSLSocket`` already.
    """

    def __init__(
        self, loop: BackgroundLoop, sock: Socket, ssl: tls.SSLContext | None = None
    ) -> None:
        self._loop = loop
        self._limits = loop.runtime.limits
        self._socket = sock
        self._ssl = ssl
        self._http: HTTPConnection
        self._idle = self._first = True
        self._wake: Wake | None = None
        self._notified = False
        self._lock = threading.Lock()
        """Held while another thread uses the socket, and while the socket is being closed."""

    def serve(self) -> None:
        """Answer requests until the connection ends, and close it."""
        abort = True
        admitted = self._loop.service.admit(self)
        try:
            self._socket.setblocking(False)
            with contextlib.suppress(OSError):
                # Nagle's algorithm is turned off, because it holds an event back until the event
                # before it has been acknowledged. A Unix socket does not have this option.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._shake_hands():
                self._http = HTTPConnection(self._loop, admitted=admitted, own_thread=True)
                abort = self._drive()
            else:
                # The connection is not reset, because the alert that TLS sends for a failed
                # handshake may still be on its way to the client.
                abort = False
        finally:
            self._close(abort)
            self._loop.connection_ended(self)

    # Requests of the service

    def close_if_idle(self) -> None:
        """Close the connection, unless a request is being received or answered."""
        if self._idle and not self._loop.service.awaits_request(self._first):
            self._shut(socket.SHUT_RD)

    def abort(self) -> None:
        """Close the connection at once, even if something is being sent."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            # The base class's method is called, because that of SSLSocket forgets about TLS,
            # so that the other thread would go on unencrypted.
            socket.socket.shutdown(self._socket, how)

    # Wants of the connection

    def _drive(self) -> bool:
        """Do wants until the last one, which is to close; returns whether to close by a reset."""
        http = self._http
        want = http.start()
        while not isinstance(want, Close):
            try:
                outcome = self._perform(want)
            except Exception as error:
                want = http.failed(error)
            else:
                want = http.done(outcome)
                # The outcome is not kept while the next want is done, because it may be long.
                del outcome
        return not self._send(http.data_to_send()) or want.abort

    def _perform(self, want: Want) -> Any:
        if isinstance(want, Pending):
            return want.block() if want.is_seen_through else self._await(want)
        if isinstance(want, Rest):
            time.sleep(0)
            return True
        if not self._send(self._http.data_to_send()):
            return GONE
        match want:
            case WaitForFrames():
                return self._wait_for_frames(want)
            case Receive():
                return self._receive(want)
            case CloseWriting():
                if not isinstance(self._socket, tls.SSLSocket):
                    self._shut(socket.SHUT_WR)
        return None

    def _send(self, data: bytes) -> bool:
        """Send ``data``; returns False if the client has gone, or takes none of it."""
        view = memoryview(data)
        expired = False
        while view:
            try:
                # The data is sent in pieces, because an SSLSocket encrypts all that it is given
                # before it sends any of it.
                view = view[self._socket.send(view[:_PIECE_BYTES]) :]
                expired = False
            except _WOULD_BLOCK as error:
                if expired:
                    logger.debug("%s is dropped, because its client takes nothing", self)
                    return False
                progress = Progress(self._socket)
                events = _events_for(error, select.POLLOUT)
                ready = self._poll(events, time.monotonic() + self._limits.write_seconds)
                # After the time is over sending is tried once more, because not every system tells
                # how much the client has taken.
                expired = not ready and not progress.is_made()
            except OSError:
                return False
        return True

    def _receive(self, want: Receive) -> Any:
        self._idle, self._first = want.idle, want.first
        # The service may have looked for idle connections just before this one became idle, so this
        # thread looks whether a request is still waited for.
        if want.idle and not self._loop.service.awaits_request(want.first):
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
        """Wait until there are frames, the time is over, or the client has closed its side."""
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
        """Wait for a call, which is given up if the client breaks the connection.

        A client that has closed its side only still waits for the response.
        """
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
            # When file descriptors have run out the stream goes on without this one.
            with contextlib.suppress(OSError):
                self._wake = Wake()
        return self._wake

    def _poll_woken(self, wake: Wake | None, deadline: float, *, listening: bool) -> int | None:
        """Wait for the socket or for :meth:`_notify`.

        :param wake: wakes this thread. If it is None, the wait ends every 0.05 seconds.
        :param deadline: in seconds of the monotonic clock.
        :param listening: whether to wait for bytes of the client too.
        :returns: the events of the socket; 0 if there are none, but :meth:`_notify` may have been
            called; None at the deadline.
        """
        listening = listening and not self._http.parser.is_full
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
        """Feed bytes that have arrived during a wait; False if the client has closed its side."""
        if self._http.parser.is_full:
            return not event & _GONE_EVENTS
        try:
            data = self._recv()
        except _WOULD_BLOCK:
            return True
        except OSError:
            return False
        self._http.feed(data)
        return bool(data)

    # Operations of the socket

    def _recv(self) -> bytes:
        return self._socket.recv(_PIECE_BYTES)

    def _shake_hands(self) -> bool:
        try:
            if self._ssl is not None:
                # getpeername() raises an error if the client has gone already, because
                # wrap_socket() would leave the socket open then.
                self._socket.getpeername()
                self._socket = self._ssl.wrap_socket(
                    self._socket, server_side=True, do_handshake_on_connect=False
                )
            if isinstance(self._socket, tls.SSLSocket):
                self._wait_to(self._socket.do_handshake, select.POLLIN, self._limits.header_seconds)
        except (OSError, ValueError):
            # The client does not speak TLS, or has gone.
            return False
        return True

    def _wait_to(self, operation: Callable[[], T], events: int, seconds: float) -> T:
        """Do an operation of the socket, and wait for the socket if it would block.

        :param operation: the operation; it is called again after each wait.
        :param events: the events of ``poll`` to wait for.
        :param seconds: how long to wait at most.
        :raises TimeoutError: if the operation still blocks after that.
        :raises OSError: if the connection is broken.
        """
        deadline = time.monotonic() + seconds
        expired = False
        while True:
            try:
                return operation()
            except _WOULD_BLOCK as error:
                # After the time is over the operation is tried once more, because on a busy machine
                # this thread may come late.
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
                # Closing sends a reset, so that the client does not take an incomplete response for
                # complete.
                linger = struct.pack("ii", 1, 0)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif isinstance(self._socket, tls.SSLSocket):
                # TLS tells the client that this is the end. The socket does not block, so the
                # client's answer is not waited for.
                self._socket.unwrap()
        with self._lock:
            self._socket.close()
        if self._wake is not None:
            self._wake.close()


def _events_for(error: OSError, otherwise: int) -> int:
    """The events of ``poll`` to wait for before the operation that raised ``error`` is repeated."""
    if isinstance(error, tls.SSLWantReadError):
        return select.POLLIN
    return select.POLLOUT if isinstance(error, tls.SSLWantWriteError) else otherwise
