"""Pages of history that were read together with the one before, for the reader that asks next.

A long thread is read page by page, and to ask for a page costs more than to read it: a round trip,
or a thread that is woken. So a reader that keeps up is read for ahead: the first page alone, when
it asks where to begin, since it is waited for, then four at once, and eight.

Three rules keep that from costing more than it saves:

- What is kept has a bound for all readers together, and nobody is read for ahead beyond it. No
  cursor holds bytes: a page that was let go is read again.
- A page is kept for a moment only. So a reader learns within that moment that what it reads was
  deleted, and at once if that was done in this process (:meth:`Ahead.forget`).
- A reader that did not come in that moment takes its time, and begins anew with one page. So what
  is read in vain is never more than seven pages.
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

    :param total_bytes: bytes that are kept of all pages.
    :param seconds: for how long one is.
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
        """Bytes of the page that is read for whoever begins, as readers ask for; 0 for none."""
        with self._lock:
            self._let_go()
            has_room = self._held + self._page_bytes <= self._total_bytes
            return self._page_bytes if has_room else 0

    def begin(self, cursor: Cursor, batches: Sequence[Batch]) -> None:
        """Keep the first page of a reader that begins at ``cursor``, and what was read with it."""
        with self._lock:
            self._add(cursor, batches[0], time.monotonic() + self._seconds)
        self.keep(batches, 1)

    def take(self, cursor: Cursor, max_bytes: int) -> Batch | int:
        """The page at ``cursor``, if it is here; and else how many are to be read."""
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
        """Keep all but the first of ``batches``, which follow each other; returns that one.

        :param pages: how many were to be read.
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
