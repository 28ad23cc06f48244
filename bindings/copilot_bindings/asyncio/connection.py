"""One client's connection under asyncio, driven by callbacks.

Theory of operation
===================

:class:`AsyncioConnection` is an ``asyncio.Protocol``. It moves the bytes of an
:class:`HTTPConnection`, which decides everything: the HTTPConnection returns a want, and the
connection performs it and reports the outcome, which gives the next want. There is no task, so that
a connection that waits costs no more than this object and one timer.

``_perform`` is a loop that runs as long as wants can be done at once. A want that has to be waited
for is stored in ``_want``, and the loop returns to asyncio. Only callbacks end a wait; the table
:data:`~.connection_waits.ENDS` says which callback ends which wait. Output is written before a want
is done. If the transport takes no more output, the want is put off (``Choked``) until it does.

The rule that makes it right is: *a want has one outcome.* Each callback names the want that it
ends, and ``_resume`` does nothing unless that want is still the one in ``_want``. So a
notification, a timer and the loss of the connection may come in any order, and late ones do no
harm.

There is one timer, ``_timer``, and one deadline, ``_deadline``. When a timer fires early it is set
anew, because most waits end long before their time, and moving a number is cheaper than a new
timer. For output and ``Close`` it also looks whether the client has taken anything, since
``Limits.write_seconds`` counts from the last progress.

You may change how often the timer looks, and what is done without waiting. All methods run on
the loop's thread except ``_notified``, which a store may call from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from functools import partial
from typing import cast

from sansio_copilot.actions import WaitForFrames
from sansio_copilot.stores.protocol import Cancel

from ..http1.connection import HTTPConnection
from ..http1.wants import GONE, Close, CloseWriting, Receive, Rest, Want
from ..net.progress import Progress, has_room
from ..serving.asyncio_backend import AsyncioBackend
from ..serving.pending_call import Pending
from ..serving.service import Service
from ..serving.store_watches import begin_watch, end_watch
from .connection_waits import ENDS, Choked, Happening, Waited

logger = logging.getLogger(__name__)

_TIMER_SECONDS = 10.0
# Progress of a client is looked for this many times within ``Limits.write_seconds``.
_LOOKS = 8
# A connection that is being closed is looked at this often, in seconds. If the kernel has all its
# bytes it is given up at the second look at the latest, because the client's answer to TLS's
# close_notify need not be waited for (RFC 8446, section 6.1).
_CLOSE_LOOK_SECONDS = 0.5


class AsyncioConnection(asyncio.Protocol):
    """Moves the bytes of an :class:`HTTPConnection`, and does its waiting.

    :param refused: True if there is no room for the connection, even if the service has some.
    """

    __slots__ = (
        *(
            "_backend",
            "_beginning",
            "_choked",
            "_closed",
            "_deadline",
            "_http",
            "_loop",
            "_progress",
        ),
        *("_refused", "_service", "_thread", "_timer", "_transport", "_unwatch", "_want"),
    )

    def __init__(self, service: Service, backend: AsyncioBackend, *, refused: bool = False) -> None:
        self._service = service
        self._refused = refused
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._http: HTTPConnection
        self._beginning: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._want: Waited | None = None
        """The want that is being waited for; None while the connection is being driven."""
        self._unwatch: Cancel | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._choked = False
        self._progress: Progress
        """Tells whether the client takes the output that is waited for."""
        self._closed = False

    # Before there is a transport

    def accepted(self, beginning: asyncio.Task[None]) -> None:
        """Count among the connections while ``beginning`` makes the transport."""
        self._beginning = beginning
        self._service.expect(self)

    def missed(self) -> None:
        """Stop counting as a connection, because there will be no transport."""
        self._service.connection_ended(self)

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The type is cast, because uvloop's transport is no instance of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._beginning = None
        admitted = self._service.admit(self, room=not self._refused)
        self._http = HTTPConnection(self._service, admitted=admitted)
        self._perform(self._http.start())

    def data_received(self, data: bytes) -> None:
        self._http.feed(data)
        if not self._resume(self._want, Happening.DATA) and self._http.parser.is_full:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._http.feed(b"")
        self._resume(self._want, Happening.INPUT_ENDED)
        # The transport stays open so that the response can be sent, except under TLS, where asyncio
        # cannot close one side only.
        return not self._closed and self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.gone = True
        if self._timer is not None:
            self._timer.cancel()
        want = self._want
        if self._closed:
            self._service.connection_ended(self)
        elif not (isinstance(want, Pending) and want.is_seen_through):
            self._resume(want, Happening.LOST)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if isinstance(self._want, Choked):
            # The want is resumed in the next turn, because asyncio's transport must not be closed
            # within this callback.
            self._loop.call_soon(self._resume, self._want, Happening.ROOM)

    # Requests of the service

    def close_if_idle(self) -> None:
        """Close the connection, unless a request is being received or answered."""
        want, service = self._want, self._service
        if self._beginning is not None:
            if not service.awaits_request(True):
                self._beginning.cancel()
        elif isinstance(want, Receive) and want.idle and not service.awaits_request(want.first):
            self._resume(want, Happening.TIME)

    def abort(self) -> None:
        """Close the connection at once, even if something is being sent."""
        if self._beginning is not None:
            self._beginning.cancel()
        else:
            self._transport.abort()

    # Wants of the connection

    def _perform(self, want: Want) -> None:
        """Do wants until one has to be waited for, whose end is a callback."""
        http = self._http
        while True:
            try:
                if isinstance(want, Pending):
                    if want.then(partial(self._backend.promptly, self._called, want)):
                        self._wait(want, want.time_left())
                        return
                    want = http.done(want.result())
                    continue
                if http.gone and not isinstance(want, Close):
                    want = http.done(GONE)
                    continue
                if isinstance(want, Rest):
                    self._want = want
                    self._loop.call_soon(self._resume, want, Happening.TURN)
                    return
                if data := http.data_to_send():
                    self._transport.write(data)
                    if self._choked:
                        self._expect_progress(Choked(want))
                        return
                match want:
                    case WaitForFrames(store=store, cursor=cursor, timeout=timeout):
                        self._wait(want, timeout)
                        lock, notify = self._service.calls.lock, self._notified
                        self._unwatch = begin_watch(lock, http.context, store.watch, cursor, notify)
                        return
                    case Receive(seconds=seconds) if not http.parser.has_news:
                        self._transport.resume_reading()
                        self._wait(want, seconds)
                        return
                    case CloseWriting() if self._transport.can_write_eof():
                        # The error is suppressed, because a client may have reset the connection,
                        # which is not known yet.
                        with contextlib.suppress(OSError):
                            self._transport.write_eof()
                    case Close(abort=abort):
                        self._close(want, abort=abort)
                        return
                want = http.done()
            except Exception as error:
                # The error is reported to the HTTP connection, because an exchange answers a failed
                # call. Any other error ends the connection.
                self._want = None
                want = http.failed(error)

    def _close(self, want: Close, *, abort: bool) -> None:
        self._closed = True
        if self._http.gone:
            self._service.connection_ended(self)
        elif abort:
            self._transport.abort()
        else:
            self._transport.close()
            self._expect_progress(want)

    def _resume(self, want: Waited | None, happening: Happening) -> bool:
        """Report the outcome of ``want``, if ``happening`` ends it and nothing else has.

        :returns: whether it does.
        """
        ends = ENDS[type(want)]
        if self._want is not want or happening not in ends:
            return False
        outcome, self._want = ends[happening], None
        if self._unwatch is not None:
            end_watch(self._service.calls.lock, self._http.context, self._unwatch)
            self._unwatch = None
        if isinstance(want, Choked) and outcome is not GONE:
            self._perform(want.then)
            return True
        if isinstance(want, Pending):
            want.give_up(RuntimeError("the client has gone"))
        self._perform(self._http.done(outcome))
        return True

    def _called(self, want: Pending) -> None:
        """Report the result of a call that has ended, unless the call was given up."""
        if self._want is not want:
            return
        self._want = None
        try:
            outcome = want.result()
        except Exception as error:
            self._perform(self._http.failed(error))
        else:
            self._perform(self._http.done(outcome))

    # Deadlines and progress

    def _expect_progress(self, want: Choked | Close) -> None:
        """Wait for ``want`` as long as the client takes some of the bytes that it is sent."""
        sock = self._transport.get_extra_info("socket")
        self._progress = Progress(sock, self._transport.get_write_buffer_size)
        self._wait(want, self._service.runtime.limits.write_seconds)

    def _all_handed_over(self) -> bool:
        """Whether the kernel has all bytes, so that nothing is lost by giving up the transport.

        While the second transport of TLS holds bytes, the kernel has no room for them. It may have
        room just before the loop moves bytes there; but then the client has taken some bytes since
        the loop last looked.
        """
        sock = self._transport.get_extra_info("socket")
        return self._transport.get_write_buffer_size() == 0 and has_room(sock)

    def _wait(self, want: Waited, seconds: float) -> None:
        self._want = want
        self._deadline = self._loop.time() + seconds
        # A timer that fires before it has to is kept, and set anew when it fires, because most
        # waits end long before their deadline. Only progress is looked for sooner than that.
        timer, is_for_output = self._timer, isinstance(want, (Choked, Close))
        if timer is None or timer.when() > (self._next_look() if is_for_output else self._deadline):
            if timer is not None:
                timer.cancel()
            self._set_timer()

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(self._next_look(), self._time_out)

    def _next_look(self) -> float:
        """The loop's time at which the timer has to fire at the latest."""
        # A timer is never set far ahead, because asyncio keeps a cancelled timer until its time
        # comes.
        seconds = _TIMER_SECONDS
        if isinstance(self._want, (Choked, Close)):
            # The buffer is looked at often, because it may fill again once the client took some.
            seconds = min(seconds, self._service.runtime.limits.write_seconds / _LOOKS)
        if isinstance(self._want, Close):
            seconds = min(seconds, _CLOSE_LOOK_SECONDS)
        return min(self._deadline, self._loop.time() + seconds)

    def _time_out(self) -> None:
        self._timer = None
        want = self._want
        if want is None or isinstance(want, Rest):
            return
        if isinstance(want, Pending):
            if left := want.time_left():
                self._deadline = self._loop.time() + left
                self._set_timer()
            # A call with no time left has ended, and has called back already.
            return
        if isinstance(want, (Choked, Close)):
            if self._progress.is_made():
                self._deadline = self._loop.time() + self._service.runtime.limits.write_seconds
            elif isinstance(want, Close) and self._all_handed_over():
                self._transport.abort()
                return
        if self._loop.time() < self._deadline:
            self._set_timer()
        elif isinstance(want, (Choked, Close)):
            logger.debug("%s is dropped, because its client takes nothing", self)
            self._transport.abort()
        else:
            self._resume(want, Happening.TIME)

    def _notified(self) -> None:
        want = self._want
        if want is None:
            return
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._resume, want, Happening.NOTICE)
        else:
            self._backend.soon(self._resume, want, Happening.NOTICE)
