"""MemoryStore: what a thread log keeps, what its readers see, and what it lets go."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from sansio_copilot.memory import MemoryStore
from sansio_copilot.threads import (
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadHistory,
    ThreadRecord,
)


def frame(key: RunKey, position: int | str, data: str = "{}") -> bytes:
    return f"id: {key.token}.{position}\ndata: {data}\n\n".encode()


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
        store.append(key, frame(key, position, f'"{run_id}{position}"'))
    store.close_run(
        key,
        frame(key, frames - 1, f'"{run_id}{frames - 1}"'),
        result or RunResult(compacted(key, f'"{run_id}"')),
    )
    return key


def read_all(store: MemoryStore, cursor: Any, max_bytes: int = 1 << 20) -> tuple[bytes, bool]:
    """Everything behind ``cursor`` for now, and whether it has ended."""
    data = bytearray()
    while True:
        batch = store.read(cursor, max_bytes)
        assert len(batch.data) <= max_bytes
        assert batch.orphan is None
        data += batch.data
        cursor = batch.cursor
        if batch.ended or not batch.data:
            return bytes(data), batch.ended


def connect(store: MemoryStore, thread_id: str = "t", after: str | None = None) -> bytes:
    return read_all(store, store.open_cursor(thread_id, after))[0]


class Bell:
    """A notify function that counts."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


class TestKey:
    def test_a_token_is_the_number_and_a_checksum_of_the_id(self) -> None:
        assert RunKey("t", 7, "run").token == "7.5076a4c0"

    @pytest.mark.parametrize("run_id", ["", "a\nb\r\0", "\ud800", "ü\u2028", "x" * 10_000])
    def test_a_token_is_short_ascii_whatever_the_client_calls_its_run(self, run_id: str) -> None:
        token = RunKey("t", 1, run_id).token
        assert token.isascii()
        assert token.isprintable()
        assert len(token) == 10

    def test_the_thread_is_no_part_of_it(self) -> None:
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
    def test_none_and_any_number_are_limits(self, value: float) -> None:
        MemoryStore(
            max_threads=value, max_runs_per_thread=value, max_bytes=value, resumable_runs=value
        )

    def test_there_are_two_ways_to_meet_a_busy_thread(self) -> None:
        with pytest.raises(ValueError, match=r"^on_concurrent_run is .*, not 'queue'$"):
            MemoryStore(on_concurrent_run="queue")  # type: ignore[arg-type]

    def test_it_answers_at_once(self) -> None:
        assert MemoryStore().blocking is False


