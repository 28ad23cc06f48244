"""The calls that change threads, each as round trips: commands out, replies in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sansio_copilot.stores.protocol import ThreadRecord

from ..database_values import from_bytes, owner_to_bytes, to_bytes
from ..retention import Evictions
from ..round_trips import RoundTrips
from . import scripts
from .names import Names, from_owner_and_thread
from .reads import record, scored_members
from .runs import Runs, delist, listing

_AT_ONCE = 100
_FEW = 8


def update(
    names: Names, thread_id: str, changes: Mapping[str, Any], owner: str | None
) -> RoundTrips[ThreadRecord | None]:
    """See :meth:`.ThreadStore.update_thread`."""
    name = changes.get("name")
    how = ("unset" if name is None else "set") if "name" in changes else ""
    archived = str(int(changes["archived"])) if "archived" in changes else ""
    (row,) = yield [
        (
            *(scripts.UPDATE, names.thread(thread_id), names.processes, owner_to_bytes(owner)),
            *(how, to_bytes(name or ""), archived),
        )
    ]
    return record(row) if row else None


def claim(names: Names, thread_id: str, owner: str) -> RoundTrips[bool]:
    """See :meth:`.AdministeredStore.claim_thread`."""
    nobody, whose = owner_to_bytes(None), owner_to_bytes(owner)
    (thread,) = yield [(scripts.GIVE, names.thread(thread_id), names.processes, nobody, whose)]
    if not thread:
        return False
    if listed := listing(names, thread):
        yield listed
    yield from delist(names, nobody, to_bytes(thread_id))
    return True


def delete(runs: Runs, thread_id: str, owner: str | None) -> RoundTrips[bool]:
    """See :meth:`.ThreadStore.delete_thread`."""
    return (yield from _delete(runs, to_bytes(thread_id), owner_to_bytes(owner), "0", "0"))


def clear(runs: Runs, owner: str | None) -> RoundTrips[None]:
    """See :meth:`.ThreadStore.clear`."""
    key = owner_to_bytes(owner)
    while True:
        (members,) = yield [("ZRANGE", runs.names.listed(key), 0, _AT_ONCE - 1)]
        if not members:
            return
        for thread_id in members:
            yield from _delete(runs, thread_id, key, "1", "0")


def retire(runs: Runs, evictions: Evictions) -> RoundTrips[bool]:
    """Evict the threads that were not updated for the longest time, if the bounds are exceeded.

    :returns: whether there may be more to do.
    """
    names, bounds = runs.names, runs.retention
    count, found, memory, now = yield [
        ("ZCARD", names.threads),
        ("ZRANGE", names.threads, 0, _AT_ONCE - 1, "WITHSCORES"),
        ("INFO", "memory"),
        ("TIME",),
    ]
    goes = max(count - bounds.max_threads, 0)
    if memory["used_memory"] > bounds.max_bytes:
        # The loop drops a few threads and measures again, because the size of a thread is not known
        # before.
        goes = max(goes, _FEW)
    oldest = int(now[0]) - bounds.max_age
    gone = 0
    for index, (updated, member) in enumerate(scored_members(found)):
        if index < goes or updated < oldest:
            owner, thread_id = from_owner_and_thread(member)
            gone += yield from _delete(runs, thread_id, owner, "1", "1")
    evictions.add(gone)
    return gone > 0


def _delete(
    runs: Runs, thread_id: bytes, owner: bytes, keeps_open: str, spares_open: str
) -> RoundTrips[bool]:
    names = runs.names
    resume = max(int(runs.retention.resume_seconds), 1)
    (outcome,) = yield [
        (
            *(scripts.DELETE, names.thread(from_bytes(thread_id)), names.processes, owner),
            *(keeps_open, resume, spares_open),
        )
    ]
    if outcome != b"spared":
        # The list may still name a thread that is gone, because the process that deleted it died.
        yield from delist(names, owner, thread_id)
    return bool(outcome == b"deleted")
