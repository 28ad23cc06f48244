"""The promises of every store about runs, about signals to their owners, and to readers."""

from __future__ import annotations

from ...stores.protocol import (
    LogGone,
    PositionGap,
    RunRequest,
    Signal,
    ThreadBusy,
    ThreadQuery,
    check_store,
)
from .driven import StoreTests, Told, frame, refuses, result_of


class RunTests(StoreTests):
    """The promises of every store about runs, signals and readers."""

    def test_a_store_has_all_methods_and_is_ready(self) -> None:
        store = self.new()
        check_store(store.store)
        for name in ("check", "close"):
            if hasattr(store.store, name):
                assert getattr(store, name)() is None

    # Runs, as their owners see them

    def test_a_run_is_read_as_it_is_appended(self) -> None:
        store = self.new()
        run = store.opened("t", "r")
        assert (run.key.thread_id, run.key.run_id) == ("t", "r")
        assert store.rest(run.cursor) == (b"", False)
        whole, cursor = b"", run.cursor
        for position in range(3):
            one = frame(run.key, position, '"é"')
            assert store.append(run.key, len(whole), one) is Signal.CONTINUE
            whole += one
        for size in (1, 7, 1 << 16):
            assert store.rest(cursor, size) == (whole, False)
        end = frame(run.key, 3)
        store.close_run(run.key, len(whole), end, result_of(run.key, "1"))
        assert store.rest(cursor, 7) == (whole + end, True)

    def test_frames_that_are_appended_again_are_not_doubled(self) -> None:
        store = self.new()
        run = store.opened()
        one, two, three = (frame(run.key, position) for position in range(3))
        store.append(run.key, 0, one)
        store.append(run.key, 0, one)
        store.append(run.key, 0, one + two)
        store.append(run.key, 0, one)
        assert store.rest(run.cursor) == (one + two, False)
        store.close_run(run.key, len(one), two + three, result_of(run.key, "1"))
        store.close_run(run.key, len(one), two + three, result_of(run.key, "1"))
        assert store.rest(run.cursor) == (one + two + three, True)

    def test_an_append_that_leaves_a_gap_is_refused_and_changes_nothing(self) -> None:
        store = self.new()
        run = store.opened()
        one = frame(run.key, 0)
        store.append(run.key, 0, one)
        refuses(PositionGap, lambda: store.append(run.key, len(one) + 1, one))
        refuses(PositionGap, lambda: store.close_run(run.key, len(one) + 1, one, None))
        assert store.rest(run.cursor) == (one, False)
        assert store.renew(run.key) is Signal.CONTINUE

    def test_the_first_close_counts_and_nothing_is_added_to_it(self) -> None:
        store = self.new()
        run = store.opened()
        end = frame(run.key, 0)
        left = result_of(run.key, "1", messages=b"[1]")
        closed = store.close_run(run.key, 0, end, left)
        assert closed is None or closed is True
        # The second close is answered with False, so that the end of a run is told once.
        assert store.close_run(run.key, 0, end + end, None) is False
        assert store.append(run.key, len(end), end) is Signal.SEALED
        assert store.renew(run.key) is Signal.SEALED
        assert store.rest(run.cursor) == (end, True)
        assert store.history("t", "messages") == b"[1]"

    def test_a_thread_has_one_live_run(self) -> None:
        store = self.new()
        first = store.opened("t", "r")
        store.append(first.key, 0, frame(first.key, 0))
        if not self.supersedes:
            assert store.open_run(RunRequest("t", "s", "agent")) == ThreadBusy("r")
        store.opened("other", "r")
        store.close_run(first.key, len(frame(first.key, 0)), b"", result_of(first.key, "1"))
        second = store.opened("t", "r")
        assert second.key.seq > first.key.seq
        assert second.key.token != first.key.token

    def test_a_run_with_a_result_gives_way_to_the_next(self) -> None:
        store, told = self.new(), Told()
        first = store.opened("t", "first")
        store.watch_run(first.key, told)
        end = frame(first.key, 0)
        store.append(first.key, 0, end, result_of(first.key, "1", messages=b"[1]"))
        assert told.signals == []
        store.opened("t", "second")
        self.wait_until(lambda: told.signals[-1:] == [Signal.SEALED])
        assert store.append(first.key, len(end), end) is Signal.SEALED
        assert store.rest(first.cursor) == (end, True)
        assert store.history("t", "messages") == b"[1]"

    def test_a_run_that_leaves_nothing(self) -> None:
        store = self.new()
        run = store.opened()
        store.close_run(run.key, 0, frame(run.key, 0), None)
        assert store.rest(run.cursor) == (frame(run.key, 0), True)
        assert store.listed(ThreadQuery()) == []
        assert store.replay("t") == b""

    def test_the_messages_that_history_has_are_known(self) -> None:
        store = self.new()
        store.ended("t", "1", message_ids=frozenset({"a", "b"}))
        run = store.opened("t", "r", message_ids=("b", "c"))
        assert run.known_message_ids == {"b"}
        assert store.opened("u", message_ids=("b",)).known_message_ids == frozenset()

    # Signals

    def test_a_stop_reaches_the_owner_once(self) -> None:
        store, told = self.new(), Told()
        run = store.opened("t", "r")
        store.watch_run(run.key, told)
        assert store.request_stop("t", "another", None) is False
        assert store.request_stop("nobody's", None, None) is False
        assert told.signals == []
        assert store.request_stop("t", "r", None) is True
        assert store.request_stop("t", None, None) is False
        self.wait_until(lambda: told.signals[-1:] == [Signal.STOP])
        assert store.renew(run.key) is Signal.STOP
        assert store.append(run.key, 0, frame(run.key, 0)) is Signal.STOP
        store.close_run(run.key, len(frame(run.key, 0)), b"", result_of(run.key, "1"))
        assert store.replay("t") == frame(run.key, "c0", "1")

    def test_a_signal_that_is_there_already_is_told_at_once(self) -> None:
        store, told, late = self.new(), Told(), Told()
        run = store.opened()
        store.watch_run(run.key, told)()
        store.request_stop("t", None, None)
        store.watch_run(run.key, late)
        self.wait_until(lambda: late.signals == [Signal.STOP])
        assert told.signals == [], "its watch had ended"

    # Readers

    def test_a_thread_that_nobody_knows_has_ended(self) -> None:
        store = self.new()
        assert store.rest(store.open_cursor("t", None, None)) == (b"", True)
        assert store.listed(ThreadQuery()) == []

    def test_a_reader_gets_history_compacted_and_then_the_live_run(self) -> None:
        store = self.new()
        first = store.ended("t", "1", "2")
        run = store.opened("t", "second")
        store.append(run.key, 0, frame(run.key, 0))
        cursor = store.open_cursor("t", None, None)
        before = frame(first, "c0", "1") + frame(first, "c1", "2") + frame(run.key, 0)
        assert store.rest(cursor, 11) == (before, False)
        end = frame(run.key, 1)
        store.close_run(run.key, len(frame(run.key, 0)), end, result_of(run.key, "3"))
        assert store.rest(cursor, 11) == (before + end, True)

    def test_a_reader_resumes_behind_the_event_that_it_saw(self) -> None:
        store = self.new()
        first = store.ended("t", "1", "2")
        second = store.ended("t", "3")
        rest = frame(first, 1, "2") + frame(second, "c0", "3")
        assert store.replay("t", f"{first.token}.0") == rest
        compacted = frame(first, "c1", "2") + frame(second, "c0", "3")
        assert store.replay("t", f"{first.token}.c0") == compacted
        assert store.replay("t", f"{second.token}.c0") == b""
        for unknown in ("", "x", f"{first.token}.9", "9.00000000.0", "é\n"):
            assert store.replay("t", unknown) == store.replay("t"), unknown

    def test_a_reader_that_waits_is_told_when_there_is_more(self) -> None:
        store, told, gone = self.new(), Told(), Told()
        run = store.opened()
        store.watch(run.cursor, told)
        store.watch(run.cursor, gone)()
        store.append(run.key, 0, frame(run.key, 0))
        self.wait_until(lambda: bool(told.signals))
        assert gone.signals == []
        behind = store.read(run.cursor, 1 << 16).cursor
        for cursor in (run.cursor, behind):
            more = Told()
            store.watch(cursor, more)
            if cursor is behind:
                store.close_run(run.key, len(frame(run.key, 0)), b"", None)
            self.wait_until(lambda more=more: bool(more.signals))  # type: ignore[misc]

    def test_a_reader_is_never_told_less_than_all(self) -> None:
        store = self.new()
        key = store.ended("t", "1", "2")
        batch = store.read(store.open_cursor("t", None, None), 5)
        assert store.delete_thread("t", None) is True
        data, gone = batch.data, False
        while not (gone or batch.ended):
            following = store.read(batch.cursor, 5)
            gone = isinstance(following, LogGone)
            data += b"" if gone else following.data
            batch = batch if gone else following
        assert gone or data == frame(key, "c0", "1") + frame(key, "c1", "2")