class TestOwner:
    def test_a_run_is_opened_appended_to_and_closed(self) -> None:
        store = MemoryStore()
        run = opened(store)
        assert run.lease is None
        assert store.append(run.key, b"id: a\ndata: 1\n\n") is Signal.CONTINUE
        assert store.renew(run.key) is Signal.CONTINUE
        store.close_run(run.key, b"id: b\ndata: 2\n\n", RunResult(b"compact"))
        assert read_all(store, run.cursor) == (b"id: a\ndata: 1\n\nid: b\ndata: 2\n\n", True)
        assert store.read_history("t").frames == b"compact"

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
        store.close_run(second, b"", None)
        assert opened(store).key not in (first, second)

    def test_a_superseded_owner_cannot_write_into_a_namesake(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede")
        first = opened(store, run_id="r")
        store.close_run(opened(store, run_id="other").key, b"", None)
        namesake = opened(store, run_id="r")
        store.append(first.key, b"data: first\n\n")
        store.close_run(first.key, b"", None)
        assert read_all(store, namesake.cursor) == (b"", False)

    def test_a_closed_run_takes_nothing_more(self) -> None:
        store = MemoryStore()
        run = opened(store)
        store.close_run(run.key, b"end", RunResult(b"compact"))
        assert store.append(run.key, b"more", RunResult(b"other")) is Signal.SEALED
        assert store.renew(run.key) is Signal.SEALED
        store.close_run(run.key, b"another end", None)
        assert read_all(store, run.cursor) == (b"end", True)
        assert store.read_history("t").frames == b"compact"

    def test_a_run_that_nobody_opened_is_closed(self) -> None:
        store = MemoryStore()
        key = RunKey("t", 1, "r")
        assert store.append(key, b"x") is Signal.SEALED
        store.close_run(key, b"x", RunResult(b"x"))
        assert store.total_bytes == 0
        assert store.list_threads() == []

    def test_a_run_without_a_result_leaves_nothing(self) -> None:
        store = MemoryStore()
        run = opened(store)
        store.append(run.key, b"data: 1\n\n")
        store.close_run(run.key, b"data: 2\n\n", None)
        assert read_all(store, run.cursor) == (b"data: 1\n\ndata: 2\n\n", True)
        assert store.open_cursor("t", None) == store.open_cursor("unknown", None)
        assert store.total_bytes == 0

    def test_nor_does_it_take_the_history_before_it_along(self) -> None:
        store = MemoryStore()
        add_run(store)
        before = store.total_bytes, store.read_history("t")
        run = opened(store)
        store.append(run.key, b"data: 1\n\n")
        store.close_run(run.key, b"data: 2\n\n", None)
        assert (store.total_bytes, store.read_history("t")) == before

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
        assert store.append(run.key, b"data: 1\n\n") is Signal.STOP
        assert read_all(store, run.cursor) == (b"data: 1\n\n", False)

    def test_it_is_asked_for_once(self) -> None:
        store = MemoryStore()
        opened(store)
        assert store.request_stop("t", "r") is True
        assert store.request_stop("t", "r") is False
        assert store.request_stop("t", None) is False

    @pytest.mark.parametrize(("thread_id", "run_id"), [("u", None), ("t", "other"), ("u", "r")])
    def test_it_means_one_run(self, thread_id: str, run_id: str | None) -> None:
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
        store.close_run(run.key, b"", None)
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
        store.watch_run(run.key, lambda: store.close_run(run.key, b"end", RunResult(b"c")))
        assert store.request_stop("t", None) is True
        assert read_all(store, run.cursor) == (b"end", True)
        opened(store)


class TestConcurrentRuns:
    def test_a_busy_thread_refuses_a_second_run_and_leaves_the_first_alone(self) -> None:
        store, bell = MemoryStore(), Bell()
        run = opened(store)
        store.watch_run(run.key, bell)
        assert store.open_run(RunRequest("t", "second", "agent")) == ThreadBusy("r")
        assert store.append(run.key, b"data: 1\n\n") is Signal.CONTINUE
        assert bell.rung == 0
        assert store.read(store.open_cursor("t", None), 100).data == b"data: 1\n\n"
        assert store.request_stop("t", "r")
        assert bell.rung == 1
        opened(store, "another thread")

    def test_one_that_was_asked_to_stop_is_busy_still(self) -> None:
        store = MemoryStore()
        opened(store)
        store.request_stop("t", None)
        assert store.open_run(RunRequest("t", "second", "agent")) == ThreadBusy("r")

    def test_superseding_stops_the_live_run(self) -> None:
        store, bell = MemoryStore(on_concurrent_run="supersede"), Bell()
        first = opened(store, run_id="first")
        follower = store.open_cursor("t", None)
        store.append(first.key, b"data: 1\n\n")
        store.watch_run(first.key, bell)
        second = opened(store, run_id="second")
        assert bell.rung == 1
        # Its readers see it to its end, new ones do not see it at all.
        assert store.append(first.key, b"data: 2\n\n") is Signal.STOP
        store.close_run(first.key, b"data: 3\n\n", RunResult(b"compact"))
        for cursor in (first.cursor, follower):
            assert read_all(store, cursor) == (b"data: 1\n\ndata: 2\n\ndata: 3\n\n", True)
        assert connect(store) == b""
        store.append(second.key, b"data: new\n\n")
        assert connect(store) == b"data: new\n\n"
        assert store.read_history("t") == ThreadHistory()
        assert store.total_bytes == len(b"data: new\n\n")

    def test_a_superseded_run_may_outlive_the_thread(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede")
        first, second = opened(store), opened(store)
        store.close_run(second.key, b"", None)
        store.append(first.key, b"data: 1\n\n")
        assert store.total_bytes == len(b"data: 1\n\n")
        store.close_run(first.key, b"", RunResult(b"x"))
        assert store.total_bytes == 0
        assert store.list_threads() == []

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
        store.watch_run(first.key, lambda: store.close_run(first.key, b"", RunResult(b"x")))
        second = opened(store)
        assert store.renew(second.key) is Signal.CONTINUE
        assert store.renew(first.key) is Signal.SEALED


@pytest.mark.parametrize("policy", ["reject", "supersede"])
@pytest.mark.parametrize("resumable_runs", [0, 4])
class TestSealing:
    """A run with its terminal event in the log, whose agent still cleans up."""

    def test_the_next_run_seals_it(self, policy: Any, resumable_runs: int) -> None:
        store = MemoryStore(on_concurrent_run=policy, resumable_runs=resumable_runs)
        bell, reader = Bell(), Bell()
        run = opened(store)
        store.watch_run(run.key, bell)
        result = RunResult(b"compact", b"[1]", b"{}", frozenset("m"), 5.0)
        assert store.append(run.key, b"end", result) is Signal.CONTINUE
        batch = store.read(run.cursor, 100)
        assert (batch.data, batch.ended) == (b"end", False)
        store.watch(batch.cursor, reader)

        following = opened(store, "t", "next", "m")

        assert following.known_message_ids == {"m"}
        assert (bell.rung, reader.rung) == (1, 1)
        assert store.read(batch.cursor, 100).ended
        assert store.renew(run.key) is Signal.SEALED
        assert store.append(run.key, b"more") is Signal.SEALED
        store.close_run(run.key, b"more", None)
        assert store.read_history("t") == ThreadHistory(b"compact", b"[1]", b"{}")
        assert store.list_threads() == [ThreadRecord("t", "agent", 5.0, 5.0)]
        assert connect(store) == b"compact"

    def test_until_then_it_is_live(self, policy: Any, resumable_runs: int) -> None:
        store = MemoryStore(on_concurrent_run=policy, resumable_runs=resumable_runs)
        run = opened(store)
        store.append(run.key, b"end", RunResult(b"compact"))
        assert connect(store) == b"end"
        assert store.read_history("t") == ThreadHistory()
        assert store.request_stop("t", None) is True

    def test_more_frames_make_it_busy_again(self, policy: Any, resumable_runs: int) -> None:
        store = MemoryStore(on_concurrent_run=policy, resumable_runs=resumable_runs)
        run = opened(store)
        store.append(run.key, b"end", RunResult(b"compact"))
        store.append(run.key, b"and on")
        outcome = store.open_run(RunRequest("t", "next", "agent"))
        assert isinstance(outcome, ThreadBusy) == (policy == "reject")
        store.close_run(run.key, b"", None)
        assert read_all(store, run.cursor) == (b"endand on", True)


class TestReading:
    def test_a_thread_nobody_knows_has_ended(self) -> None:
        store = MemoryStore()
        batch = store.read(store.open_cursor("t", "1.00000000.0"), 100)
        assert (batch.data, batch.ended) == (b"", True)

    def test_history_comes_compacted_and_the_live_run_raw(self) -> None:
        store = MemoryStore()
        first, second = add_run(store, run_id="first"), add_run(store, run_id="second")
        live = opened(store, run_id="live")
        store.append(live.key, frame(live.key, 0))
        cursor = store.open_cursor("t", None)
        replay = compacted(first, '"first"') + compacted(second, '"second"')
        assert read_all(store, cursor) == (replay + frame(live.key, 0), False)
        store.close_run(live.key, frame(live.key, 1), RunResult(b"compact"))
        whole = replay + frame(live.key, 0) + frame(live.key, 1)
        assert read_all(store, cursor) == (whole, True)
        assert connect(store) == replay + b"compact"

    @pytest.mark.parametrize("max_bytes", [1, 2, 3, 7, 1000])
    def test_slices_add_up(self, max_bytes: int) -> None:
        store = MemoryStore()
        for run_id in "abc":
            add_run(store, run_id=run_id)
        add_run(store, run_id="empty", result=RunResult(b""))
        live = opened(store)
        store.append(live.key, "data: é\u2028\n\n".encode())
        whole = connect(store)
        assert read_all(store, store.open_cursor("t", None), max_bytes) == (whole, False)
        store.close_run(live.key, b"", RunResult(b""))
        assert read_all(store, live.cursor, max_bytes) == ("data: é\u2028\n\n".encode(), True)

    def test_the_last_slice_says_that_it_is(self) -> None:
        store = MemoryStore()
        run = opened(store)
        store.close_run(run.key, b"12", None)
        first = store.read(run.cursor, 1)
        assert (first.data, first.ended) == (b"1", False)
        last = store.read(first.cursor, 1)
        assert (last.data, last.ended) == (b"2", True)
        assert store.read(last.cursor, 1).data == b""

    def test_a_cursor_can_be_read_again(self) -> None:
        store = MemoryStore()
        add_run(store)
        cursor = store.open_cursor("t", None)
        assert store.read(cursor, 5) == store.read(cursor, 5)

    def test_a_reader_keeps_what_the_store_has_let_go(self) -> None:
        store = MemoryStore(max_threads=1)
        key = add_run(store)
        replay = store.open_cursor("t", None)
        live = opened(store, "other")
        own = live.cursor
        add_run(store, "another")
        store.clear()
        store.close_run(live.key, b"end", RunResult(b""))
        store.clear()
        assert read_all(store, replay) == (compacted(key, '"r"'), True)
        assert read_all(store, own) == (b"end", True)
        assert store.total_bytes == 0


class TestWatching:
    def test_an_append_wakes_who_has_read_all(self) -> None:
        store = MemoryStore()
        run = opened(store)
        bells = [Bell(), Bell()]
        for bell in bells:
            store.watch(run.cursor, bell)
        assert [bell.rung for bell in bells] == [0, 0]
        store.append(run.key, b"1")
        store.append(run.key, b"2")
        assert [bell.rung for bell in bells] == [1, 1]

    def test_the_end_wakes_too(self) -> None:
        store, bell = MemoryStore(), Bell()
        run = opened(store)
        store.watch(run.cursor, bell)
        store.close_run(run.key, b"", None)
        assert bell.rung == 1

    def test_what_is_there_already_is_told_at_once(self) -> None:
        store = MemoryStore()
        add_run(store)
        run = opened(store)
        bells = [Bell() for _ in range(4)]
        store.watch(store.open_cursor("t", None), bells[0])()
        store.append(run.key, b"1")
        store.watch(run.cursor, bells[1])
        store.close_run(run.key, b"", RunResult(b"c"))
        store.watch(store.read(run.cursor, 10).cursor, bells[2])
        store.watch(store.open_cursor("unknown", None), bells[3])
        assert [bell.rung for bell in bells] == [1, 1, 1, 1]

    def test_a_cancelled_watch_is_silent(self) -> None:
        store, bell, other = MemoryStore(), Bell(), Bell()
        run = opened(store)
        cancel = store.watch(run.cursor, bell)
        store.watch(run.cursor, other)
        cancel()
        cancel()
        store.append(run.key, b"1")
        assert (bell.rung, other.rung) == (0, 1)

    def test_a_woken_reader_may_watch_anew_while_it_is_told(self) -> None:
        store, bell = MemoryStore(), Bell()
        run = opened(store)

        def read_on() -> None:
            store.watch(store.read(run.cursor, 100).cursor, bell)

        store.watch(run.cursor, read_on)
        store.append(run.key, b"1")
        assert bell.rung == 0
        store.append(run.key, b"2")
        assert bell.rung == 1


class TestResuming:
    def test_behind_an_event_of_the_live_run(self) -> None:
        store = MemoryStore()
        add_run(store, run_id="before")
        key = opened(store).key
        frames = [frame(key, position) for position in range(12)]
        store.append(key, b"".join(frames))
        for position in range(12):
            after = f"{key.token}.{position}"
            assert connect(store, after=after) == b"".join(frames[position + 1 :])

    def test_it_follows_from_there(self) -> None:
        store = MemoryStore()
        key = opened(store).key
        store.append(key, frame(key, 0))
        cursor = store.open_cursor("t", f"{key.token}.0")
        assert read_all(store, cursor) == (b"", False)
        store.close_run(key, frame(key, 1), RunResult(b""))
        assert read_all(store, cursor) == (frame(key, 1), True)

    def test_behind_a_raw_event_of_an_ended_run(self) -> None:
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

    def test_no_raw_frames_are_kept_if_none_shall_be(self) -> None:
        store = MemoryStore(resumable_runs=0)
        key = add_run(store)
        assert connect(store, after=f"{key.token}.0") == compacted(key, '"r"')
        assert store.total_bytes == len(compacted(key, '"r"'))

    def test_all_are_kept_if_all_shall_be(self) -> None:
        store = MemoryStore(resumable_runs=math.inf)
        keys = [add_run(store) for _ in range(10)]
        assert connect(store, after=f"{keys[0].token}.0").startswith(frame(keys[0], 1, '"r1"'))

    @pytest.mark.parametrize("resumable_runs", [0, 4])
    def test_behind_a_compacted_event(self, resumable_runs: int) -> None:
        store = MemoryStore(resumable_runs=resumable_runs)
        first = opened(store).key
        store.close_run(first, b"", RunResult(compacted(first, "1", "2", "3")))
        second = add_run(store, run_id="second")
        last = compacted(second, '"second"')
        rest = frame(first, "c1", "2") + frame(first, "c2", "3") + last
        assert connect(store, after=f"{first.token}.c0") == rest
        assert connect(store, after=f"{first.token}.c2") == last
        assert connect(store, after=f"{second.token}.c0") == b""

    def test_a_live_run_has_no_compacted_events_to_resume_behind(self) -> None:
        store = MemoryStore()
        key = opened(store).key
        store.append(key, frame(key, 0), RunResult(compacted(key, "1")))
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

    def test_an_id_in_the_data_of_a_frame_is_none(self) -> None:
        store = MemoryStore()
        key = opened(store).key
        line = f"id: {key.token}.1"
        frames = [
            frame(key, 0, f'"{line}\\n\\n{line}"'),
            frame(key, 1, "1"),
            frame(key, 10, f'"\\n{line}\\n"'),
        ]
        store.append(key, b"".join(frames))
        assert connect(store, after=f"{key.token}.1") == frames[2]
        assert connect(store, after=f"{key.token}.0") == b"".join(frames[1:])

    def test_an_id_of_another_thread_means_nothing_here(self) -> None:
        store = MemoryStore()
        other = add_run(store, "other")
        key = add_run(store)
        assert connect(store, after=f"{other.token}.0") == compacted(key, '"r"')


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
        assert sorted(record.thread_id for record in store.list_threads()) == ["a", "c"]

    def test_a_thread_with_a_live_run_stays(self) -> None:
        store = MemoryStore(max_threads=1)
        live = [opened(store, thread_id) for thread_id in "abc"]
        add_run(store, "d")
        for run in live:
            assert store.append(run.key, b"x") is Signal.CONTINUE
        # As soon as they have ended, the bound holds again.
        for run in live:
            store.close_run(run.key, b"", RunResult(b""))
        assert [record.thread_id for record in store.list_threads()] == ["c"]

    def test_history_of_a_live_thread_stays(self) -> None:
        store = MemoryStore(max_threads=1)
        key = add_run(store, "a")
        opened(store, "a")
        add_run(store, "b")
        assert connect(store, "a") == compacted(key, '"r"')

    @pytest.mark.parametrize("bound", [{"max_threads": 0}, {"max_bytes": 0}])
    def test_with_no_room_at_all_the_thread_just_used_stays(self, bound: Any) -> None:
        store = MemoryStore(**bound)
        for thread_id in "abc":
            add_run(store, thread_id)
            assert [record.thread_id for record in store.list_threads()] == [thread_id]

    def test_the_oldest_run_of_a_thread_goes_first(self) -> None:
        store = MemoryStore(max_runs_per_thread=2)
        keys = [add_run(store) for _ in range(3)]
        assert connect(store) == compacted(keys[1], '"r"') + compacted(keys[2], '"r"')

    def test_messages_and_state_survive_the_run_that_made_them(self) -> None:
        store = MemoryStore(max_runs_per_thread=1)
        add_run(store, result=RunResult(b"1", b"[1]", b'{"a":1}'))
        add_run(store, result=RunResult(b"2"))
        assert store.read_history("t") == ThreadHistory(b"2", b"[1]", b'{"a":1}')

    @pytest.mark.parametrize("bound", [0, math.inf])
    def test_there_may_be_no_limit_to_the_runs_of_a_thread(self, bound: float) -> None:
        store = MemoryStore(max_runs_per_thread=bound)
        for _ in range(150):
            add_run(store)
        assert connect(store).count(b"data:") == 150

    def test_bytes_are_bounded_while_a_run_goes_on(self) -> None:
        store = MemoryStore(max_bytes=1000)
        add_run(store, "a", result=RunResult(b"x" * 400))
        add_run(store, "b", result=RunResult(b"x" * 400))
        live = opened(store, "live")
        store.append(live.key, b"x" * 300)
        assert [record.thread_id for record in store.list_threads()] == ["b"]
        store.append(live.key, b"x" * 5000)
        assert store.list_threads() == []
        assert store.total_bytes == 5300
        store.close_run(live.key, b"", None)
        assert store.total_bytes == 0

    def test_infinite_bounds_keep_everything(self) -> None:
        store = MemoryStore(
            max_threads=math.inf,
            max_runs_per_thread=math.inf,
            max_bytes=math.inf,
            resumable_runs=math.inf,
        )
        for number in range(1200):
            add_run(store, str(number))
        assert len(store.list_threads()) == 1200

    @pytest.mark.parametrize(
        "bound", [{"max_threads": 1}, {"max_bytes": 1}, {"max_runs_per_thread": 1}]
    )
    def test_it_says_once_that_it_forgets(
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

    def test_each_store_says_it(self, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(2):
            store = MemoryStore(max_threads=1)
            add_run(store, "a")
            add_run(store, "b")
        assert len(caplog.messages) == 2


class TestAccounting:
    def test_every_byte_is_counted_once(self) -> None:
        store = MemoryStore(resumable_runs=1)
        run = opened(store)
        store.append(run.key, b"x" * 100)
        assert store.total_bytes == 100
        store.append(run.key, b"y" * 10, RunResult(b"c" * 7, b"[1,2]", b"{}"))
        assert store.total_bytes == 110 + 7
        store.close_run(run.key, b"z", RunResult(b"c" * 8, b"[1,2]", b"{}"))
        # An empty list of messages is free: every thread has one.
        assert store.total_bytes == 111 + 8 + (5 - 2) + 2
        add_run(store, result=RunResult(b"", b"[]", b"null"), frames=1)
        raw = len(frame(RunKey("t", 2, "r"), 0, '"r0"'))
        assert store.total_bytes == 8 + raw + 0 + 4
        store.clear()
        assert store.total_bytes == 0

    def test_a_run_that_another_seals(self) -> None:
        store = MemoryStore()
        run = opened(store)
        store.append(run.key, b"x" * 100, RunResult(b"c" * 7, b"[1,2]", b"{}"))
        opened(store)
        assert store.total_bytes == 100 + 7 + 3 + 2
        store.close_run(run.key, b"late", None)
        assert store.total_bytes == 100 + 7 + 3 + 2

    def test_clearing_leaves_live_runs_and_their_bytes(self) -> None:
        store = MemoryStore(on_concurrent_run="supersede")
        add_run(store, result=RunResult(b"old", b"[1]", b"{}", frozenset("m")))
        superseded = opened(store)
        store.append(superseded.key, b"123")
        live = opened(store)
        store.append(live.key, b"12345")
        add_run(store, "idle")
        store.clear()
        assert store.total_bytes == 8
        assert store.list_threads() == []
        assert connect(store) == b"12345"
        assert store.read_history("t") == ThreadHistory()
        store.close_run(superseded.key, b"", None)
        assert store.total_bytes == 5
        store.close_run(live.key, b"67", RunResult(b"new", None, None, frozenset(), 9.0))
        assert store.list_threads() == [ThreadRecord("t", "agent", 9.0, 9.0)]
        assert opened(store, "t", "r", "m").known_message_ids == frozenset()
        assert store.total_bytes == 7 + 3

    def test_eviction_gives_back_what_a_thread_had(self) -> None:
        store = MemoryStore(max_threads=1)
        add_run(store, "a", result=RunResult(b"c", b"[1,2,3]", b'{"a":1}', frozenset("m")))
        live = opened(store, "b")
        assert store.total_bytes == 0
        store.close_run(live.key, b"", None)
        assert store.total_bytes == 0


class TestThreads:
    def test_they_are_listed_the_last_updated_first(self) -> None:
        store = MemoryStore()
        for thread_id, ended_at in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("a", 4.0)):
            add_run(store, thread_id, result=RunResult(b"", ended_at=ended_at))
        assert store.list_threads() == [
            ThreadRecord("a", "agent", 1.0, 4.0),
            ThreadRecord("c", "agent", 3.0, 3.0),
            ThreadRecord("b", "agent", 2.0, 2.0),
        ]

    def test_one_without_history_is_not_listed(self) -> None:
        store = MemoryStore()
        run = opened(store)
        store.append(run.key, b"x")
        assert store.list_threads() == []

    def test_the_agent_is_that_of_the_last_run(self) -> None:
        store = MemoryStore()
        for agent_id in ("first", "second"):
            outcome = store.open_run(RunRequest("t", "r", agent_id))
            assert isinstance(outcome, RunOpened)
            store.close_run(outcome.key, b"", RunResult(b""))
        assert [record.agent_id for record in store.list_threads()] == ["second"]

    def test_history_is_what_the_runs_left(self) -> None:
        store = MemoryStore()
        assert store.read_history("t") == ThreadHistory(b"", b"[]", None)
        add_run(store, result=RunResult(b"1", b"[1]", b"{}"))
        add_run(store, result=RunResult(b"2", b"[1,2]"))
        add_run(store, result=RunResult(b"3", None, b"null"))
        opened(store)
        assert store.read_history("t") == ThreadHistory(b"123", b"[1,2]", b"null")
