"""SQLiteStore: several of them over one file, what goes wrong with files, and what is kept."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.process import wait_until
from support.sse_frames import frame

from copilot_bindings.sockets import start_server
from copilot_bindings.stores import SQLiteStore, StoreError
from copilot_bindings.stores.retention import Retention
from copilot_bindings.stores.sqlite.schema import MIGRATIONS
from sansio_copilot import CopilotRuntime, StoreUnavailable
from sansio_copilot.stores.protocol import (
    Batch,
    LogGone,
    Orphan,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadQuery,
)
from sansio_copilot.testing.stores import Driven


def result(key: RunKey, data: str = "{}", **fields: Any) -> RunResult:
    return RunResult(frame(key, "c0", data), **fields)


class Two:
    """Two stores over one file, as two processes have them."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.a, self.b = SQLiteStore(path, **options), SQLiteStore(path, **options)

    def opened(self, store: SQLiteStore, thread: str = "t", run: str = "r") -> RunOpened:
        outcome = store.open_run(RunRequest(thread, run, "agent")).result()
        assert isinstance(outcome, RunOpened), outcome
        return outcome

    def close(self) -> None:
        self.a.close()
        self.b.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    stores = Two(tmp_path / "threads.db")
    yield stores
    stores.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    kept = SQLiteStore(tmp_path / "threads.db")
    yield kept
    kept.close()


def rest(store: SQLiteStore, cursor: Any) -> tuple[bytes, Any, bool]:
    """Return what can be read for now, the cursor behind it, and whether that is all."""
    data = b""
    while True:
        batch = read(store, cursor)
        assert isinstance(batch, Batch)
        data, cursor = data + batch.data, batch.cursor
        if batch.ended or not batch.data:
            return data, cursor, batch.ended


def read(store: SQLiteStore, cursor: Any, size: int = 1 << 16) -> Batch | LogGone:
    outcome = store.read(cursor, size)
    return outcome if isinstance(outcome, Batch | LogGone) else outcome.result()


def a_whole_run(store: SQLiteStore, thread: str = "t", data: str = "{}", **fields: Any) -> RunKey:
    opened = store.open_run(RunRequest(thread, "r", "agent")).result()
    assert isinstance(opened, RunOpened)
    store.close_run(
        opened.key, 0, frame(opened.key, 0, data), result(opened.key, data, **fields)
    ).result()
    return opened.key


