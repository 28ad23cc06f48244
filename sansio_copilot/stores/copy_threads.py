"""From one store to another: a thread's history, run by run, as a binding copies it.

A store hands out the history of a thread, and not its single runs. So the runs are told apart by
the ids of their frames, and made anew in the other store: each is opened, and closed with its
result. The new runs have other numbers, and so their frames have other ids. A reader that was cut
off in the old store is therefore sent the whole history by the new one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, cast

import attrs

from .. import json_codec
from ..runs.compacted_result import message_ids_of
from ..sse import COMPACTED_FRAME, EventId, Parser
from . import calls
from .calls import StoreCall, perform
from .optional_methods import AdministeredStore
from .protocol import (
    Kind,
    LogGone,
    RunOpened,
    RunRequest,
    RunResult,
    ThreadQuery,
    ThreadRecord,
    ThreadStore,
)

_PAGE_BYTES = 1 << 18
_PAGE_THREADS = 500


class ThreadNotCopied(Exception):
    """The history changed while it was read, or the other store refused a run of it."""


@attrs.frozen
class _CopiedRun:
    """The result of a run in the old store.

    :param events: the run's compacted events as JSON texts.
    """

    run_id: str
    events: list[bytes]
    message_ids: frozenset[str]


def list_everyones(
    store: ThreadStore,
) -> Generator[StoreCall[Any], Any, list[tuple[str | None, ThreadRecord]]]:
    """The records of all threads, each with its owner, the last updated first.

    If the store cannot list all threads (``threads_of_all``), these are the threads without an
    owner.
    """
    if not callable(getattr(store, "threads_of_all", None)):
        return [(None, record) for record in (yield from list_all(store, None))]
    administered = cast("AdministeredStore", store)
    found: dict[str, tuple[str | None, ThreadRecord]] = {}
    cursor: str | None = None
    while True:
        page = yield from perform(calls.threads_of_all(administered, cursor, _PAGE_THREADS))
        found |= {record.thread_id: (owner, record) for owner, record in page.threads}
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found.values(), key=lambda one: (-one[1].updated_at, one[1].thread_id))


def list_all(
    store: ThreadStore, owner: str | None
) -> Generator[StoreCall[Any], Any, list[ThreadRecord]]:
    """The records of all threads of ``owner``, the last updated first."""
    records: list[ThreadRecord] = []
    query = ThreadQuery(owner=owner)
    while True:
        page = yield from perform(calls.list_threads(store, query))
        records += page.threads
        if page.next_cursor is None:
            return records
        query = attrs.evolve(query, cursor=page.next_cursor)


def copy_thread(
    source: ThreadStore, target: ThreadStore, record: ThreadRecord, owner: str | None
) -> Generator[StoreCall[Any], Any, bool]:
    """Copy a thread, unless the other store has one of its id already.

    :param record: the thread's line in the list of the old store.
    :returns: whether it was copied.
    :raises ThreadNotCopied: if it cannot be copied for now.
    """
    thread_id = record.thread_id
    present = yield from perform(calls.read_history(target, thread_id, "frames", None, 1, owner))
    if isinstance(present, LogGone) or present.data:
        return False
    frames = yield from _history(source, thread_id, "frames", owner)
    messages = yield from _history(source, thread_id, "messages", owner)
    state = yield from _history(source, thread_id, "state", owner)
    runs = list(_runs(frames))
    for index, run in enumerate(runs):
        is_last = index == len(runs) - 1
        ended_at = record.updated_at if is_last else record.created_at
        request = RunRequest(
            thread_id, run.run_id, record.agent_id, opened_at=ended_at, owner=owner
        )
        opened = yield from perform(calls.open_run(target, request))
        if not isinstance(opened, RunOpened):
            raise ThreadNotCopied(f"a run of thread {thread_id!r} is live in the other store")
        token = opened.key.token.encode()
        copied = [COMPACTED_FRAME % (token, place, data) for place, data in enumerate(run.events)]
        result = RunResult(
            b"".join(copied),
            messages if is_last and messages != b"[]" else None,
            state if is_last and state else None,
            run.message_ids,
            ended_at,
            record.waits_for if is_last else None,
        )
        yield from perform(calls.close_run(target, opened.key, 0, b"", result))
    changes = {"name": record.name, "archived": record.archived}
    yield from perform(calls.update_thread(target, thread_id, changes, owner))
    return True


def _history(
    store: ThreadStore, thread_id: str, kind: Kind, owner: str | None
) -> Generator[StoreCall[Any], Any, bytes]:
    data, cursor = b"", None
    while True:
        page = yield from perform(
            calls.read_history(store, thread_id, kind, cursor, _PAGE_BYTES, owner)
        )
        if isinstance(page, LogGone):
            raise ThreadNotCopied(f"thread {thread_id!r} has changed while it was copied")
        data, cursor = data + page.data, page.cursor
        if page.ended:
            return data


def _runs(frames: bytes) -> Iterator[_CopiedRun]:
    """The runs that compacted frames come from, each of which has ids with a token of its own."""
    token: str | None = None
    events: list[bytes] = []
    for event in Parser().feed(frames):
        event_id = EventId.parse(event.id)
        of = "" if event_id is None else event_id.token
        if of != token and events:
            yield _run(events)
            events = []
        token = of
        events.append(event.data.encode("utf-8", "surrogatepass"))
    # The last run is never empty, because a listed thread has at least one run, and a run leaves at
    # least one event.
    yield _run(events)


def _run(events: list[bytes]) -> _CopiedRun:
    parsed = [json_codec.decode(text) for text in events]
    run_id = next((str(each["runId"]) for each in parsed if each["type"] == "RUN_STARTED"), "")
    return _CopiedRun(run_id, events, message_ids_of(parsed))
