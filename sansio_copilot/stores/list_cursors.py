"""The cursors of lists of threads, which clients are given and send back.

A list has the last updated thread first. A cursor names the thread in front of its place and not a
count, so that it does not shift when new threads come.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

from .. import json_codec
from .protocol import ThreadPage, ThreadRecord, UnknownCursor


def page_of(found: Sequence[ThreadRecord], limit: int) -> ThreadPage:
    """A page of at most ``limit`` threads.

    :param found: the threads from the page's first one on; more than ``limit`` if there is another
        page.
    """
    threads = tuple(found[:limit])
    if len(found) <= limit:
        return ThreadPage(threads)
    return ThreadPage(threads, cursor_behind(threads[-1].updated_at, threads[-1].thread_id))


def cursor_behind(updated_at: float, thread_id: str) -> str:
    """The cursor of the page that begins behind the thread with that time and id."""
    sort_key = json_codec.encode([updated_at, thread_id])
    return base64.urlsafe_b64encode(sort_key).decode().rstrip("=")


def sort_key_at(cursor: str) -> tuple[float, str]:
    """Return the time and id that :func:`cursor_behind` was given, by which lists are sorted.

    :raises UnknownCursor: if that function has not made ``cursor``.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        updated_at, thread_id = json_codec.decode(base64.urlsafe_b64decode(padded))
        # The time must be a finite number, because databases differ in how they compare NaN, and
        # float() reads NaN from a text.
        if isinstance(thread_id, str) and not isinstance(updated_at, str):
            time = float(updated_at)
            if math.isfinite(time):
                return time, thread_id
    except (ValueError, TypeError, OverflowError):
        pass
    raise UnknownCursor("it is no cursor of this store")
