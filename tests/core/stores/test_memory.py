"""MemoryStore: what a thread log keeps, what its readers see, and what it lets go."""

from __future__ import annotations

import gc
import logging
import math
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from support.owner import ThreadHistory, append, close, history_of, threads_of
from support.sse_frames import frame

from sansio_copilot.stores.memory import MemoryStore
from sansio_copilot.stores.memory.eviction import Room
from sansio_copilot.stores.memory.streams import Cursor, RunStream, read
from sansio_copilot.stores.memory.threads import MESSAGE_ID_BYTES, RUN_BYTES, THREAD_BYTES
from sansio_copilot.stores.protocol import (
    Batch,
    LogGone,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadOfAnother,
    ThreadQuery,
    ThreadRecord,
    UnknownCursor,
)


def compacted(key: RunKey, *data: str) -> bytes:
    return b"".join(frame(key, f"c{index}", text) for index, text in enumerate(data))


def opened(
    store: MemoryStore, thread_id: str = "t", run_id: str = "r", *message_ids: str
) -> RunOpened:
    outcome = store.open_run(RunRequest(thread_id, run_id, "agent", message_ids, 1.0))
    assert isinstance(outcome, RunOpened)
    return outcome


def add_run(
    store: MemoryStore,
    thread_id: str = "t",
    run_id: str = "r",
    *,
    frames: int = 2,
    result: RunResult | None = None,
) -> RunKey:
    """A whole run of ``frames`` raw frames, and one compacted one."""
    key = opened(store, thread_id, run_id).key
    for position in range(frames - 1):
        append(store, key, frame(key, position, f'"{run_id}{position}"'))
    close(
        store,
        key,
        frame(key, frames - 1, f'"{run_id}{frames - 1}"'),
        result or RunResult(compacted(key, f'"{run_id}"')),
    )
    return key


def test_a_store_tells_how_many_runs_are_open() -> None:
    store = MemoryStore()
    key = opened(store).key
    assert store.open_runs == 1
    close(store, key, frame(key, 0), RunResult(b""))
    assert store.open_runs == 0


def read_all(store: MemoryStore, cursor: Any, max_bytes: int = 1 << 20) -> tuple[bytes, bool]:
    """Everything behind ``cursor`` for now, and whether it has ended."""
    data = bytearray()
    while True:
        batch = store.read(cursor, max_bytes)
        assert not isinstance(batch, LogGone)
        assert len(batch.data) <= max_bytes
        assert batch.orphan is None
        data += batch.data
        cursor = batch.cursor
        if batch.ended or not batch.data:
            return bytes(data), batch.ended


def connect(store: MemoryStore, thread_id: str = "t", after: str | None = None) -> bytes:
    return read_all(store, store.open_cursor(thread_id, after))[0]


def next_batch(store: MemoryStore, cursor: Any, max_bytes: int = 100) -> Batch:
    batch = store.read(cursor, max_bytes)
    assert isinstance(batch, Batch)
    return batch


def thread_bytes(thread_id: str = "t", name: str | None = None) -> int:
    """Return the bytes that a thread without messages counts, beside its content."""
    return THREAD_BYTES + sys.getsizeof(thread_id) + sys.getsizeof(name) + len(b"[]")


def run_bytes(run_id: str = "r", *message_ids: str) -> int:
    """Return the bytes that a run of the agent "agent" counts, beside its frames."""
    ids = sum(sys.getsizeof(message_id) + MESSAGE_ID_BYTES for message_id in message_ids)
    return RUN_BYTES + sys.getsizeof(run_id) + sys.getsizeof("agent") + ids


class Bell:
    """A notify function that counts."""

    def __init__(self) -> None:
        self.rung = 0
        self.signal: Signal | None = None

    def __call__(self, signal: Signal | None = None) -> None:
        self.rung += 1
        self.signal = signal


class TestKey:
    def test_a_token_is_the_number_and_a_checksum_of_the_id(self) -> None:
        assert RunKey("t", 7, "run").token == "7.5076a4c0"

    @pytest.mark.parametrize("run_id", ["", "a\nb\r\0", "\ud800", "ü\u2028", "x" * 10_000])
    def test_a_token_is_short_ascii_whatever_the_client_calls_its_run(self, run_id: str) -> None:
        token = RunKey("t", 1, run_id).token
        assert token.isascii()
        assert token.isprintable()
        assert len(token) == 10

    def test_the_thread_is_no_part_of_a_token(self) -> None:
        assert RunKey("t", 1, "r").token == RunKey("u", 1, "r").token


class TestLimits:
    @pytest.mark.parametrize(
        "name", ["max_threads", "max_runs_per_thread", "max_bytes", "resumable_runs"]
    )
    @pytest.mark.parametrize("value", [-1, 1.5, "1", None, True, -math.inf, math.nan])
    def test_a_limit_is_a_count_or_infinite(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"{name} must be a non-negative int or math.inf"):
            MemoryStore(**{name: value})

    @pytest.mark.parametrize("value", [0, 1, math.inf])
    def test_any_count_is_a_limit(self, value: float) -> None:
        MemoryStore(
            max_threads=value, max_runs_per_thread=value, max_bytes=value, resumable_runs=value
        )

    def test_there_are_two_ways_to_meet_a_busy_thread(self) -> None:
        with pytest.raises(ValueError, match=r"^on_concurrent_run is .*, not 'queue'$"):
            MemoryStore(on_concurrent_run="queue")  # type: ignore[arg-type]

    def test_a_memory_store_answers_at_once(self) -> None:
        assert MemoryStore().blocking is False


