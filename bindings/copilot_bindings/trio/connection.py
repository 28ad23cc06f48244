"""One client's connection under trio: one task drives the connection, and another reads.

Theory of operation
===================

:class:`TrioConnection` moves the bytes of an :class:`HTTPConnection`, which decides everything: the
HTTPConnection returns a want, and the connection performs it and reports the outcome, which gives
the next want. Each connection is one call of :meth:`~TrioConnection.serve`, in a nursery of its
own, so that nothing of it is left when that call returns.

There are two tasks, because a client may leave while it is being answered:

- ``_drive`` performs one want after the other. It is the only task that sends.
- ``_read`` receives, and feeds what it gets at once. It stops while so much is unread that nobody
  wants it (``is_full``), and goes on with the next ``Receive``.

The rule that makes it right is: *a want has one outcome.* ``_want`` is the want that is being
waited for; the reading task, a notification of the store, and a service that ends name the want
that they end, and ``_resume`` does nothing unless it is still that one.

A cancellation does not end ``_drive`` at once: the exchange is told that its client has gone, so
that it ends what it has begun, and the next checkpoint raises the cancellation again.

You may change the sizes of pieces, and how a slow client is found (``_send``). All methods run
in trio's thread except ``_notified``, which a store may call from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import struct
import threading
from typing import Any

import trio

from sansio_copilot.actions import WaitForFrames

from ..http1.connection import HTTPConnection
from ..http1.wants import GONE, TIMED_OUT, Close, CloseWriting, Receive, Rest, Want
from ..serving.pending_call import Pending
from ..serving.service import Service
from ..serving.store_watches import begin_watch, end_watch
from ..serving.trio_backend import TrioBackend
from .stream import patient, socket_of

logger = logging.getLogger(__name__)

_PIECE_BYTES = 64 * 1024
_PIECE_OF_OTHERS_BYTES = 4 * 1024
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
_CLOSE_SECONDS = 2.0


class TrioConnection:
    """Moves the bytes of an :class:`HTTPConnection`, and does its waiting.

    :param stream: the connection's stream; it is closed at the end.
    :param shakes_hands: whether ``stream`` is a ``trio.SSLStream`` before its handshake.
    """

    def __init__(
        self,
        service: Service,
        backend: TrioBackend,
        stream: trio.abc.Stream,
        *,
        shakes_hands: bool = False,
    ) -> None:
        self._service = service
        self._backend = backend
        patient_stream = patient(stream, service.runtime.limits.write_seconds)
        self._stream = patient_stream or stream
        self._shakes_hands = shakes_hands
        self._is_patient = patient_stream is not None
        self._lock = service.calls.lock
        self._thread = threading.get_ident()
        self._scope = trio.CancelScope()
        self._call_scope = trio.CancelScope()
        self._http: HTTPConnection
        self._want: Want | None = None
        """The want that is being waited for, which :meth:`_resume` may end; None without a wait."""
        self._outcome: Any = None
        self._resumed = trio.Event()
        self._wanted = trio.Event()

    async def serve(self) -> None:
        """Answer requests until the connection ends, and close it."""
        try:
            with self._scope:
                if self._shakes_hands and not await self._shake_hands():
                    return
                self._http = HTTPConnection(self._service, admitted=self._service.admit(self))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    await self._drive()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            self._service.connection_ended(self)

    # Requests of the service

    def close_if_idle(self) -> None:
        """Close the connection, unless a request is being received or answered."""
        want, service = self._want, self._service
        if self._shakes_hands:
            if not service.awaits_request(True):
                self._scope.cancel()
        elif isinstance(want, Receive) and want.idle and not service.awaits_request(want.first):
            self._resume(want, TIMED_OUT)

    def abort(self) -> None:
        """Close the connection at once, even if something is being sent."""
        self._scope.cancel()

    # TLS

    async def _shake_hands(self) -> bool:
        """Do the handshake of TLS; returns whether the client has done its part in time."""
        assert isinstance(self._stream, trio.SSLStream), "handshakes are TLS's"
        with trio.move_on_after(self._service.runtime.limits.header_seconds):
            try:
                await self._stream.do_handshake()
            except trio.BrokenResourceError:
                return False
            self._shakes_hands = False
        return not self._shakes_hands

    # Reading

    async def _read(self) -> None:
        while True:
            try:
                data = await self._stream.receive_some(_PIECE_BYTES)
            except _BROKEN:
                self._lose()
                return
            self._http.feed(bytes(data))
            if isinstance(self._want, Receive):
                self._resume(self._want)
            elif not data and isinstance(self._want, WaitForFrames):
                self._resume(self._want, GONE)
            if not data:
                return
            while self._http.parser.is_full and not isinstance(self._want, Receive):
                self._wanted = trio.Event()
                await self._wanted.wait()

    def _lose(self) -> None:
        self._http.gone = True
        self._call_scope.cancel()
        if self._want is not None:
            self._resume(self._want, GONE)

    # Wants of the connection

    async def _drive(self) -> None:
        http = self._http
        want = http.start()
        while not isinstance(want, Close):
            try:
                outcome = await self._perform(want)
            except trio.Cancelled:
                # The cancellation is not raised here, because the exchange has to end what it has
                # begun first; the next checkpoint raises it again.
                http.gone = True
                outcome = GONE
            except Exception as error:
                want = http.failed(error)
                continue
            want = http.done(outcome)
            # The outcome is not kept while the next want is done, because it may be a long text.
            del outcome
        is_sent = await self._send(http.data_to_send())
        await trio.lowlevel.checkpoint_if_cancelled()
        if want.abort or not is_sent:
            _reset(self._stream)
        elif not http.gone:
            with trio.move_on_after(_CLOSE_SECONDS), contextlib.suppress(*_BROKEN):
                await self._stream.aclose()

    async def _perform(self, want: Want) -> Any:
        http = self._http
        if isinstance(want, Pending):
            if want.is_seen_through:
                return await want.see_through(self._backend, lambda: None)
            return await self._await(want)
        if isinstance(want, Rest):
            await trio.lowlevel.checkpoint()
            return True
        if http.gone or not await self._send(http.data_to_send()):
            return GONE
        match want:
            case WaitForFrames(store=store, cursor=cursor, timeout=timeout):
                self._expect(want, False)
                notify = self._notified
                unwatch = begin_watch(self._lock, http.context, store.watch, cursor, notify)
                try:
                    return await self._wait(timeout)
                finally:
                    end_watch(self._lock, http.context, unwatch)
            case Receive() if http.parser.has_news:
                return None
            case Receive(seconds=seconds):
                self._expect(want, TIMED_OUT)
                self._wanted.set()
                return await self._wait(seconds)
            case CloseWriting():
                # Under TLS nothing is done, because trio cannot close one side of it only.
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    with contextlib.suppress(*_BROKEN):
                        await self._stream.send_eof()
        return None

    async def _await(self, pending: Pending) -> Any:
        with trio.CancelScope() as self._call_scope:
            return await pending.wait(self._backend)
        return GONE

    async def _send(self, data: bytes) -> bool:
        """Send ``data``; returns False if the client has gone, or takes none of it."""
        # A stream that does not report progress is sent small pieces, each with the full time, so
        # that a client that reads slowly is not dropped.
        size = max(len(data), 1) if self._is_patient else _PIECE_OF_OTHERS_BYTES
        seconds = math.inf if self._is_patient else self._service.runtime.limits.write_seconds
        view = memoryview(data)
        for start in range(0, len(data), size):
            with trio.move_on_after(seconds) as scope:
                try:
                    await self._stream.send_all(view[start : start + size])
                except _BROKEN as error:
                    logger.debug("%s cannot send: %s", self, error or "its client has gone")
                    self._http.gone = True
            if self._http.gone or scope.cancelled_caught:
                self._http.gone = True
                return False
        return True

    # Waits

    def _expect(self, want: Want, otherwise: Any) -> None:
        self._want, self._outcome, self._resumed = want, otherwise, trio.Event()

    async def _wait(self, seconds: float) -> Any:
        with trio.move_on_after(seconds):
            await self._resumed.wait()
        self._want = None
        return self._outcome

    def _resume(self, want: Want, outcome: Any = None) -> None:
        """Report the outcome of ``want``, unless that want has had its outcome already."""
        if self._want is want:
            self._want = None
            self._outcome = outcome
            self._resumed.set()

    def _notified(self) -> None:
        want = self._want
        if want is None:
            return
        if threading.get_ident() == self._thread:
            self._resume(want, True)
        else:
            self._backend.soon(self._resume, want, True)


def _reset(stream: trio.abc.Stream) -> None:
    """Have the socket send a reset when it is closed.

    The client then does not take an incomplete response for complete.
    """
    if (transport := socket_of(stream)) is not None:
        with contextlib.suppress(OSError):
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
