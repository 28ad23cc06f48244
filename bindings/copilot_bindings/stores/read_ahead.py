"""Pages of history that were read before a reader asks for them, together with an earlier page.

A long thread is read page by page, and asking for a page costs more than reading it: a round trip,
or the wake-up of an operating system thread. So pages are read ahead for a reader that keeps up.
The first page is read alone, when the reader asks where to begin, because the reader waits for it;
then four pages are read at once, and then eight.

Three rules keep this from costing more than it saves:

- The pages of all readers together have a bound, and no page is read ahead beyond it. No cursor
  holds bytes: a page that was let go is read again.
- A page is kept for a moment only. So a reader learns within that moment that its history was
  deleted, and at once if this process has deleted it (:meth:`Ahead.forget`).
- A reader that does not ask within that moment is slow, and begins anew with one page. So at most
  seven pages are read in vain.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import attrs

from sansio_copilot.stores.protocol import Batch

from .cursors import Cursor

_MOST_PAGES = 8
_FASTER = 4
_Key: TypeAlias = tuple[int, int, int]


@attrs.frozen(eq=False)
class _Kept:
    """The page that is kept for a cursor.

    :param parts: the parts of the cursor; a reference keeps them alive, because their identity is
        in the key.
    :param kept: the page; or, behind the last page that was read, the number of pages to read next.
    """

    parts: tuple[int, ...]
    kept: Batch | int
    until: float

    @property
    def size(self) -> int:
        return 0 if isinstance(self.kept, int) else len(self.kept.data)


class Ahead:
    """The pages of one store in one process. May be used from any thread.

    :param total_bytes: the bytes that all pages together may have.
    :param seconds: the seconds for which a page is kept.
    """

    def __init__(self, total_bytes: int = 8 * 1024**2, seconds: float = 1.0) -> None:
        self._total_bytes = total_bytes
        self._seconds = seconds
        self._lock = threading.Lock()
        # The page that was kept first goes first, because all are kept for the same time.
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._held = 0
        self._page_bytes = 0

    def room(self) -> int:
        """Return the size in bytes of the page to read for a reader that begins, as readers have
        asked for; 0 if no page is to be read."""
        with self._lock:
            self._let_go()
            has_room = self._held + self._page_bytes <= self._total_bytes
            return self._page_bytes if has_room else 0

    def begin(self, cursor: Cursor, batches: Sequence[Batch]) -> None:
        """Keep the first page of a reader that begins at ``cursor``, and the pages read with it."""
        with self._lock:
            self._add(cursor, batches[0], time.monotonic() + self._seconds)
        self.keep(batches, 1)

    def take(self, cursor: Cursor, max_bytes: int) -> Batch | int:
        """Return the page at ``cursor`` if it is here; otherwise the number of pages to read."""
        with self._lock:
            self._page_bytes = max_bytes
            self._let_go()
            found = self._kept.pop(_key(cursor), None)
            if found is not None:
                self._held -= found.size
                if isinstance(found.kept, int):
                    has_room = self._held + found.kept * max_bytes <= self._total_bytes
                    return found.kept if has_room else 1
                if len(found.kept.data) <= max_bytes:
                    return found.kept
            return 1

    def keep(self, batches: Sequence[Batch], pages: int) -> Batch:
        """Keep all but the first of ``batches``, which follow each other; returns the first.

        :param pages: the number of pages that were to be read.
        """
        until = time.monotonic() + self._seconds
        with self._lock:
            for before, batch in pairwise(batches):
                self._add(before.cursor, batch, until)
            self._go_on(batches[-1].cursor, pages, until)
        return batches[0]

    def forget(self) -> None:
        """Forget all pages, because the frames in them may have been deleted."""
        with self._lock:
            self._kept.clear()
            self._held = 0

    def _go_on(self, cursor: Cursor, pages: int, until: float) -> None:
        # The pages end with history, because nobody reads ahead of live runs.
        if (cursor.part or 0) > 0:
            self._add(cursor, min(_FASTER * pages, _MOST_PAGES), until)

    def _add(self, cursor: Cursor, what: Batch | int, until: float) -> None:
        key, kept = _key(cursor), _Kept(cursor.parts, what, until)
        if (older := self._kept.pop(key, None)) is not None:
            self._held -= older.size
        if self._held + kept.size > self._total_bytes:
            return
        self._kept[key] = kept
        self._held += kept.size

    def _let_go(self) -> None:
        now = time.monotonic()
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if kept.until > now:
                break
            del self._kept[key]
            self._held -= kept.size


def _key(cursor: Cursor) -> _Key:
    return id(cursor.parts), cursor.index, cursor.offset