class TestOwner:
    def test_a_run_is_opened_appended_to_and_closed(self) -> None:
        store = MemoryStore()
        run = opened(store)
        assert run.lease is None
        assert append(store, run.key, b"id: a\ndata: 1\n\n") is Signal.CONTINUE
        assert store.renew(run.key) is Signal.CONTINUE
        close(store, run.key, b"id: b\ndata: 2\n\n", RunResult(b"compact"))
        assert read_all(store, run.cursor) == (b"id: a\ndata: 1\n\nid: b\ndata: 2\n\n", True)
        assert history_of(store, "t").frames == b"compact"

    def test_the_numbers_of_runs_rise(self) -> None:
        store = MemoryStore()
        first, second = add_run(store), add_run(store)
        assert (first.thread_id, first.run_id) == ("t", "r") == (second.thread_id, second.run_id)
        assert first.seq < second.seq

    def test_no_number_comes_twice_when_a_thread_was_let_go(self) -> None:
        store = MemoryStore()
        first = add_run(store)
        store.clear()
        second = opened(store).key
        assert second != first
        close(store, second, b"", None)
        assert opened(store).key not in (first, second)

    def test_a_superseded_owner_cannot_write_into_a_namesake(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede")
        first = opened(store, run_id="r")
        close(store, opened(store, run_id="other").key, b"", None)
        namesake = opened(store, run_id="r")
        append(store, first.key, b"data: first\n\n")
        close(store, first.key, b"", None)
        assert read_all(store, namesake.cursor) == (b"", False)

    def test_a_closed_run_takes_nothing_more(self) -> None:
        store = MemoryStore()
        run = opened(store)
        close(store, run.key, b"end", RunResult(b"compact"))
        assert append(store, run.key, b"more", RunResult(b"other")) is Signal.SEALED
        assert store.renew(run.key) is Signal.SEALED
        close(store, run.key, b"another end", None)
        assert read_all(store, run.cursor) == (b"end", True)
        assert history_of(store, "t").frames == b"compact"

    def test_a_run_that_nobody_opened_is_closed(self) -> None:
        store = MemoryStore()
        key = RunKey("t", 1, "r")
        assert append(store, key, b"x") is Signal.SEALED
        close(store, key, b"x", RunResult(b"x"))
        assert store.total_bytes == 0
        assert threads_of(store) == []

    def test_a_run_without_a_result_leaves_nothing(self) -> None:
        store = MemoryStore()
        run = opened(store)
        append(store, run.key, b"data: 1\n\n")
        close(store, run.key, b"data: 2\n\n", None)
        assert read_all(store, run.cursor) == (b"data: 1\n\ndata: 2\n\n", True)
        assert store.open_cursor("t", None) == store.open_cursor("unknown", None)
        assert store.total_bytes == len(b"data: 1\n\ndata: 2\n\n")
        # The reader of the run itself has gone.
        del run
        assert store.total_bytes == 0

    def test_a_run_without_a_result_keeps_the_history_before_it(self) -> None:
        store = MemoryStore()
        add_run(store)
        before = store.total_bytes, history_of(store, "t")
        run = opened(store)
        append(store, run.key, b"data: 1\n\n")
        close(store, run.key, b"data: 2\n\n", None)
        del run
        assert (store.total_bytes, history_of(store, "t")) == before

    def test_the_request_says_which_messages_history_has(self) -> None:
        store = MemoryStore()
        add_run(store, result=RunResult(b"1", message_ids=frozenset("ab")))
        add_run(store, result=RunResult(b"2", message_ids=frozenset("bc")))
        assert opened(store, "t", "r", "a", "b", "c", "d").known_message_ids == {"a", "b", "c"}
        assert opened(store, "u", "r", "a", "b", "c", "d").known_message_ids == frozenset()

    def test_messages_of_an_evicted_run_are_history_no_more(self) -> None:
        store = MemoryStore(max_runs_per_thread=1)
        add_run(store, result=RunResult(b"1", message_ids=frozenset("ab")))
        add_run(store, result=RunResult(b"2", message_ids=frozenset("bc")))
        assert opened(store, "t", "r", "a", "b", "c").known_message_ids == {"b", "c"}


class TestSignals:
    def test_a_stop_reaches_the_owner(self) -> None:
        store, bell = MemoryStore(), Bell()
        run = opened(store)
        store.watch_run(run.key, bell)
        assert bell.rung == 0
        assert store.request_stop("t", None) is True
        assert bell.rung == 1
        assert store.renew(run.key) is Signal.STOP
        assert append(store, run.key, b"data: 1\n\n") is Signal.STOP
        assert read_all(store, run.cursor) == (b"data: 1\n\n", False)

    def test_a_stop_is_asked_for_once(self) -> None:
        store = MemoryStore()
        opened(store)
        assert store.request_stop("t", "r") is True
        assert store.request_stop("t", "r") is False
        assert store.request_stop("t", None) is False

    @pytest.mark.parametrize(("thread_id", "run_id"), [("u", None), ("t", "other"), ("u", "r")])
    def test_a_stop_means_one_run(self, thread_id: str, run_id: str | None) -> None:
        store = MemoryStore()
        run = opened(store)
        assert store.request_stop(thread_id, run_id) is False
        assert store.renew(run.key) is Signal.CONTINUE

    def test_an_ended_run_cannot_be_stopped(self) -> None:
        store = MemoryStore()
        add_run(store)
        assert store.request_stop("t", None) is False

    def test_a_watch_tells_at_once_what_has_happened_already(self) -> None:
        store, stopped, closed = MemoryStore(), Bell(), Bell()
        run = opened(store)
        store.request_stop("t", None)
        store.watch_run(run.key, stopped)()
        assert stopped.rung == 1
        close(store, run.key, b"", None)
        store.watch_run(run.key, closed)()
        assert closed.rung == 1

    def test_a_cancelled_watch_is_silent(self) -> None:
        store, bell = MemoryStore(), Bell()
        store.watch_run(opened(store).key, bell)()
        assert store.request_stop("t", None) is True
        assert bell.rung == 0

    def test_an_owner_may_close_its_run_while_it_is_being_told(self) -> None:
        store = MemoryStore()
        run = opened(store)
        store.watch_run(run.key, lambda _: close(store, run.key, b"end", RunResult(b"c")))
        assert store.request_stop("t", None) is True
        assert read_all(store, run.cursor) == (b"end", True)
        opened(store)


class TestConcurrentRuns:
    def test_a_busy_thread_refuses_a_second_run_and_leaves_the_first_alone(self) -> None:
        store, bell = MemoryStore(), Bell()
        run = opened(store)
        store.watch_run(run.key, bell)
        assert store.open_run(RunRequest("t", "second", "agent")) == ThreadBusy("r")
        assert append(store, run.key, b"data: 1\n\n") is Signal.CONTINUE
        assert bell.rung == 0
        assert next_batch(store, store.open_cursor("t", None), 100).data == b"data: 1\n\n"
        assert store.request_stop("t", "r")
        assert bell.rung == 1
        opened(store, "another thread")

    def test_a_thread_that_was_asked_to_stop_is_busy_still(self) -> None:
        store = MemoryStore()
        opened(store)
        store.request_stop("t", None)
        assert store.open_run(RunRequest("t", "second", "agent")) == ThreadBusy("r")

    def test_superseding_stops_the_live_run(self) -> None:
        store, bell = MemoryStore(on_concurrent_run="supersede"), Bell()
        first = opened(store, run_id="first")
        follower = store.open_cursor("t", None)
        append(store, first.key, b"data: 1\n\n")
        store.watch_run(first.key, bell)
        second = opened(store, run_id="second")
        assert bell.rung == 1
        # A reader that follows the first run sees it to its end, and then the second.
        newcomer = store.open_cursor("t", None)
        assert append(store, first.key, b"data: 2\n\n") is Signal.STOP
        append(store, second.key, b"data: new\n\n")
        assert read_all(store, newcomer) == (b"data: 1\n\ndata: 2\n\n", False)
        close(store, first.key, b"data: 3\n\n", RunResult(b"compact"))
        old = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
        for cursor in (first.cursor, follower):
            assert read_all(store, cursor) == (old, True)
        assert read_all(store, newcomer) == (old + b"data: new\n\n", False)
        # The superseded run is history like any run that was stopped.
        assert connect(store) == b"compact" + b"data: new\n\n"
        assert history_of(store, "t") == ThreadHistory(b"compact")

    def test_a_newcomer_waits_for_the_superseded_run_first(self) -> None:
        store, bell = MemoryStore(on_concurrent_run="supersede"), Bell()
        first, second = opened(store, run_id="first"), opened(store, run_id="second")
        append(store, second.key, b"data: new\n\n")
        cursor = store.open_cursor("t", None)
        store.watch(cursor, bell)
        assert (next_batch(store, cursor).data, bell.rung) == (b"", 0)
        close(store, first.key, b"data: 1\n\n", RunResult(b"compact"))
        assert bell.rung == 1
        assert read_all(store, cursor) == (b"data: 1\n\ndata: new\n\n", False)

    @pytest.mark.parametrize("resumable_runs", [0, 1, 2, 4])
    def test_history_is_in_the_order_of_the_beginnings(self, resumable_runs: int) -> None:
        store = MemoryStore(on_concurrent_run="supersede", resumable_runs=resumable_runs)
        runs = [opened(store, run_id=run_id) for run_id in "abc"]
        # The last one ends first, and has the last word about messages and state.
        for run in reversed(runs):
            run_id = run.key.run_id
            said = f'["{run_id}"]'.encode()
            ids = frozenset({run_id})
            end = frame(run.key, 0, f'"{run_id}"')
            result = RunResult(compacted(run.key, f'"{run_id}"'), said, said, ids, run.key.seq)
            close(store, run.key, end, result)
        whole = b"".join(compacted(run.key, f'"{run.key.run_id}"') for run in runs)
        assert connect(store) == whole
        assert history_of(store, "t") == ThreadHistory(whole, b'["c"]', b'["c"]')
        assert threads_of(store) == [ThreadRecord("t", "agent", 3.0, 3.0)]
        assert opened(store, "t", "r", *"abcd").known_message_ids == set("abc")
        # Raw frames are those of the newest.
        for index, run in enumerate(runs):
            behind = whole.partition(compacted(run.key, f'"{run.key.run_id}"'))[2]
            expected = whole if index < 3 - resumable_runs else behind
            assert connect(store, after=f"{run.key.token}.0") == expected

    def test_a_superseded_run_that_ends_late_may_be_too_old_already(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede", max_runs_per_thread=1)
        first, second = opened(store, run_id="first"), opened(store, run_id="second")
        close(store, second.key, b"", RunResult(compacted(second.key, "2")))
        close(store, first.key, b"x", RunResult(compacted(first.key, "1")))
        assert connect(store) == compacted(second.key, "2")
        del first, second
        raw_and_replay = len(compacted(RunKey("t", 2, "second"), "2"))
        assert store.total_bytes == thread_bytes() + run_bytes("second") + raw_and_replay

    def test_a_superseded_run_keeps_its_thread(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede", max_threads=1)
        first, second = opened(store), opened(store)
        close(store, second.key, b"", None)
        add_run(store, "other")
        append(store, first.key, b"data: 1\n\n")
        close(store, first.key, b"", RunResult(b"x"))
        assert connect(store) == b"x"
        assert [record.thread_id for record in threads_of(store)] == ["t"]

    def test_a_superseded_run_may_be_deleted_with_the_run_that_superseded_it(self) -> None:
        store, bell = MemoryStore(on_concurrent_run="supersede"), Bell()
        first, second = opened(store), opened(store)
        store.watch_run(second.key, bell)
        assert store.delete_thread("t")
        assert bell.rung == 1
        for run in (first, second):
            assert append(store, run.key, b"data: 1\n\n") is Signal.STOP
            close(store, run.key, b"", RunResult(b"x"))
        assert threads_of(store) == []
        assert connect(store) == b""
        del run, first, second
        assert store.total_bytes == 0

    def test_a_stop_means_the_run_that_superseded(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede")
        opened(store, run_id="first")
        second = opened(store, run_id="second")
        assert store.request_stop("t", "first") is False
        assert store.request_stop("t", "second") is True
        assert store.renew(second.key) is Signal.STOP

    def test_the_new_run_is_there_when_the_superseded_owner_hears_of_it(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede")
        first = opened(store)
        store.watch_run(first.key, lambda _: close(store, first.key, b"", RunResult(b"x")))
        second = opened(store)
        assert store.renew(second.key) is Signal.CONTINUE
        assert store.renew(first.key) is Signal.SEALED


@pytest.mark.parametrize("policy", ["reject", "supersede"])
@pytest.mark.parametrize("resumable_runs", [0, 4])
class TestSealing:
    """A run with its terminal event in the log, whose agent still cleans up."""

    def test_the_next_run_seals_a_run_with_its_terminal_event(
        self, policy: Any, resumable_runs: int
    ) -> None:
        store = MemoryStore(on_concurrent_run=policy, resumable_runs=resumable_runs)
        bell, reader = Bell(), Bell()
        run = opened(store)
        store.watch_run(run.key, bell)
        result = RunResult(b"compact", b"[1]", b"{}", frozenset("m"), 5.0)
        assert append(store, run.key, b"end", result) is Signal.CONTINUE
        batch = next_batch(store, run.cursor, 100)
        assert (batch.data, batch.ended) == (b"end", False)
        store.watch(batch.cursor, reader)

        following = opened(store, "t", "next", "m")

        assert following.known_message_ids == {"m"}
        assert (bell.rung, reader.rung) == (1, 1)
        assert next_batch(store, batch.cursor, 100).ended
        assert store.renew(run.key) is Signal.SEALED
        assert append(store, run.key, b"more") is Signal.SEALED
        close(store, run.key, b"more", None)
        assert history_of(store, "t") == ThreadHistory(b"compact", b"[1]", b"{}")
        assert threads_of(store) == [ThreadRecord("t", "agent", 5.0, 5.0)]
        assert connect(store) == b"compact"

    def test_a_run_with_its_terminal_event_is_live_until_then(
        self, policy: Any, resumable_runs: int
    ) -> None:
        store = MemoryStore(on_concurrent_run=policy, resumable_runs=resumable_runs)
        run = opened(store)
        append(store, run.key, b"end", RunResult(b"compact"))
        assert connect(store) == b"end"
        assert history_of(store, "t") == ThreadHistory()
        assert store.request_stop("t", None) is True

    def test_more_frames_make_a_run_busy_again(self, policy: Any, resumable_runs: int) -> None:
        store = MemoryStore(on_concurrent_run=policy, resumable_runs=resumable_runs)
        run = opened(store)
        append(store, run.key, b"end", RunResult(b"compact"))
        append(store, run.key, b"and on")
        outcome = store.open_run(RunRequest("t", "next", "agent"))
        assert isinstance(outcome, ThreadBusy) == (policy == "reject")
        close(store, run.key, b"", None)
        assert read_all(store, run.cursor) == (b"endand on", True)


class TestReading:
    def test_a_thread_that_nobody_knows_has_ended(self) -> None:
        store = MemoryStore()
        batch = next_batch(store, store.open_cursor("t", "1.00000000.0"), 100)
        assert (batch.data, batch.ended) == (b"", True)

    def test_history_comes_compacted_and_the_live_run_raw(self) -> None:
        store = MemoryStore()
        first, second = add_run(store, run_id="first"), add_run(store, run_id="second")
        live = opened(store, run_id="live")
        append(store, live.key, frame(live.key, 0))
        cursor = store.open_cursor("t", None)
        replay = compacted(first, '"first"') + compacted(second, '"second"')
        assert read_all(store, cursor) == (replay + frame(live.key, 0), False)
        close(store, live.key, frame(live.key, 1), RunResult(b"compact"))
        whole = replay + frame(live.key, 0) + frame(live.key, 1)
        assert read_all(store, cursor) == (whole, True)
        assert connect(store) == replay + b"compact"

    @pytest.mark.parametrize("max_bytes", [1, 2, 3, 7, 1000])
    def test_slices_of_a_log_add_up(self, max_bytes: int) -> None:
        store = MemoryStore()
        for run_id in "abc":
            add_run(store, run_id=run_id)
        add_run(store, run_id="empty", result=RunResult(b""))
        live = opened(store)
        append(store, live.key, "data: é\u2028\n\n".encode())
        whole = connect(store)
        assert read_all(store, store.open_cursor("t", None), max_bytes) == (whole, False)
        close(store, live.key, b"", RunResult(b""))
        assert read_all(store, live.cursor, max_bytes) == ("data: é\u2028\n\n".encode(), True)

    def test_the_last_slice_says_that_it_is(self) -> None:
        store = MemoryStore()
        run = opened(store)
        close(store, run.key, b"12", None)
        first = next_batch(store, run.cursor, 1)
        assert (first.data, first.ended) == (b"1", False)
        last = next_batch(store, first.cursor, 1)
        assert (last.data, last.ended) == (b"2", True)
        assert next_batch(store, last.cursor, 1).data == b""

    def test_a_cursor_can_be_read_again(self) -> None:
        store = MemoryStore()
        add_run(store)
        cursor = store.open_cursor("t", None)
        assert store.read(cursor, 5) == store.read(cursor, 5)


class TestLettingGo:
    """A reader is no claim to memory: what the store lets go of is gone for its readers, too."""

    def test_the_reader_of_an_evicted_thread_is_told(self) -> None:
        store = MemoryStore(max_threads=1)
        key = add_run(store)
        replay = store.open_cursor("t", None)
        begun = next_batch(store, replay, 5)
        assert begun.data == compacted(key, '"r"')[:5]
        add_run(store, "other")
        for cursor in (replay, begun.cursor):
            assert store.read(cursor, 100) == LogGone()
            bell = Bell()
            store.watch(cursor, bell)
            assert bell.rung == 1

    @pytest.mark.parametrize("forget", [lambda store: store.delete_thread("t"), MemoryStore.clear])
    def test_the_reader_of_a_deleted_or_cleared_thread_is_told(
        self, forget: Callable[..., Any]
    ) -> None:
        store = MemoryStore()
        add_run(store)
        replay = store.open_cursor("t", None)
        forget(store)
        assert store.read(replay, 100) == LogGone()
        assert store.total_bytes == 0

    def test_the_reader_of_a_run_that_is_one_too_many_is_told(self) -> None:
        store = MemoryStore(max_runs_per_thread=2)
        add_run(store, run_id="first")
        second = add_run(store, run_id="second")
        everything, rest = store.open_cursor("t", None), store.open_cursor("t", None)
        rest = next_batch(store, rest, len(compacted(RunKey("t", 1, "first"), '"first"'))).cursor
        add_run(store, run_id="third")
        assert store.read(everything, 100) == LogGone()
        assert read_all(store, rest) == (compacted(second, '"second"'), True)

    def test_frames_that_are_still_there_are_read_first(self) -> None:
        store = MemoryStore(max_threads=1, resumable_runs=0)
        add_run(store, "a")
        key = opened(store, "b").key
        append(store, key, frame(key, 0))
        following = store.open_cursor("b", None)
        close(store, key, b"", RunResult(b"compact"))
        opened(store, "b")
        cursor = store.open_cursor("b", None)
        assert next_batch(store, cursor, 100).data == b"compact"
        assert read_all(store, following) == (frame(key, 0), True)

    def test_a_reader_who_has_read_it_all_misses_nothing(self) -> None:
        store = MemoryStore(max_threads=1)
        add_run(store)
        whole = next_batch(store, store.open_cursor("t", None), 100)
        add_run(store, "other")
        assert next_batch(store, whole.cursor).ended

    @pytest.mark.parametrize("forget", [lambda store: store.delete_thread("t"), MemoryStore.clear])
    def test_a_run_that_is_followed_is_seen_to_its_end(self, forget: Callable[..., Any]) -> None:
        store = MemoryStore(max_threads=1, max_bytes=1)
        run = opened(store)
        follower = store.open_cursor("t", None)
        append(store, run.key, b"data: 1\n\n")
        forget(store)
        opened(store, "other")
        append(store, run.key, b"data: 2\n\n")
        close(store, run.key, b"data: 3\n\n", RunResult(b"compact"))
        whole = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
        assert read_all(store, run.cursor) == (whole, True)
        assert read_all(store, follower) == (whole, True)

    @pytest.mark.parametrize("resumable_runs", [0, 1])
    def test_frames_that_are_there_for_slow_readers_only_count(self, resumable_runs: int) -> None:
        store = MemoryStore(resumable_runs=resumable_runs)
        run = opened(store)
        close(store, run.key, b"x" * 1000, RunResult(b"c"))
        add_run(store, frames=1, result=RunResult(b"c"))
        raw = len(frame(RunKey("t", 2, "r"), 0, '"r0"')) * resumable_runs
        kept = thread_bytes() + 2 * run_bytes() + 2 + raw
        assert store.total_bytes == kept + 1000
        half = next_batch(store, run.cursor, 500)
        del run
        assert store.total_bytes == kept + 1000
        assert next_batch(store, half.cursor, 500).ended
        assert store.total_bytes == kept + 1000
        del half
        assert store.total_bytes == kept

    def test_frames_for_slow_readers_go_in_their_turn(self) -> None:
        size = thread_bytes() + run_bytes() + len(b"compact")
        store = MemoryStore(max_bytes=2 * size + 3200, resumable_runs=0)
        add_run(store, "a", frames=1, result=RunResult(b"compact"))
        slow = opened(store, "b")
        close(store, slow.key, b"x" * 3000, RunResult(b"compact"))
        add_run(store, "c", frames=1, result=RunResult(b"compact"))
        assert [record.thread_id for record in threads_of(store)] == ["b", "c"]
        assert len(next_batch(store, slow.cursor, 5000).data) == 3000
        # The frames are as old as their thread, and it goes first.
        add_run(store, "d", frames=1, result=RunResult(b"compact"))
        assert [record.thread_id for record in threads_of(store)] == ["c", "d"]
        assert len(next_batch(store, slow.cursor, 5000).data) == 3000
        live = opened(store, "live")
        assert store.read(slow.cursor, 5000) == LogGone()
        assert [record.thread_id for record in threads_of(store)] == ["c", "d"]
        append(store, live.key, b"x" * 3000)
        assert [record.thread_id for record in threads_of(store)] == ["d"]

    def test_a_reader_may_go_in_another_thread_at_any_moment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reader goes between the store's look at who has gone and the release of frames."""
        store = MemoryStore(max_bytes=2000, max_runs_per_thread=0, resumable_runs=0)
        with monkeypatch.context() as racing:
            racing.setattr(Room, "reclaim", lambda room: None)
            run = opened(store, "a")
            close(store, run.key, b"x" * 1000, None)
            del run
            assert store.total_bytes == 1000
            live = opened(store, "b")
            append(store, live.key, b"x" * 1000)
            assert store.total_bytes == thread_bytes() + run_bytes() + 1000
        assert store.total_bytes == thread_bytes() + run_bytes() + 1000

    def test_frames_before_those_that_are_gone_are_read(self) -> None:
        first, second = RunStream(b"first", ended=True), RunStream(b"second", ended=True)
        cursor = Cursor((first, second))
        second.let_go()
        batch = read(cursor, 100)
        assert isinstance(batch, Batch)
        assert (batch.data, batch.ended) == (b"first", False)
        assert read(batch.cursor, 100) == LogGone()

    def test_sixty_readers_that_do_not_read_hold_no_more_than_the_bound(self) -> None:
        """The instance: each connected to another thread, of 5 MB, which was then evicted."""
        bound = 20 * 1024**2
        store = MemoryStore(max_bytes=bound)
        tracemalloc.start()
        try:
            readers = []
            for number in range(60):
                key = opened(store, str(number)).key
                append(store, key, bytes(2_500_000))
                close(store, key, b"", RunResult(bytes(2_500_000)))
                readers.append(store.open_cursor(str(number), None))
                readers.append(store.open_cursor(str(number), f"{key.token}.0"))
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert store.total_bytes <= bound
        # The buffers of streams that grow are a little longer than what is in them.
        assert held < 1.2 * bound
        told = [store.read(cursor, 10) for cursor in readers]
        assert told.count(LogGone()) == 120 - 2 * len(threads_of(store))


class TestWatching:
    def test_an_append_wakes_a_reader_who_has_read_all(self) -> None:
        store = MemoryStore()
        run = opened(store)
        bells = [Bell(), Bell()]
        for bell in bells:
            store.watch(run.cursor, bell)
        assert [bell.rung for bell in bells] == [0, 0]
        append(store, run.key, b"1")
        append(store, run.key, b"2")
        assert [bell.rung for bell in bells] == [1, 1]

    def test_the_end_of_a_run_wakes_a_reader(self) -> None:
        store, bell = MemoryStore(), Bell()
        run = opened(store)
        store.watch(run.cursor, bell)
        close(store, run.key, b"", None)
        assert bell.rung == 1

    def test_a_watch_of_frames_that_are_there_tells_at_once(self) -> None:
        store = MemoryStore()
        add_run(store)
        run = opened(store)
        bells = [Bell() for _ in range(4)]
        store.watch(store.open_cursor("t", None), bells[0])()
        append(store, run.key, b"1")
        store.watch(run.cursor, bells[1])
        close(store, run.key, b"", RunResult(b"c"))
        store.watch(next_batch(store, run.cursor, 10).cursor, bells[2])
        store.watch(store.open_cursor("unknown", None), bells[3])
        assert [bell.rung for bell in bells] == [1, 1, 1, 1]

    def test_a_cancelled_watch_of_a_log_is_silent(self) -> None:
        store, bell, other = MemoryStore(), Bell(), Bell()
        run = opened(store)
        cancel = store.watch(run.cursor, bell)
        store.watch(run.cursor, other)
        cancel()
        cancel()
        append(store, run.key, b"1")
        assert (bell.rung, other.rung) == (0, 1)

    def test_a_woken_reader_may_watch_anew_while_it_is_told(self) -> None:
        store, bell = MemoryStore(), Bell()
        run = opened(store)

        def read_on() -> None:
            store.watch(next_batch(store, run.cursor, 100).cursor, bell)

        store.watch(run.cursor, read_on)
        append(store, run.key, b"1")
        assert bell.rung == 0
        append(store, run.key, b"2")
        assert bell.rung == 1


class TestResuming:
    def test_a_reader_resumes_behind_an_event_of_the_live_run(self) -> None:
        store = MemoryStore()
        add_run(store, run_id="before")
        key = opened(store).key
        frames = [frame(key, position) for position in range(12)]
        append(store, key, b"".join(frames))
        for position in range(12):
            after = f"{key.token}.{position}"
            assert connect(store, after=after) == b"".join(frames[position + 1 :])

    def test_a_reader_that_resumes_follows_from_there(self) -> None:
        store = MemoryStore()
        key = opened(store).key
        append(store, key, frame(key, 0))
        cursor = store.open_cursor("t", f"{key.token}.0")
        assert read_all(store, cursor) == (b"", False)
        close(store, key, frame(key, 1), RunResult(b""))
        assert read_all(store, cursor) == (frame(key, 1), True)

    def test_a_reader_resumes_behind_a_raw_event_of_an_ended_run(self) -> None:
        store = MemoryStore(resumable_runs=2)
        keys = [add_run(store, run_id=run_id, frames=3) for run_id in "abc"]
        replay = [compacted(key, f'"{key.run_id}"') for key in keys]
        for index in (1, 2):
            key, later = keys[index], b"".join(replay[index + 1 :])
            rest = frame(key, 1, f'"{key.run_id}1"') + frame(key, 2, f'"{key.run_id}2"') + later
            assert connect(store, after=f"{key.token}.0") == rest
            assert connect(store, after=f"{key.token}.2") == later
        # The raw frames of the first are gone, so it is everything rather than a gap.
        assert connect(store, after=f"{keys[0].token}.0") == b"".join(replay)

    def test_no_raw_frames_are_kept_if_no_run_is_resumable(self) -> None:
        store = MemoryStore(resumable_runs=0)
        key = add_run(store)
        assert connect(store, after=f"{key.token}.0") == compacted(key, '"r"')
        assert store.total_bytes == thread_bytes() + run_bytes() + len(compacted(key, '"r"'))

    def test_all_raw_frames_are_kept_if_all_runs_are_resumable(self) -> None:
        store = MemoryStore(resumable_runs=math.inf)
        keys = [add_run(store) for _ in range(10)]
        assert connect(store, after=f"{keys[0].token}.0").startswith(frame(keys[0], 1, '"r1"'))

    @pytest.mark.parametrize("resumable_runs", [0, 4])
    def test_a_reader_resumes_behind_a_compacted_event(self, resumable_runs: int) -> None:
        store = MemoryStore(resumable_runs=resumable_runs)
        first = opened(store).key
        close(store, first, b"", RunResult(compacted(first, "1", "2", "3")))
        second = add_run(store, run_id="second")
        last = compacted(second, '"second"')
        rest = frame(first, "c1", "2") + frame(first, "c2", "3") + last
        assert connect(store, after=f"{first.token}.c0") == rest
        assert connect(store, after=f"{first.token}.c2") == last
        assert connect(store, after=f"{second.token}.c0") == b""

    def test_a_live_run_has_no_compacted_events_to_resume_behind(self) -> None:
        store = MemoryStore()
        key = opened(store).key
        append(store, key, frame(key, 0), RunResult(compacted(key, "1")))
        cursor = store.open_cursor("t", f"{key.token}.c0")
        assert read_all(store, cursor) == (frame(key, 0), False)

    @pytest.mark.parametrize(
        "after",
        [
            "",
            ".",
            "0",
            "nonsense",
            "{token}",
            "{token}.",
            "{token}.c",
            "{token}.2",
            "{token}.00",
            "{token}.-1",
            "{token}.c1",
            "{token}.cc0",
            "{token}.\u0660",
            "{token}.²",
            "{token}.0\n",
            "{token}.0\ndata: 1",
            "{token}.\ud800",
            "{token}." + "9" * 5000,
            "1.00000000.0",
            "99{token}.0",
            " {token}.0",
        ],
    )
    def test_an_id_that_is_not_in_the_log_replays_everything(self, after: str) -> None:
        store = MemoryStore()
        key = add_run(store)
        after = after.replace("{token}", key.token)
        assert connect(store, after=after) == compacted(key, '"r"')

    def test_the_id_of_a_run_before_the_store_was_emptied_is_stale(self) -> None:
        store = MemoryStore()
        key = add_run(store)
        store.clear()
        new = add_run(store)
        assert connect(store, after=f"{key.token}.0") == compacted(new, '"r"')

    def test_an_id_in_the_data_of_a_frame_is_no_event_id(self) -> None:
        store = MemoryStore()
        key = opened(store).key
        line = f"id: {key.token}.1"
        frames = [
            frame(key, 0, f'"{line}\\n\\n{line}"'),
            frame(key, 1, "1"),
            frame(key, 10, f'"\\n{line}\\n"'),
        ]
        append(store, key, b"".join(frames))
        assert connect(store, after=f"{key.token}.1") == frames[2]
        assert connect(store, after=f"{key.token}.0") == b"".join(frames[1:])

    def test_an_id_of_another_thread_means_nothing_here(self) -> None:
        store = MemoryStore()
        other = add_run(store, "other")
        key = add_run(store)
        assert connect(store, after=f"{other.token}.0") == compacted(key, '"r"')


class TestOwners:
    """Threads of another owner are not found, by whatever method."""

    def two(self) -> MemoryStore:
        store = MemoryStore()
        for owner in ("ann", "bob"):
            run = store.open_run(RunRequest(owner, "r", "agent", owner=owner))
            assert isinstance(run, RunOpened)
            append(store, run.key, frame(run.key, 0), RunResult(compacted(run.key, "1"), b"[1]"))
        return store

    def test_the_id_of_anothers_thread_is_refused(self) -> None:
        store = self.two()
        for owner in ("bob", None):
            assert store.open_run(RunRequest("ann", "x", "a", owner=owner)) == ThreadOfAnother()

    def test_anothers_thread_is_neither_read_nor_changed(self) -> None:
        store = self.two()
        assert store.request_stop("ann", None, "bob") is False
        for owner in ("ann", "bob"):
            assert isinstance(store.open_run(RunRequest(owner, "s", "a", owner=owner)), RunOpened)
        for another in ("bob", None):
            assert read_all(store, store.open_cursor("ann", None, another)) == (b"", True)
            assert history_of(store, "ann", another) == ThreadHistory()
            assert store.update_thread("ann", {"name": "x"}, another) is None
            assert store.delete_thread("ann", another) is False
        assert [record.thread_id for record in threads_of(store, ThreadQuery("bob"))] == ["bob"]
        assert threads_of(store) == []
        store.clear()
        store.clear("bob")
        assert threads_of(store, ThreadQuery("bob")) == []
        assert history_of(store, "ann", "ann").messages == b"[1]"
        assert store.request_stop("ann", None, "ann") is True


class TestPages:
    def store(self) -> MemoryStore:
        store = MemoryStore()
        for number in range(7):
            result = RunResult(b"data: %d\n\n" % number, ended_at=float(number // 2))
            add_run(store, f"t{number}", result=result)
        store.update_thread("t3", {"archived": True})
        return store

    def test_the_last_updated_threads_come_first_page_by_page(self) -> None:
        store = self.store()
        whole = [record.thread_id for record in threads_of(store, ThreadQuery(limit=100))]
        assert whole == ["t6", "t4", "t5", "t2", "t3", "t0", "t1"]
        for limit in (1, 2, 3, 7):
            listed = threads_of(store, ThreadQuery(limit=limit))
            assert [record.thread_id for record in listed] == whole

    def test_a_page_is_not_shifted_by_new_threads(self) -> None:
        store = self.store()
        first = store.list_threads(ThreadQuery(limit=3))
        add_run(store, "new", result=RunResult(b"", ended_at=9.0))
        second = store.list_threads(ThreadQuery(limit=3, cursor=first.next_cursor))
        assert [record.thread_id for record in second.threads] == ["t2", "t3", "t0"]

    def test_a_list_has_filters(self) -> None:
        store = self.store()
        assert len(threads_of(store, ThreadQuery(archived=False, limit=2))) == 6
        assert [one.thread_id for one in threads_of(store, ThreadQuery(archived=True))] == ["t3"]
        assert threads_of(store, ThreadQuery(agent_id="other")) == []
        assert len(threads_of(store, ThreadQuery(agent_id="agent"))) == 7

    @pytest.mark.parametrize("cursor", ["", "x", "ü", "W10", "WzEsMl0", "bnVsbA", "WyJhIiwiYiJd"])
    def test_a_text_that_is_no_cursor_is_unknown(self, cursor: str) -> None:
        with pytest.raises(UnknownCursor):
            self.store().list_threads(ThreadQuery(cursor=cursor))

    def test_history_that_goes_while_it_is_read_is_told(self) -> None:
        store = MemoryStore()
        add_run(store, "t")
        page = store.read_history("t", "frames", None, 5)
        assert isinstance(page, Batch)
        store.delete_thread("t")
        assert store.read_history("t", "frames", page.cursor, 5) == LogGone()


class TestBounds:
    def test_the_least_recently_used_thread_goes_first(self) -> None:
        store = MemoryStore(max_threads=3)
        for thread_id in "abc":
            add_run(store, thread_id)
        store.open_cursor("a", None)
        add_run(store, "d")
        assert [bool(connect(store, thread_id)) for thread_id in "abcd"] == [
            True,
            False,
            True,
            True,
        ]

    def test_a_run_is_a_use_too(self) -> None:
        store = MemoryStore(max_threads=2)
        for thread_id in "abac":
            add_run(store, thread_id)
        assert sorted(record.thread_id for record in threads_of(store)) == ["a", "c"]

    def test_a_thread_with_a_live_run_stays(self) -> None:
        store = MemoryStore(max_threads=1)
        live = [opened(store, thread_id) for thread_id in "abc"]
        add_run(store, "d")
        for run in live:
            assert append(store, run.key, b"x") is Signal.CONTINUE
        # The bound holds again as soon as the runs have ended.
        for run in live:
            close(store, run.key, b"", RunResult(b""))
        assert [record.thread_id for record in threads_of(store)] == ["c"]

    def test_history_of_a_live_thread_stays(self) -> None:
        store = MemoryStore(max_threads=1)
        key = add_run(store, "a")
        opened(store, "a")
        add_run(store, "b")
        assert connect(store, "a") == compacted(key, '"r"')

    @pytest.mark.parametrize("bound", [{"max_threads": 0}, {"max_bytes": 0}])
    def test_the_thread_just_used_stays_without_any_room(self, bound: Any) -> None:
        store = MemoryStore(**bound)
        for thread_id in "abc":
            add_run(store, thread_id)
            assert [record.thread_id for record in threads_of(store)] == [thread_id]

    def test_the_oldest_run_of_a_thread_goes_first(self) -> None:
        store = MemoryStore(max_runs_per_thread=2)
        keys = [add_run(store) for _ in range(3)]
        assert connect(store) == compacted(keys[1], '"r"') + compacted(keys[2], '"r"')

    def test_messages_and_state_survive_the_run_that_made_them(self) -> None:
        store = MemoryStore(max_runs_per_thread=1)
        add_run(store, result=RunResult(b"1", b"[1]", b'{"a":1}'))
        add_run(store, result=RunResult(b"2"))
        assert history_of(store, "t") == ThreadHistory(b"2", b"[1]", b'{"a":1}')

    @pytest.mark.parametrize("bound", [0, math.inf])
    def test_there_may_be_no_limit_to_the_runs_of_a_thread(self, bound: float) -> None:
        store = MemoryStore(max_runs_per_thread=bound)
        for _ in range(150):
            add_run(store)
        assert connect(store).count(b"data:") == 150

    def test_bytes_are_bounded_while_a_run_goes_on(self) -> None:
        size = thread_bytes() + run_bytes()
        store = MemoryStore(max_bytes=3 * size + 1000, resumable_runs=0)
        add_run(store, "a", result=RunResult(b"x" * 400))
        add_run(store, "b", result=RunResult(b"x" * 400))
        live = opened(store, "l")
        append(store, live.key, b"x" * 300)
        assert [record.thread_id for record in threads_of(store)] == ["b"]
        append(store, live.key, b"x" * 50_000)
        assert threads_of(store) == []
        assert store.total_bytes == size + 50_300
        close(store, live.key, b"", None)
        del live
        assert store.total_bytes == 0

    def test_a_store_of_infinite_bounds_keeps_everything(self) -> None:
        store = MemoryStore(
            max_threads=math.inf,
            max_runs_per_thread=math.inf,
            max_bytes=math.inf,
            resumable_runs=math.inf,
        )
        for number in range(1200):
            add_run(store, str(number))
        assert len(threads_of(store)) == 1200

    @pytest.mark.parametrize(
        "bound", [{"max_threads": 1}, {"max_bytes": 1}, {"max_runs_per_thread": 1}]
    )
    def test_a_store_says_once_that_it_forgets(
        self, bound: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "sansio_copilot")
        store = MemoryStore(**bound)
        add_run(store, "a")
        assert caplog.messages == []
        for thread_id in "aabbcc":
            add_run(store, thread_id)
        store.clear()
        for thread_id in "aabb":
            add_run(store, thread_id)
        [message] = caplog.messages
        assert message.startswith("MemoryStore begins to evict")
        ((name, value),) = bound.items()
        assert f"{name}={value}" in message

    def test_each_store_says_that_it_forgets(self, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(2):
            store = MemoryStore(max_threads=1)
            add_run(store, "a")
            add_run(store, "b")
        assert len(caplog.messages) == 2


class TestAccounting:
    def test_every_byte_is_counted_once(self) -> None:
        store = MemoryStore(resumable_runs=1)
        run = opened(store)
        fixed = thread_bytes() + run_bytes()
        assert store.total_bytes == fixed
        append(store, run.key, b"x" * 100)
        assert store.total_bytes == fixed + 100
        append(store, run.key, b"y" * 10, RunResult(b"c" * 7, b"[1,2]", b"{}"))
        assert store.total_bytes == fixed + 110 + 7 + 5 + 2
        append(store, run.key, b"y" * 10)
        assert store.total_bytes == fixed + 120
        close(store, run.key, b"z", RunResult(b"c" * 8, b"[1,2]", b"{}", frozenset("m")))
        fixed = thread_bytes() + run_bytes("r", "m")
        assert store.total_bytes == fixed + 121 + 8 + (5 - 2) + 2
        del run
        add_run(store, result=RunResult(b"", b"[]", b"null"), frames=1)
        raw = len(frame(RunKey("t", 2, "r"), 0, '"r0"'))
        assert store.total_bytes == fixed + run_bytes() + 8 + raw + 0 + 4
        store.clear()
        assert store.total_bytes == 0

    def test_a_run_that_another_seals_is_counted_once(self) -> None:
        store = MemoryStore()
        run = opened(store)
        append(store, run.key, b"x" * 100, RunResult(b"c" * 7, b"[1,2]", b"{}", frozenset("m")))
        opened(store)
        total = thread_bytes() + run_bytes("r", "m") + run_bytes() + 100 + 7 + (5 - 2) + 2
        assert store.total_bytes == total
        close(store, run.key, b"late", None)
        assert store.total_bytes == total

    def test_clearing_leaves_open_runs_and_their_bytes(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede")
        add_run(store, result=RunResult(b"old", b"[1]", b"{}", frozenset("m")))
        superseded = opened(store)
        append(store, superseded.key, b"123")
        live = opened(store)
        append(store, live.key, b"12345")
        add_run(store, "idle")
        store.clear()
        assert store.total_bytes == thread_bytes() + 2 * run_bytes() + 8
        assert threads_of(store) == []
        assert history_of(store, "t") == ThreadHistory()
        close(store, superseded.key, b"", None)
        del superseded
        assert connect(store) == b"12345"
        assert store.total_bytes == thread_bytes() + run_bytes() + 5
        close(store, live.key, b"67", RunResult(b"new", None, None, frozenset(), 9.0))
        assert threads_of(store) == [ThreadRecord("t", "agent", 9.0, 9.0)]
        assert store.total_bytes == thread_bytes() + run_bytes() + 7 + 3
        assert opened(store, "t", "r", "m").known_message_ids == frozenset()

    def test_eviction_gives_back_what_a_thread_had(self) -> None:
        store = MemoryStore(max_threads=1)
        add_run(store, "a", result=RunResult(b"c", b"[1,2,3]", b'{"a":1}', frozenset("m")))
        live = opened(store, "b")
        assert store.total_bytes == thread_bytes() + run_bytes()
        close(store, live.key, b"", None)
        assert store.total_bytes == 0

    def test_a_run_of_a_deleted_thread_counts_until_it_ends(self) -> None:
        store = MemoryStore()
        run = opened(store, "t" * 1000)
        append(store, run.key, b"x" * 100)
        store.delete_thread("t" * 1000)
        fixed = run_bytes() + sys.getsizeof("t" * 1000)
        assert store.total_bytes == fixed + 100
        append(store, run.key, b"x" * 10, RunResult(b"c"))
        assert store.total_bytes == fixed + 110 + 1
        close(store, run.key, b"", RunResult(b"c"))
        assert store.total_bytes == 110
        del run
        assert store.total_bytes == 0

    def test_a_name_counts_its_bytes(self) -> None:
        store = MemoryStore(max_bytes=100_000)
        add_run(store, "other")
        add_run(store)
        before = store.total_bytes
        store.update_thread("t", {"name": "n" * 1000})
        assert store.total_bytes == before + sys.getsizeof("n" * 1000) - sys.getsizeof(None)
        store.update_thread("t", {"name": "n" * 100_000})
        assert [record.thread_id for record in threads_of(store)] == ["t"]
        store.update_thread("t", {"name": None})
        store.delete_thread("t")
        assert store.total_bytes == 0

    @pytest.mark.untraced
    @pytest.mark.parametrize("what", range(8))
    def test_the_bytes_that_are_counted_are_held(self, what: int) -> None:
        """Within a small factor, whatever a client makes many of or long."""

        def fill(store: MemoryStore, i: int) -> None:
            match what:
                case 0:
                    add_run(store, f"t{i}")
                case 1:
                    opened(store, f"t{i}", f"r{i}")
                case 2:
                    add_run(store, "t", f"r{i}")
                case 3:
                    add_run(store, "t" * 10_000 + str(i))
                case 4:
                    add_run(store, "t" * 10_000, "r" * 1000 + str(i))
                case 5:
                    add_run(store, f"t{i}")
                    store.update_thread(f"t{i}", {"name": "\u20ac" * 10_000 + str(i)})
                case 6:
                    own = frozenset(f"{i}-{j}" for j in range(100))
                    add_run(store, result=RunResult(b"", message_ids=own))
                case _:
                    big = RunResult(b"c" * 100, b"m" * 10_000, b"s" * 10_000 + bytes(i))
                    add_run(store, f"t{i}", result=big)

        # Objects that are made once for all stores are made before the measurement.
        fill(MemoryStore(), 0)
        gc.collect()
        tracemalloc.start()
        try:
            store = MemoryStore(max_runs_per_thread=0)
            for i in range(100):
                fill(store, i)
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert 0.4 * store.total_bytes < held < 1.6 * store.total_bytes


class TestThreads:
    def test_the_last_updated_thread_is_listed_first(self) -> None:
        store = MemoryStore()
        for thread_id, ended_at in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("a", 4.0)):
            add_run(store, thread_id, result=RunResult(b"", ended_at=ended_at))
        assert threads_of(store) == [
            ThreadRecord("a", "agent", 1.0, 4.0),
            ThreadRecord("c", "agent", 3.0, 3.0),
            ThreadRecord("b", "agent", 2.0, 2.0),
        ]

    def test_a_thread_without_history_is_not_listed(self) -> None:
        store = MemoryStore()
        run = opened(store)
        append(store, run.key, b"x")
        assert threads_of(store) == []

    def test_the_agent_of_a_thread_is_that_of_the_last_run(self) -> None:
        store = MemoryStore()
        for agent_id in ("first", "second"):
            outcome = store.open_run(RunRequest("t", "r", agent_id))
            assert isinstance(outcome, RunOpened)
            close(store, outcome.key, b"", RunResult(b""))
        assert [record.agent_id for record in threads_of(store)] == ["second"]

    def test_the_history_of_a_thread_is_what_its_runs_left(self) -> None:
        store = MemoryStore()
        assert history_of(store, "t") == ThreadHistory(b"", b"[]", None)
        add_run(store, result=RunResult(b"1", b"[1]", b"{}"))
        add_run(store, result=RunResult(b"2", b"[1,2]"))
        add_run(store, result=RunResult(b"3", None, b"null"))
        opened(store)
        assert history_of(store, "t") == ThreadHistory(b"123", b"[1,2]", b"null")
