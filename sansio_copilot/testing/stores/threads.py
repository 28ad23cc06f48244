"""The promises of every store about threads: lists, history, changes, and owners."""

from __future__ import annotations

import attrs

from ...stores.protocol import (
    LogGone,
    RunRequest,
    Signal,
    ThreadOfAnother,
    ThreadOwner,
    ThreadQuery,
    UnknownCursor,
)
from .driven import Driven, StoreTests, Told, frame, refuses, result_of


class ThreadTests(StoreTests):
    """The promises of every store about threads."""

    def test_the_last_updated_come_first_page_by_page(self) -> None:
        store = self.new()
        for number in range(7):
            store.ended(f"t{number}", "1", ended_at=float(10 + number // 2))
        whole = store.listed(ThreadQuery())
        assert {one.thread_id for one in whole} == {f"t{number}" for number in range(7)}
        times = [one.updated_at for one in whole]
        assert times == sorted(times, reverse=True)
        assert (whole[0].agent_id, whole[0].created_at) == ("agent", 13.0)
        assert (whole[0].name, whole[0].archived) == (None, False)
        for limit in (1, 2, 3, 7):
            assert store.listed(ThreadQuery(limit=limit)) == whole

    def test_a_page_does_not_shift_when_threads_are_new(self) -> None:
        store = self.new()
        for number in range(4):
            store.ended(f"t{number}", "1", ended_at=float(number))
        first = store.list_threads(ThreadQuery(limit=2))
        store.ended("new", "1", ended_at=9.0)
        rest = store.listed(ThreadQuery(limit=2, cursor=first.next_cursor))
        assert [one.thread_id for one in rest] == ["t1", "t0"]

    def test_a_list_is_of_one_agent_and_archived_or_not(self) -> None:
        store = self.new()
        store.ended("a", "1", agent_id="one", ended_at=1.0)
        store.ended("b", "1", agent_id="two", ended_at=2.0)
        store.update_thread("b", {"archived": True}, None)

        def ids(**fields: object) -> list[str]:
            query = attrs.evolve(ThreadQuery(limit=1), **fields)  # type: ignore[arg-type]
            return sorted(one.thread_id for one in store.listed(query))

        assert ids() == ["a", "b"]
        assert (ids(archived=False), ids(archived=True)) == (["a"], ["b"])
        assert (ids(agent_id="two"), ids(agent_id="two", archived=False)) == (["b"], [])

    def test_a_cursor_that_no_page_has_given_out_is_refused(self) -> None:
        store = self.new()
        # The last four have NaN, infinity and numbers as texts for a time.
        numbers = ("WyJuYW4iLCJhIl0", "WzFlOTk5LCJhIl0", "WyJpbmYiLCJhIl0", "WyIxIiwiYSJd")
        for cursor in ("", "x", "é", "W10", "WzEsMl0", "0", *numbers):
            refuses(UnknownCursor, lambda c=cursor: store.list_threads(ThreadQuery(cursor=c)))  # type: ignore[misc]

    def test_history_is_what_the_runs_left_in_pages_of_any_size(self) -> None:
        store = self.new()
        first = store.ended("t", "1", messages=b"[1]", state=b'{"a":1}')
        second = store.ended("t", "2", "3")
        frames = frame(first, "c0", "1") + frame(second, "c0", "2") + frame(second, "c1", "3")
        for size in (1, 10, 1 << 16):
            assert store.history("t", "frames", None, size) == frames
            assert store.history("t", "messages", None, size) == b"[1]"
            assert store.history("t", "state", None, size) == b'{"a":1}'
        store.ended("t", "4", messages=b"[1,2]", state=b"null")
        assert store.history("t", "messages") == b"[1,2]"
        assert store.history("t", "state") == b"null"

    def test_a_thread_that_there_is_not_has_an_empty_history(self) -> None:
        store = self.new()
        assert store.history("t", "frames") == b""
        assert store.history("t", "messages") == b"[]"
        assert store.history("t", "state") == b""

    def test_a_live_run_is_no_history_yet(self) -> None:
        store = self.new()
        run = store.opened()
        store.append(run.key, 0, frame(run.key, 0))
        assert store.history("t", "frames") == b""
        assert store.listed(ThreadQuery()) == []
        assert store.update_thread("t", {"name": "x"}, None) is None

    def test_a_thread_is_named_and_archived(self) -> None:
        store = self.new()
        store.ended("t", "1", ended_at=5.0)
        record = store.update_thread("t", {"name": "n"}, None)
        assert (record.name, record.archived, record.updated_at) == ("n", False, 5.0)
        record = store.update_thread("t", {"archived": True}, None)
        assert (record.name, record.archived) == ("n", True)
        assert store.listed(ThreadQuery()) == [record]
        assert store.update_thread("t", {"name": None, "archived": False}, None).name is None
        assert store.update_thread("nobody's", {"name": "n"}, None) is None

    def test_a_thread_tells_what_its_last_run_waits_for(self) -> None:
        store = self.new()
        store.ended("t", "1", waits_for=b'{"a":1}', ended_at=5.0)
        store.ended("idle", "1", ended_at=4.0)
        (record, idle) = store.listed(ThreadQuery())
        assert (record.waits_for, idle.waits_for) == (b'{"a":1}', None)
        assert store.update_thread("t", {"archived": True}, None).waits_for == b'{"a":1}'
        # The thread waits for nothing while a run is open, because that run may be the answer.
        run = store.opened()
        assert store.listed(ThreadQuery())[0].waits_for is None
        assert store.update_thread("t", {"archived": False}, None).waits_for is None
        # The thread still waits, because a run that leaves nothing has answered nothing.
        store.close_run(run.key, 0, b"", None)
        assert store.listed(ThreadQuery()) == [record, idle]
        store.ended("t", "2", ended_at=6.0)
        assert store.listed(ThreadQuery())[0].waits_for is None

    def test_a_run_is_told_what_its_thread_has_waited_for(self) -> None:
        store = self.new()
        first = store.opened()
        assert first.waits_for is None
        end = frame(first.key, 0)
        store.append(first.key, 0, end, result_of(first.key, "1", waits_for=b"[1]"))
        # The first run is sealed by the second.
        second = store.opened(run_id="2")
        assert second.waits_for == b"[1]"
        # A run that leaves nothing has answered nothing.
        store.close_run(second.key, 0, b"", None)
        third = store.opened(run_id="3")
        assert third.waits_for == b"[1]"
        store.close_run(third.key, 0, b"", result_of(third.key, "3"))
        assert store.opened(run_id="4").waits_for is None

    def test_a_thread_that_was_deleted_has_waited_for_nothing(self) -> None:
        store = self.new()
        store.ended("t", "1", waits_for=b"[1]")
        store.ended("cleared", "1", waits_for=b"[1]")
        store.delete_thread("t", None)
        assert store.opened("t").waits_for is None
        assert store.clear(None) is None
        assert store.opened("cleared").waits_for is None

    def test_the_wait_of_a_thread_comes_with_the_terminal_event_and_may_be_taken_back(self) -> None:
        store = self.new()
        first = store.opened()
        end = frame(first.key, 0)
        waiting = result_of(first.key, "1", waits_for=b"[1]", ended_at=1.0)
        store.append(first.key, 0, end, waiting)
        second = store.opened(run_id="2")
        assert store.listed(ThreadQuery())[0].waits_for is None
        store.append(second.key, 0, end, result_of(second.key, "2", waits_for=b"[2]"))
        store.append(second.key, len(end), end)
        store.close_run(second.key, 2 * len(end), b"", result_of(second.key, "3", ended_at=2.0))
        assert store.listed(ThreadQuery())[0].waits_for is None
        third = store.opened(run_id="3")
        waiting = result_of(third.key, "4", waits_for=b"[3]", ended_at=3.0)
        store.append(third.key, 0, end, waiting)
        store.close_run(third.key, len(end), b"", waiting)
        assert store.listed(ThreadQuery())[0].waits_for == b"[3]"

    def test_a_list_may_be_of_threads_that_wait(self) -> None:
        store = self.new()
        for number in range(5):
            waits_for = b"{}" if number % 2 else None
            store.ended(f"t{number}", "1", ended_at=float(number), waits_for=waits_for)
        store.ended("hers", "1", owner="ann", waits_for=b"{}")

        def ids(waiting: bool, owner: str | None = None) -> list[str]:
            query = ThreadQuery(owner, limit=1, waiting=waiting)
            return [one.thread_id for one in store.listed(query)]

        assert (ids(True), ids(False)) == (["t3", "t1"], ["t4", "t2", "t0"])
        assert (ids(True, "ann"), ids(False, "ann")) == (["hers"], [])
        store.opened("t3", "2")
        assert (ids(True), ids(False)) == (["t1"], ["t4", "t3", "t2", "t0"])
        store.clear(None)
        store.ended("t1", "1")
        assert ids(True) == []

    def test_a_deleted_thread_leaves_nothing_and_its_live_run_is_stopped(self) -> None:
        store, told = self.new(), Told()
        key = store.ended("t", "1", message_ids=frozenset({"m"}))
        run = store.opened("t", "live")
        store.watch_run(run.key, told)
        assert store.delete_thread("t", None) is True
        assert store.delete_thread("t", None) is False
        self.wait_until(lambda: told.signals[-1:] == [Signal.STOP])
        end = frame(run.key, 0)
        assert store.append(run.key, 0, end) is Signal.STOP
        store.close_run(run.key, len(end), b"", result_of(run.key, "2"))
        assert store.rest(run.cursor) == (end, True)
        assert store.listed(ThreadQuery()) == []
        again = store.opened("t", "r", message_ids=("m",))
        assert again.known_message_ids == frozenset()
        store.append(again.key, 0, frame(again.key, 0))
        # The id of an event of the deleted thread, whose runs had the same ids, is none of this
        # thread.
        assert store.replay("t", f"{key.token}.0") == frame(again.key, 0)

    def test_clearing_forgets_history_and_leaves_live_runs(self) -> None:
        store = self.new()
        store.ended("a", "1", messages=b"[1]")
        store.ended("b", "1")
        run = store.opened("b", "live")
        store.clear(None)
        assert store.listed(ThreadQuery()) == []
        assert store.history("a", "messages") == b"[]"
        store.close_run(run.key, 0, frame(run.key, 0), result_of(run.key, "2"))
        assert store.replay("b") == frame(run.key, "c0", "2")

    # Owners of threads

    def owned(self) -> Driven:
        """A store in which two users have a thread each."""
        store = self.new()
        for owner in ("ann", "bob"):
            store.ended(owner, "1", owner=owner, messages=b"[1]", state=b"{}")
        return store

    def test_anothers_thread_is_not_found(self) -> None:
        store = self.owned()
        live = store.opened("ann", "live", owner="ann")
        for owner in ("bob", None):
            request = RunRequest("ann", "x", "agent", owner=owner)
            assert store.open_run(request) == ThreadOfAnother()
            assert store.rest(store.open_cursor("ann", None, owner)) == (b"", True)
            assert store.request_stop("ann", None, owner) is False
            assert store.history("ann", "frames", owner) == b""
            assert store.history("ann", "messages", owner) == b"[]"
            assert store.history("ann", "state", owner) == b""
            assert store.update_thread("ann", {"name": "x"}, owner) is None
            assert store.delete_thread("ann", owner) is False
            store.clear(owner)
        assert store.renew(live.key) is Signal.CONTINUE
        assert store.request_stop("ann", None, "ann") is True
        assert store.history("ann", "messages", "ann") == b"[1]"
        assert [one.name for one in store.listed(ThreadQuery("ann"))] == [None]
        assert store.listed(ThreadQuery("bob")) == []

    def test_whose_a_thread_is(self) -> None:
        store = self.owned()
        store.ended("nobody's", "1")
        store.opened("live", owner="ann")
        for thread_id, owner in (("ann", "ann"), ("bob", "bob"), ("nobody's", None)):
            assert store.owner_of(thread_id) == ThreadOwner(owner)
        assert store.owner_of("live") == ThreadOwner("ann"), "though it has no history yet"
        assert store.owner_of("none") is None
        assert store.delete_thread("ann", "ann") is True
        assert store.owner_of("ann") is None

    def test_the_threads_of_all(self) -> None:
        store = self.owned()
        for number in range(5):
            store.ended(f"nobody's {number}", "1", ended_at=1.0)
        store.opened("live", owner="ann")
        expected: set[tuple[str | None, str]] = {
            (None, f"nobody's {number}") for number in range(5)
        }
        expected |= {("ann", "ann"), ("bob", "bob")}
        for limit in (1, 2, 7, 100):
            found: set[tuple[str | None, str]] = set()
            page = store.threads_of_all(None, limit)
            while True:
                for owner, record in page.threads:
                    assert record in store.listed(ThreadQuery(owner))
                    found.add((owner, record.thread_id))
                if page.next_cursor is None:
                    break
                page = store.threads_of_all(page.next_cursor, limit)
            assert found == expected

    def test_a_thread_that_is_nobodys_is_claimed(self) -> None:
        store = self.owned()
        store.ended("old", "1", messages=b"[1]")
        run = store.opened("old", "live")
        assert store.claim_thread("old", "ann") is True
        assert store.claim_thread("old", "ann") is True, "though the first answer may be lost"
        assert store.claim_thread("old", "bob") is False
        assert store.claim_thread("bob", "ann") is False
        assert store.claim_thread("none", "ann") is False
        assert store.owner_of("old") == ThreadOwner("ann")
        assert [one.thread_id for one in store.listed(ThreadQuery())] == []
        assert {one.thread_id for one in store.listed(ThreadQuery("ann"))} == {"ann", "old"}
        assert store.history("old", "messages", "ann") == b"[1]"
        assert store.history("old", "messages") == b"[]"
        store.close_run(run.key, 0, frame(run.key, 0), result_of(run.key, "2", ended_at=9.0))
        assert store.replay("old", None, "ann").endswith(frame(run.key, "c0", "2"))
        assert [one.thread_id for one in store.listed(ThreadQuery())] == []
        assert store.listed(ThreadQuery("ann"))[0].updated_at == 9.0
        assert store.delete_thread("old", "ann") is True

    def test_the_bytes_that_the_threads_of_a_user_take(self) -> None:
        store = self.owned()
        assert store.bytes_of("nobody") == 0
        before = store.bytes_of("ann")
        assert before >= 0
        store.ended("more", "1" * 1000, owner="ann")
        more = store.bytes_of("ann")
        assert more >= before + 1000
        store.ended("his", "1" * 1000, owner="bob")
        store.ended("nobody's", "1" * 1000)
        assert store.bytes_of("ann") == more
        store.delete_thread("more", "ann")
        assert store.bytes_of("ann") == before
        store.clear("ann")
        assert store.bytes_of("ann") == 0

    def test_a_list_is_of_one_owner(self) -> None:
        store = self.owned()
        store.ended("nobody's", "1")
        for owner, expected in (("ann", "ann"), ("bob", "bob"), (None, "nobody's")):
            listed = store.listed(ThreadQuery(owner, limit=1))
            assert [one.thread_id for one in listed] == [expected]

    def test_the_ids_of_another_are_of_no_use(self) -> None:
        """Neither those of events, nor of messages, nor of runs, nor the places of pages."""
        store = self.new()
        hers = store.ended("ann", "1", "2", owner="ann", message_ids=frozenset({"m"}))
        his = store.opened("bob", hers.run_id, owner="bob", message_ids=("m",))
        assert his.known_message_ids == frozenset()
        store.append(his.key, 0, frame(his.key, 0))
        for position in ("0", "1", "c0"):
            after = f"{hers.token}.{position}"
            assert store.replay("bob", after, "bob") == frame(his.key, 0)
            assert store.replay("ann", after, "bob") == b""
        store.close_run(his.key, 0, frame(his.key, 0), result_of(his.key, "3"))
        store.ended("ann2", "1", owner="ann")
        page = store.list_threads(ThreadQuery("ann", limit=1))
        behind_hers = store.list_threads(ThreadQuery("bob", cursor=page.next_cursor))
        assert {one.thread_id for one in behind_hers.threads} <= {"bob"}

    def test_an_id_is_free_when_its_thread_is_gone(self) -> None:
        store = self.owned()
        assert store.delete_thread("ann", "ann") is True
        run = store.opened("ann", "r", owner="bob")
        assert store.rest(store.open_cursor("ann", None, "bob")) == (b"", False)
        store.close_run(run.key, 0, b"", result_of(run.key, "1"))
        assert store.history("ann", "frames", "ann") == b""

    def test_a_page_of_what_has_gone_says_so(self) -> None:
        store = self.new()
        store.ended("t", "1", "2")
        page = store.read_history("t", "frames", None, 5, None)
        store.delete_thread("t", None)
        again = store.read_history("t", "frames", page.cursor, 1 << 16, None)
        whole = not isinstance(again, LogGone) and b"2" in again.data
        assert again == LogGone() or whole, "never an end that looks like the whole"
