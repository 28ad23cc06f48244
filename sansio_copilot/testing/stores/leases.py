"""The promises of stores that have leases, and of stores whose runs supersede each other."""

from __future__ import annotations

from typing import Any

import attrs

from ...stores.protocol import Orphan, RunRequest, Signal, ThreadOfAnother, ThreadOwner, ThreadQuery
from .driven import Driven, StoreTests, Told, frame, result_of


class LeasedStoreConformance(StoreTests):
    """The promises of a store that outlives the processes which use it."""

    def expire(self, store: Any) -> None:
        """Let so much time pass that every lease of ``store`` has run out."""
        raise NotImplementedError

    def orphaned(self, *owners: str | None) -> tuple[Driven, list[Orphan]]:
        """Return a store with a run for each owner, all of which have died, and the orphans that a
        sweep has to find."""
        store = self.new()
        lost = []
        for number, owner in enumerate(owners):
            thread_id = f"t{number}"
            store.ended(thread_id, "1", messages=b"[1]", owner=owner, waits_for=b"[2]")
            run = store.opened(thread_id, "lost", owner=owner)
            assert run.lease is not None
            assert run.lease > 0
            store.append(run.key, 0, frame(run.key, 0))
            known: dict[str, Any] = {"owner": owner, "waits_for": b"[2]"}
            lost.append(Orphan(run.key, "agent", frame(run.key, 0), b"[1]", **known))
        self.expire(store.store)
        return store, lost

    def finalize(self, store: Driven, orphan: Orphan) -> None:
        """End the run of an orphan in its log, as the core does."""
        end = frame(orphan.key, 1)
        left = result_of(orphan.key, "2")
        assert store.close_run(orphan.key, len(orphan.frames), end, left) is not False

    def test_the_next_run_of_its_thread_finds_an_orphan(self) -> None:
        store, [lost] = self.orphaned(None)
        found = store.open_run(RunRequest("t0", "next", "agent"))
        assert found == lost
        self.finalize(store, found)
        store.opened("t0", "next")
        assert store.history("t0", "frames").endswith(frame(lost.key, "c0", "2"))

    def test_a_stop_finds_one_and_says_so(self) -> None:
        store, [lost] = self.orphaned(None)
        found = store.request_stop("t0", None, None)
        assert found == attrs.evolve(lost, stop_requested=True)

    def test_a_reader_finds_one(self) -> None:
        store, [lost] = self.orphaned(None)
        cursor, found = store.open_cursor("t0", None, None), None
        while found is None:
            batch = store.read(cursor, 1 << 16)
            cursor, found = batch.cursor, batch.orphan
            assert batch.data or found
        assert found == lost
        self.finalize(store, found)
        assert store.rest(cursor) == (frame(lost.key, 1), True)

    def test_a_sweep_finds_all_orphans(self) -> None:
        store, lost = self.orphaned(None, "ann", "bob")
        found: list[Orphan] = []
        while batch := store.orphans(2):
            assert len(batch) <= 2
            for orphan in batch:
                self.finalize(store, orphan)
            found += batch
        assert sorted(found, key=lambda one: one.key.seq) == sorted(
            lost, key=lambda one: one.key.seq
        )

    def test_a_run_with_an_owner_is_no_orphan(self) -> None:
        store = self.new()
        store.opened()
        assert store.orphans(10) == []

    def test_an_owner_that_was_thought_dead_is_fenced_out(self) -> None:
        store, [lost] = self.orphaned(None)
        [found] = store.orphans(10)
        late = frame(lost.key, 1, '"late"')
        assert store.append(lost.key, len(lost.frames), late) is Signal.SEALED
        assert store.renew(lost.key) is Signal.SEALED
        self.finalize(store, found)
        assert store.close_run(lost.key, len(lost.frames), late, None) is False
        assert store.append(lost.key, len(lost.frames), late) is Signal.SEALED
        assert store.replay("t0", f"{lost.key.token}.0") == frame(lost.key, 1)

    def test_anothers_orphan_is_not_handed_to_a_user(self) -> None:
        store, [lost] = self.orphaned("ann")
        assert store.open_run(RunRequest("t0", "next", "agent", owner="bob")) == ThreadOfAnother()
        assert store.request_stop("t0", None, "bob") is False
        assert store.delete_thread("t0", "bob") is False
        assert store.rest(store.open_cursor("t0", None, "bob")) == (b"", True)
        assert store.owner_of("t0") == ThreadOwner("ann")
        assert store.open_run(RunRequest("t0", "next", "agent", owner="ann")) == lost


class SupersedingStoreConformance(StoreTests):
    """The promises of a store in which the next run of a busy thread supersedes the live one."""

    supersedes = True

    def test_anothers_run_is_not_superseded(self) -> None:
        store = self.new()
        run = store.opened("t", "live", owner="ann")
        for run_id in ("next", "live"):
            request = RunRequest("t", run_id, "agent", owner="bob")
            assert store.open_run(request) == ThreadOfAnother()
        assert store.append(run.key, 0, frame(run.key, 0)) is Signal.CONTINUE

    def test_a_run_is_not_told_of_a_wait_that_another_run_may_have_been_the_answer_to(self) -> None:
        store = self.new()
        store.ended("t", "0", waits_for=b"[0]")
        first, second = store.opened("t", "first"), store.opened("t", "second")
        assert (first.waits_for, second.waits_for) == (b"[0]", None)
        store.close_run(first.key, 0, b"", result_of(first.key, "1", waits_for=b"[1]"))
        third = store.opened("t", "third")
        assert third.waits_for is None, "the second is open"
        store.close_run(third.key, 0, b"", None)
        store.close_run(second.key, 0, b"", None)
        assert store.opened("t", "fourth").waits_for == b"[1]"

    def test_the_live_run_is_stopped_and_ends_as_history_in_front(self) -> None:
        store, told = self.new(), Told()
        first = store.opened("t", "first")
        store.watch_run(first.key, told)
        second = store.opened("t", "second")
        self.wait_until(lambda: told.signals[-1:] == [Signal.STOP])
        left = result_of(second.key, "2", messages=b"[2]", waits_for=b"[2]")
        store.close_run(second.key, 0, b"", left)
        one = frame(first.key, 0)
        assert store.append(first.key, 0, one) is Signal.STOP
        assert store.rest(store.open_cursor("t", None, None))[1] is False
        assert store.listed(ThreadQuery())[0].waits_for is None, "the first is open"
        store.close_run(first.key, len(one), b"", result_of(first.key, "1", messages=b"[1]"))
        assert store.listed(ThreadQuery())[0].waits_for == b"[2]"
        assert store.history("t", "frames") == frame(first.key, "c0", "1") + frame(
            second.key, "c0", "2"
        )
        assert store.history("t", "messages") == b"[2]", "that of the run that was opened last"
