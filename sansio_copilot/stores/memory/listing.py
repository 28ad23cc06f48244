"""Pages of the threads that a MemoryStore keeps, those of one owner and those of all."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from ..list_cursors import page_of, sort_key_at
from ..protocol import OwnedThreads, ThreadPage, ThreadQuery
from .threads import KeptThread


def threads_of(kept: Iterable[KeptThread], query: ThreadQuery) -> ThreadPage:
    """See :meth:`.ThreadStore.list_threads`.

    :raises UnknownCursor: for a cursor that no page of the store has given out.
    """
    behind = None
    if query.cursor is not None:
        updated_at, thread_id = sort_key_at(query.cursor)
        behind = -updated_at, thread_id
    threads = [
        thread
        for thread in kept
        if thread.answers(query) and (behind is None or _sort_key_of(thread) > behind)
    ]
    page = heapq.nsmallest(query.limit + 1, threads, key=_sort_key_of)
    return page_of([thread.record() for thread in page], query.limit)


def everyones(kept: Mapping[str, KeptThread], cursor: str | None, limit: int) -> OwnedThreads:
    """See :meth:`.AdministeredStore.threads_of_all`. The threads come in the order of their ids."""
    known = sorted(
        thread_id
        for thread_id, thread in kept.items()
        if thread.history and (cursor is None or thread_id > cursor)
    )
    page = [kept[thread_id] for thread_id in known[:limit]]
    return OwnedThreads(
        tuple([(thread.owner, thread.record()) for thread in page]),
        known[limit - 1] if len(known) > limit else None,
    )


def _sort_key_of(thread: KeptThread) -> tuple[float, str]:
    """Return the key by which lists are sorted: the last updated thread comes first."""
    return -thread.updated_at, thread.thread_id