class TestSeveralProcesses:
    def test_a_thread_is_busy_for_all(self, two: Two) -> None:
        two.opened(two.a)
        assert two.b.open_run(RunRequest("t", "s", "agent")).result() == ThreadBusy("r")

    def test_a_reader_elsewhere_follows_to_the_end(self, two: Two) -> None:
        run = two.opened(two.a)
        cursor = two.b.open_cursor("t", None).result()
        whole = b""
        for position in range(20):
            woken = threading.Event()
            data, cursor, ended = rest(two.b, cursor)
            assert (data, ended) == (b"", False)
            two.b.watch(cursor, woken.set)
            one = frame(run.key, position)
            two.a.append(run.key, len(whole), one).result()
            whole += one
            assert woken.wait(20)
            data, cursor, ended = rest(two.b, cursor)
            assert data == one
        woken.clear()
        two.b.watch(cursor, woken.set)
        two.a.close_run(run.key, len(whole), b"", result(run.key)).result()
        assert woken.wait(20)
        assert rest(two.b, cursor)[::2] == (b"", True)

    def test_a_thousand_readers_read_the_file_as_one_does(self, two: Two) -> None:
        run = two.opened(two.a)
        cursor = two.b.open_cursor("t", None).result()
        read(two.b, cursor)
        engine = two.b.engine()
        asked: list[object] = []
        engine.read_pool.submit = asked.append  # type: ignore[assignment]
        cursors = [cursor] * 1000
        for position in range(5):
            left = threading.Semaphore(0)
            for one in cursors:
                two.b.watch(one, left.release)
            two.a.append(run.key, position * len(frame(run.key, 0)), frame(run.key, position))
            for _ in cursors:
                assert left.acquire(timeout=20)
            batches = [two.b.read(one, 1 << 16) for one in cursors]
            assert {batch.data for batch in batches if isinstance(batch, Batch)} == {
                frame(run.key, position)
            }
            cursors = [batch.cursor for batch in batches if isinstance(batch, Batch)]
        assert asked == [], "all came from one tail"

    def test_a_stop_reaches_the_owner(self, two: Two) -> None:
        run, told = two.opened(two.a), list[Signal]()
        two.a.watch_run(run.key, told.append)
        assert two.b.request_stop("t", None).result() is True
        assert two.b.request_stop("t", None).result() is False
        wait_until(lambda: told == [Signal.STOP])
        assert two.a.renew(run.key).result() is Signal.STOP

    def test_a_run_with_a_result_gives_way_to_one_elsewhere(self, two: Two) -> None:
        run, told = two.opened(two.a), list[Signal]()
        two.a.watch_run(run.key, told.append)
        end = frame(run.key, 0)
        two.a.append(run.key, 0, end, result(run.key, message_ids=frozenset({"m"}))).result()
        request = RunRequest("t", "s", "agent", ("m", "n"))
        second = two.b.open_run(request).result()
        assert isinstance(second, RunOpened)
        assert second.known_message_ids == {"m"}
        wait_until(lambda: told == [Signal.SEALED])
        assert two.a.append(run.key, len(end), end).result() is Signal.SEALED
        # Its owner has taken note, so that it is not told for ever.
        wait_until(lambda: not _rows(two.path, "SELECT 1 FROM run WHERE stop > 0"))

    def test_a_result_is_taken_back_by_what_follows(self, two: Two) -> None:
        run = two.opened(two.a)
        end = frame(run.key, 0)
        two.a.append(run.key, 0, end, result(run.key)).result()
        two.a.append(run.key, len(end), frame(run.key, 1)).result()
        assert two.b.open_run(RunRequest("t", "s", "agent")).result() == ThreadBusy("r")

    def test_a_run_supersedes_one_elsewhere(self, tmp_path: Path) -> None:
        two = Two(tmp_path / "threads.db", on_concurrent_run="supersede")
        run, told = two.opened(two.a, run="first"), list[Signal]()
        two.a.watch_run(run.key, told.append)
        two.opened(two.b, run="second")
        wait_until(lambda: told == [Signal.STOP])
        two.close()

    def test_the_run_of_an_owner_that_died_is_found_at_once(self, two: Two) -> None:
        run = two.opened(two.a)
        one = frame(run.key, 0)
        two.a.append(run.key, 0, one).result()
        cursor = rest(two.b, two.b.open_cursor("t", None).result())[1]
        woken = threading.Event()
        two.b.watch(cursor, woken.set)
        two.a.close()
        assert woken.wait(20)
        batch = read(two.b, cursor)
        assert isinstance(batch, Batch)
        assert batch.orphan == Orphan(run.key, "agent", one, b"[]")
        again = read(two.b, cursor)
        assert isinstance(again, Batch)
        assert again.orphan is None, "one that was handed out is not handed to all"
        late = threading.Event()
        two.b.watch(cursor, late.set)
        two.b.close_run(run.key, len(one), frame(run.key, 1), result(run.key)).result()
        assert late.wait(20)
        assert rest(two.b, cursor)[::2] == (frame(run.key, 1), True)

    def test_the_files_of_processes_go_with_them(self, two: Two) -> None:
        two.opened(two.a)
        two.opened(two.b, "u")
        assert len(list(two.path.parent.glob("*-owner-*"))) == 2
        two.close()
        assert list(two.path.parent.glob("*-owner-*")) == []
        two.a.orphans(10).result()
        assert len(_rows(two.path, "SELECT 1 FROM process")) == 1

    def test_a_call_that_is_made_again_opens_one_run(self, store: SQLiteStore) -> None:
        request = RunRequest("t", "r", "agent", opened_at=5.0)
        first, second = store.open_run(request).result(), store.open_run(request).result()
        assert isinstance(first, RunOpened)
        assert isinstance(second, RunOpened)
        assert first.key == second.key
        other = RunRequest("t", "r", "agent", opened_at=6.0)
        assert store.open_run(other).result() == ThreadBusy("r")
        store.watch_run(first.key, lambda signal: None)
        assert store.open_run(request).result() == ThreadBusy("r"), "somebody has it"

    def test_a_run_that_nobody_takes_up_is_ended(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The call that opened it was given up too late to undo it."""
        lost = store.open_run(RunRequest("t", "r", "agent")).result()
        taken = store.open_run(RunRequest("u", "r", "agent")).result()
        assert isinstance(lost, RunOpened)
        assert isinstance(taken, RunOpened)
        store.watch_run(taken.key, lambda signal: None)
        assert store.orphans(10).result() == []
        monkeypatch.setattr("copilot_bindings.stores.owned_runs.TAKEN_SECONDS", 0.0)
        [orphan] = store.orphans(10).result()
        assert orphan.key == lost.key
        assert store.append(lost.key, 0, frame(lost.key, 0)).result() is Signal.SEALED

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    def test_a_fork_opens_the_file_for_itself(self, store: SQLiteStore, tmp_path: Path) -> None:
        run = store.open_run(RunRequest("t", "r", "agent")).result()
        assert isinstance(run, RunOpened)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                busy = store.open_run(RunRequest("t", "s", "agent")).result(20)
                a_whole_run(store, "of the fork")
                store.close()
                os._exit(0 if busy == ThreadBusy("r") else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.append(run.key, 0, frame(run.key, 0)).result() is Signal.CONTINUE
        listed = store.list_threads().result().threads
        assert [one.thread_id for one in listed] == ["of the fork"]


class TestFiles:
    def test_a_file_that_is_no_store_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "text.db").write_text("no database " * 100)
        with sqlite3.connect(tmp_path / "other.db") as db:
            db.execute("CREATE TABLE t (x)")
        db.close()
        for path, problem in (
            ("text.db", "it is no SQLite database"),
            ("other.db", "it is a database of something else"),
            ("missing/threads.db", "there is no directory"),
        ):
            with pytest.raises(StoreError) as raised:
                SQLiteStore(tmp_path / path).open()
            assert str(raised.value).startswith(f"SQLiteStore('{tmp_path / path}'): {problem}")

    def test_a_file_of_a_newer_release_is_left_alone(self, store: SQLiteStore) -> None:
        store.open()
        store.close()
        with sqlite3.connect(store.path) as db:
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        db.close()
        known = len(MIGRATIONS)
        said = f"its schema has version {known + 1}, and this release knows {known}"
        with pytest.raises(StoreError, match=said):
            store.open()

    def test_a_file_of_the_first_version_is_brought_to_this_one(self, tmp_path: Path) -> None:
        """A process was killed when its run had sent its terminal event."""
        with sqlite3.connect(tmp_path / "old.db") as db:
            db.executescript((Path(__file__).parent / "sqlite_version_1.sql").read_text("utf-8"))
        db.close()
        store = Driven(SQLiteStore(tmp_path / "old.db"), lambda awaitable: awaitable)
        store.open()
        (record,) = store.listed(ThreadQuery())
        assert (record.thread_id, record.updated_at, record.waits_for) == ("t", 5.0, None)
        assert store.orphans(10) == []
        assert store.history("t", "messages") == b"[1,2]"
        assert store.history("t", "frames").count(b"data: ") == 3
        store.ended("t", "4", waits_for=b"{}", ended_at=7.0)
        assert store.listed(ThreadQuery(waiting=True))[0].updated_at == 7.0
        store.close()

    def test_the_log_tells_of_a_file_that_is_opened_brought_to_a_version_and_closed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        store = SQLiteStore(tmp_path / "threads.db")
        for _ in range(2):
            with start_server(CopilotRuntime({}, store=store), port=0):
                pass
        opened, closed = (f"the store {store.shown} is {what}" for what in ("open", "closed"))
        version = f"{store.shown}: brought from version 0 to {len(MIGRATIONS)}"
        told = [line for line in caplog.messages if store.shown in line]
        assert told == [version, opened, closed, opened, closed]

    def test_a_damaged_one_is_named(self, store: SQLiteStore) -> None:
        for number in range(200):
            a_whole_run(store, f"t{number}", "x" * 3000)
        store.close()
        with open(store.path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096 * 40)

        def read_all() -> None:
            for number in range(200):
                rest(store, store.open_cursor(f"t{number}", None).result())

        with pytest.raises(StoreError, match="it is damaged"):
            read_all()

    def test_a_locked_one_is_unavailable_and_comes_back(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("copilot_bindings.stores.sqlite.connection.BUSY_SECONDS", 0.05)
        a_whole_run(store)
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another process keeps it locked"):
            a_whole_run(store)
        with pytest.raises(StoreUnavailable):
            store.check().result()
        # Reads are not in the way of the other's transaction.
        assert len(store.list_threads().result().threads) == 1
        other.execute("ROLLBACK")
        other.close()
        a_whole_run(store)
        store.check().result()

    def test_a_full_disk_is_unavailable_and_loses_nothing(self, store: SQLiteStore) -> None:
        run = store.open_run(RunRequest("t", "r", "agent")).result()
        assert isinstance(run, RunOpened)
        store.append(run.key, 0, frame(run.key, 0)).result()

        def limit(pages: int) -> None:
            engine = store.engine()
            engine.write(
                lambda tx: tx.then(lambda: tx.db.execute(f"PRAGMA max_page_count = {pages}"))
            ).result()

        limit(1)
        large = frame(run.key, 1, "x" * 10**6)
        size = len(frame(run.key, 0))
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            store.append(run.key, size, large).result()
        assert rest(store, run.cursor)[0] == frame(run.key, 0)
        limit(10**6)
        assert store.append(run.key, size, large).result() is Signal.CONTINUE
        assert rest(store, run.cursor)[0] == frame(run.key, 0) + large

    def test_a_call_that_fails_fails_no_other(self, store: SQLiteStore) -> None:
        run = store.open_run(RunRequest("t", "r", "agent")).result()
        assert isinstance(run, RunOpened)
        engine = store.engine()

        def fails(tx: Any) -> None:
            tx.db.execute("SELECT nonsense")

        hold = threading.Event()
        first = engine.write(lambda tx: hold.wait(20))
        good = store.append(run.key, 0, frame(run.key, 0))
        bad = engine.write(fails)
        new = store.open_run(RunRequest("u", "r", "agent"))
        hold.set()
        assert first.result()
        with pytest.raises(StoreError, match="nonsense"):
            bad.result()
        assert good.result() is Signal.CONTINUE
        opened = new.result()
        assert isinstance(opened, RunOpened)
        assert store.append(opened.key, 0, frame(opened.key, 0)).result() is Signal.CONTINUE
        assert rest(store, run.cursor)[0] == frame(run.key, 0)

    def test_a_call_that_is_given_up_before_its_turn_does_nothing(self, store: SQLiteStore) -> None:
        hold = threading.Event()
        first = store.engine().write(lambda tx: hold.wait(20))
        given_up = store.open_run(RunRequest("t", "r", "agent"))
        assert given_up.cancel()
        hold.set()
        assert first.result()
        assert isinstance(store.open_run(RunRequest("t", "s", "agent")).result(), RunOpened)

    @pytest.mark.parametrize("path", ["", ":memory:", "file:x?mode=memory"])
    def test_a_value_that_is_no_path_is_refused(self, path: str) -> None:
        with pytest.raises(ValueError, match="SQLiteStore needs the path of a file"):
            SQLiteStore(path)

    @pytest.mark.parametrize(
        "options",
        [
            {"synchronous": "off"},
            {"on_concurrent_run": "queue"},
            {"lease": 16},
            {"lease": True},
            {"lease": 0},
        ],
    )
    def test_a_value_that_is_no_option_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(options))):
            SQLiteStore("x.db", **options)

    def test_a_value_that_is_no_bound_is_refused(self) -> None:
        for options in ({"max_age": 0}, {"max_threads": True}, {"resumable_runs": -1}):
            with pytest.raises(ValueError, match="must be a"):
                Retention(**options)

    def test_a_store_is_fast_with_power_failures_in_mind_too(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path / "threads.db", synchronous="full")
        a_whole_run(store)
        [(level,)] = (
            store.engine().write(lambda tx: tx.db.execute("PRAGMA synchronous").fetchall()).result()
        )
        assert level == 2
        store.close()


class TestWhatIsKept:
    def test_a_restart_forgets_nothing(self, store: SQLiteStore) -> None:
        key = a_whole_run(store, "é\0\ud800", "1", messages=b"[1]", state=b"{}")
        store.update_thread("é\0\ud800", {"name": "\udfff n", "archived": True}).result()
        store.close()
        [record] = store.list_threads().result().threads
        assert (record.thread_id, record.name, record.archived) == ("é\0\ud800", "\udfff n", True)
        cursor = store.open_cursor("é\0\ud800", f"{key.token}.0").result()
        assert rest(store, cursor)[::2] == (b"", True)
        assert rest(store, store.open_cursor("é\0\ud800", None).result())[0] == frame(
            key, "c0", "1"
        )

    def test_text_that_was_deleted_goes_from_the_file(self, store: SQLiteStore) -> None:
        for number in range(3):
            for _ in range(6):
                a_whole_run(
                    store, f"t{number}", messages=b"[1]", state=b"{}", message_ids=frozenset("ab")
                )
        live = store.open_run(RunRequest("t2", "r", "agent")).result()
        assert isinstance(live, RunOpened)
        for number in range(3):
            assert store.delete_thread(f"t{number}").result()
        store.close_run(live.key, 0, b"", result(live.key)).result()
        with pytest.MonkeyPatch.context() as patch:
            later = time.time() + 100
            patch.setattr(time, "time", lambda: later)
            while store.tidy().result():
                pass
        for table in ("thread", "run", "frame", "history", "outcome", "message"):
            assert _rows(Path(store.path), f"SELECT 1 FROM {table}") == [], table

    def test_only_the_last_runs_can_be_resumed_exactly(self, tmp_path: Path) -> None:
        bounds = Retention(resumable_runs=2, resume_seconds=0.001)
        store = SQLiteStore(tmp_path / "threads.db", retention=bounds)
        keys = [a_whole_run(store, data=str(number)) for number in range(4)]
        reading = store.open_cursor("t", f"{keys[0].token}.0").result()
        time.sleep(0.01)
        while store.tidy().result():
            pass
        whole = b"".join([frame(key, "c0", str(number)) for number, key in enumerate(keys)])
        assert rest(store, store.open_cursor("t", f"{keys[1].token}.0").result())[0] == whole
        after = store.open_cursor("t", f"{keys[2].token}.0").result()
        assert rest(store, after)[0] == frame(keys[3], "c0", "3")
        # A reader that stood at the end of what has gone has missed nothing.
        assert rest(store, reading)[0] == whole[len(frame(keys[0], "c0", "0")) :]
        store.close()

    def test_the_oldest_threads_go_beyond_each_bound_and_one_with_a_live_run_stays(
        self, tmp_path: Path
    ) -> None:
        def kept(**bounds: Any) -> list[str]:
            path = tmp_path / f"{next(iter(bounds))}.db"
            store = SQLiteStore(path, retention=Retention(resume_seconds=0.001, **bounds))
            now = time.time()
            for number in range(30):
                a_whole_run(store, f"t{number}", "x" * 20_000, ended_at=now - 1000 + number)
            live = store.open_run(RunRequest("t0", "live", "agent")).result()
            assert isinstance(live, RunOpened)
            time.sleep(0.01)
            while store.tidy().result():
                pass
            listed = store.list_threads().result().threads
            store.close()
            return [one.thread_id for one in listed]

        # The thread of a live run stays, whatever its age.
        assert kept(max_threads=3) == ["t29", "t28", "t0"]
        assert kept(max_age=990) == [f"t{number}" for number in range(29, 10, -1)] + ["t0"]
        few = kept(max_bytes=300_000)
        assert few[0] == "t29"
        assert 2 < len(few) < 12
        store = SQLiteStore(tmp_path / "runs.db", retention=Retention(max_runs_per_thread=2))
        keys = [
            a_whole_run(
                store,
                data=str(number),
                messages=b"[%d]" % number,
                message_ids=frozenset(str(number)),
            )
            for number in range(5)
        ]
        assert rest(store, store.open_cursor("t", None).result())[0] == frame(
            keys[3], "c0", "3"
        ) + frame(keys[4], "c0", "4")
        known = store.open_run(RunRequest("t", "r", "agent", tuple("01234"))).result()
        assert isinstance(known, RunOpened)
        assert known.known_message_ids == {"3", "4"}
        store.close()

    def test_a_page_is_read_through_an_index(self, store: SQLiteStore) -> None:
        a_whole_run(store)
        from copilot_bindings.stores.sqlite import listing

        asked: list[str] = []

        class Explaining:
            def __init__(self, db: sqlite3.Connection) -> None:
                self.db = db

            def execute(self, sql: str, values: Any) -> Any:
                asked.extend(row[3] for row in self.db.execute(f"EXPLAIN QUERY PLAN {sql}", values))
                return self.db.execute(sql, values)

        for query in (
            ThreadQuery(),
            ThreadQuery("ann", "agent", False, 5),
            ThreadQuery("ann", waiting=True),
        ):

            def explain(db: Any, query: ThreadQuery = query) -> Any:
                explaining: Any = Explaining(db)
                return listing.list_threads(explaining, query)

            store.engine().read(explain).result()
        searched = [index for index in asked if index.startswith("SEARCH")]
        listed = "SEARCH thread USING INDEX thread_listed (owner=?)"
        waiting = "SEARCH thread USING INDEX thread_waiting (owner=?)"
        has_open = "SEARCH run USING INDEX run_open (thread=?)"
        assert searched == [listed, has_open, listed, has_open, waiting, has_open, has_open]
        assert not any("TEMP B-TREE" in step for step in asked)

    def test_a_long_run_is_read_in_pages_and_resumed_in_its_middle(
        self, store: SQLiteStore
    ) -> None:
        run = store.open_run(RunRequest("t", "r", "agent")).result()
        assert isinstance(run, RunOpened)
        frames = [frame(run.key, number, "x" * 3000) for number in range(100)]
        at = 0
        for one in frames:
            store.append(run.key, at, one)
            at += len(one)
        compacted = b"".join([frame(run.key, f"c{number}", "y" * 3000) for number in range(100)])
        store.close_run(run.key, at, b"", RunResult(compacted)).result()
        store.close()
        for size in (1000, 7777, 1 << 20):
            data, cursor = b"", store.open_cursor("t", None).result()
            while True:
                batch = read(store, cursor, size)
                assert isinstance(batch, Batch)
                data, cursor = data + batch.data, batch.cursor
                if batch.ended:
                    break
            assert data == compacted
        after = store.open_cursor("t", f"{run.key.token}.49").result()
        assert rest(store, after)[0] == b"".join(frames[50:])
        after = store.open_cursor("t", f"{run.key.token}.c49").result()
        place = compacted.index(frame(run.key, "c50", "y" * 3000))
        assert rest(store, after)[0] == compacted[place:]


def _rows(path: Path, sql: str) -> list[Any]:
    db = sqlite3.connect(path)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()
