"""The tails of live runs: what this process knows of runs that are being followed in it.

A live run has one tail in this process, however many readers follow it: the number of bytes that
its log is known to have, the last of those bytes, and the readers that wait for more. New bytes are
told to the tail once, by the owner that has just committed an append, or by the subscriber to other
processes. So a thousand readers of one run cost the store the reads of one, and readers that keep
up cost it none.

Three rules make it right:

- A tail never has bytes that are not in the store. It is told of bytes when they are committed.
- If the tail does not have the bytes that a reader needs, :meth:`Tails.read` returns None, and the
  store is asked. This happens if a reader lags behind the bytes that are kept, or if nobody has
  followed the run yet.
- A watch is notified at once if the tail has more than the watch's offset. If another process owns
  the run, the subscriber looks after it (:meth:`Tails.followed`) from then on. So no notification
  is lost between a reader's read and its watch, and a lost message to the subscriber is made up for
  by the next look.

It may be used from any operating system thread. Readers are notified without the lock, because they
may call back.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import attrs

from sansio_copilot.stores.protocol import Batch, Cancel, Notify, nothing_to_cancel

from .cursors import Cursor
from .errors import StoreError


@attrs.frozen
class TailPiece:
    """A piece of a log that a tail gives a reader.

    :param data: bytes from the reader's offset on; empty if there are none yet.
    :param ended: whether the run's last byte is in front of the end of ``data``.
    """

    data: bytes
    ended: bool


class _Tail:
    __slots__ = ("base", "data", "ended", "lost", "own", "size", "watches")

    def __init__(self, size: int, own: bool) -> None:
        self.base = size
        """The offset at which the bytes that are kept begin."""
        self.data = bytearray()
        self.size = size
        self.ended = False
        self.lost = False
        """Whether its owner has died, so that its readers have to ask the store."""
        self.own = own
        self.watches: dict[object, Notify] = {}


class Tails:
    """The tails of one store in one process, by the store's own names of runs.

    :param run_bytes: the bytes that are kept of one run, from its end backwards.
    :param total_bytes: the bytes that are kept of all runs.
    :param most: the tails that are kept of runs that have ended, or that nobody follows.
    :param on_follow: called, without a lock, when a run of another process begins to be followed.
    """

    def __init__(
        self,
        *,
        run_bytes: int = 256 * 1024,
        total_bytes: int = 32 * 1024**2,
        most: int = 1000,
        on_follow: Callable[[], object] = lambda: None,
    ) -> None:
        self._run_bytes = run_bytes
        self._total_bytes = total_bytes
        self._most = most
        self._on_follow = on_follow
        self._lock = threading.Lock()
        self._tails: dict[Hashable, _Tail] = {}
        # These tails may be forgotten, and the least recently used is the first.
        self._idle: OrderedDict[Hashable, _Tail] = OrderedDict()
        self._followed: dict[Hashable, _Tail] = {}
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """The bytes that are kept of all runs."""
        return self._held

    # Learning of runs

    def begin(self, run: Hashable) -> None:
        """Begin the tail of a run that was opened here, whose owner tells of all its appends."""
        with self._lock:
            self._forget(run)
            self._tails[run] = _Tail(0, own=True)

    def grew(self, run: Hashable, at: int, data: bytes) -> None:
        """Note that the log of ``run`` has ``data`` from byte ``at`` on; bytes that the tail knows
        are ignored."""
        with self._lock:
            tail = self._tails.get(run)
            if tail is None or at + len(data) <= tail.size:
                return
            if at > tail.size:
                # The tail begins anew, because it was not told the bytes in between, which only the
                # store has.
                self._trim(tail, len(tail.data))
                tail.base = tail.size = at
            news = data[tail.size - at :] if at < tail.size else data
            tail.data += news
            tail.size += len(news)
            self._held += len(news)
            if len(tail.data) > 2 * self._run_bytes:
                self._trim(tail, len(tail.data) - self._run_bytes)
            if self._held > self._total_bytes:
                self._make_room(tail)
            woken = self._take_watches(run, tail)
        for notify in woken:
            notify()

    def end(self, run: Hashable) -> None:
        """Note that ``run`` has ended, with the bytes that were told."""
        self._tell(run, ended=True)

    def lose(self, run: Hashable) -> None:
        """Note that the owner of ``run`` has died, so that readers have to ask the store."""
        self._tell(run, ended=False)

    def found(self, run: Hashable) -> None:
        """Note that a reader has asked the store about a run whose owner has died, and ends it."""
        with self._lock:
            if (tail := self._tails.get(run)) is not None:
                tail.lost = False

    def _tell(self, run: Hashable, *, ended: bool) -> None:
        with self._lock:
            tail = self._tails.get(run)
            if tail is None:
                return
            tail.ended, tail.lost = ended, not ended
            tail.own = False
            woken = self._take_watches(run, tail)
            self._rest(run, tail)
        for notify in woken:
            notify()

    def disown(self, run: Hashable) -> None:
        """Follow ``run`` like that of another process, because its owner here may tell no more.

        Bytes that its owner still tells are right, and count.
        """
        with self._lock:
            tail = self._tails.get(run)
            if tail is None or not tail.own:
                return
            tail.own = False
            follows = bool(tail.watches)
            if follows:
                self._followed[run] = tail
            else:
                self._rest(run, tail)
        if follows:
            self._on_follow()

    def forget(self, run: Hashable) -> None:
        """Forget the tail of ``run``, which may be wrong, and send its readers to the store."""
        with self._lock:
            tail = self._tails.get(run)
            woken = [] if tail is None else list(tail.watches.values())
            self._forget(run)
        for notify in woken:
            notify()

    def forget_if_it_fails(self, run: Hashable, look: Future[None]) -> None:
        """Have the readers of ``run`` ask the store themselves if ``look`` fails."""

        def looked(done: Future[None]) -> None:
            if isinstance(done.exception(), StoreError):
                self.forget(run)

        look.add_done_callback(looked)

    def followed(self) -> list[tuple[Hashable, int]]:
        """The runs of other processes that readers wait for here, and their known sizes."""
        with self._lock:
            return [(run, tail.size) for run, tail in self._followed.items()]

    def known(self, run: Hashable) -> int | None:
        """The size that the log of ``run`` is known to have; None if nothing is known of it."""
        tail = self._tails.get(run)
        return None if tail is None else tail.size

    # Readers

    def read(self, run: Hashable, offset: int, max_bytes: int) -> TailPiece | None:
        """Return what follows ``offset`` in the log of ``run``; None if only the store can say."""
        with self._lock:
            tail = self._tails.get(run)
            if tail is None or offset < tail.base or offset > tail.size:
                return None
            if tail.lost and offset == tail.size:
                return None
            if run in self._idle:
                self._idle.move_to_end(run)
            begin = offset - tail.base
            if begin == 0 and len(tail.data) <= max_bytes:
                return TailPiece(bytes(tail.data), tail.ended)
            data = bytes(memoryview(tail.data)[begin : begin + max_bytes])
            return TailPiece(data, tail.ended and offset + len(data) == tail.size)

    def watch(self, run: Hashable, offset: int, notify: Notify) -> Cancel:
        """Call ``notify`` once when there is more behind ``offset``; see :meth:`.Log.watch`."""
        token = object()
        with self._lock:
            tail = self._tails.get(run)
            if tail is None:
                tail = self._tails[run] = _Tail(offset, own=False)
            follows = False
            waits = offset == tail.size and not tail.ended and not tail.lost
            if waits:
                tail.watches[token] = notify
                self._idle.pop(run, None)
                follows = not tail.own and run not in self._followed
                if follows:
                    self._followed[run] = tail
        if not waits:
            notify()
            return nothing_to_cancel
        if follows:
            self._on_follow()

        def cancel() -> None:
            with self._lock:
                tail.watches.pop(token, None)
                if not tail.watches and not tail.own and self._tails.get(run) is tail:
                    self._rest(run, tail)

        return cancel

    # With the lock held

    def _take_watches(self, run: Hashable, tail: _Tail) -> list[Notify]:
        woken, tail.watches = list(tail.watches.values()), {}
        if not tail.own:
            self._rest(run, tail)
        return woken

    def _rest(self, run: Hashable, tail: _Tail) -> None:
        self._followed.pop(run, None)
        self._idle[run] = tail
        self._idle.move_to_end(run)
        while len(self._idle) > self._most:
            self._forget(next(iter(self._idle)))

    def _forget(self, run: Hashable) -> None:
        tail = self._tails.pop(run, None)
        self._idle.pop(run, None)
        self._followed.pop(run, None)
        if tail is not None:
            self._held -= len(tail.data)

    def _trim(self, tail: _Tail, count: int) -> None:
        del tail.data[:count]
        tail.base += count
        self._held -= count

    def _make_room(self, but: _Tail) -> None:
        """Keep fewer bytes: forget runs that nobody follows, then halve the tails of all runs."""
        while self._idle and self._held > self._total_bytes:
            run = next(iter(self._idle))
            if self._idle[run] is but:
                break
            self._forget(run)
        while self._held > self._total_bytes:
            # All tails are halved at once, because that makes so much room that this does not
            # happen again before as many bytes have been added.
            for tail in self._tails.values():
                self._trim(tail, (len(tail.data) + 1) // 2)


def followed(
    tails: Tails, cursor: Cursor, max_bytes: int, name: Callable[[int], Hashable] = int
) -> Batch | Cursor:
    """Read what the tails have behind ``cursor``; see :meth:`.Log.read`.

    :param name: returns the name under which a tail has the run of a number.
    :returns: the cursor from which the store has to be asked, if only the store can say.
    """
    part = cursor.part
    if part is None:
        return Batch(b"", cursor, True)
    if part > 0 or (piece := tails.read(name(-part), cursor.offset, max_bytes)) is None:
        return cursor
    if not piece.ended:
        behind = cursor.at(cursor.index, cursor.offset + len(piece.data))
        return Batch(piece.data, behind, False)
    behind = cursor.at(cursor.index + 1)
    if piece.data or behind.part is None:
        return Batch(piece.data, behind, behind.part is None)
    return behind
