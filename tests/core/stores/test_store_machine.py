"""MemoryStore alone, by any calls in any order, beside a model that only knows lists."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from msgspec import structs
from support.model_store import ModelReader, ModelRun, ModelStore, split_frames
from support.owner import history_of, threads_of

from sansio_copilot.stores.memory import MemoryStore
from sansio_copilot.stores.protocol import (
    LogGone,
    PositionGap,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
)


def frames_of(key: RunKey, first: int, count: int) -> bytes:
    ids = [f"{key.token}.{first + index}" for index in range(count)]
    return b"".join(f"id: {event_id}\ndata: {{}}\n\n".encode() for event_id in ids)


@attrs.define(eq=False)
class Reader:
    """A cursor, and what it is to see."""

    cursor: Any
    model: ModelReader
    position: int = 0
    fresh: bool = True

    @property
    def has_news(self) -> bool:
        return bool(self.model.read(self.position, 1)) or self.model.ends(self.position)


@attrs.define(eq=False)
class Watch:
    """A watcher that waits at a reader's cursor."""

    store: MemoryStore
    reader: Reader
    told: int = 0
    has_moved: bool = False
    cancel: Callable[[], None] = attrs.field(default=lambda: None)

    def __call__(self) -> None:
        self.told += 1
        # A reader that is told looks at once, and has to find what it was told of, because it waits
        # again if it finds nothing.
        batch = self.store.read(self.reader.cursor, 1)
        something = isinstance(batch, LogGone) or batch.data or batch.ended
        # A superseded run may end without another word, and the reader goes on to the next.
        self.has_moved = not isinstance(batch, LogGone) and batch.cursor != self.reader.cursor
        assert something or self.has_moved or self.reader.fresh, "told before there is anything"


@attrs.define(eq=False)
class Owner:
    """An owner who wants to hear of signals."""

    run: ModelRun
    told: set[Signal] = attrs.field(factory=set)
    cancel: Callable[[], None] = attrs.field(default=lambda: None)

    def __call__(self, signal: Signal) -> None:
        self.told.add(signal)


THREADS = st.sampled_from(["s", "t", "u"])
RUN_IDS = st.sampled_from(["a", "b"])
MESSAGE_IDS = st.frozensets(st.sampled_from(["m1", "m2", "m3"]), max_size=2)
RESULTS = st.none() | st.builds(
    RunResult,
    st.integers(0, 3).map(lambda count: frames_of(RunKey("", 0, ""), 0, count)),
    st.sampled_from([None, b"[]", b"[1]", b"[1,2]"]),
    st.sampled_from([None, b"{}", b'{"a":1}', b"null"]),
    MESSAGE_IDS,
    st.floats(0, 9),
    st.sampled_from([None, b"{}"]),
)


class StoreMachine(RuleBasedStateMachine):
    """Each reader sees one order of bytes, each byte is counted once, and nobody waits in vain."""

    runs = Bundle("runs")
    readers = Bundle("readers")

    @initialize(
        limits=st.fixed_dictionaries(
            {
                "on_concurrent_run": st.sampled_from(["reject", "supersede"]),
                "resumable_runs": st.sampled_from([0, 1, 2, math.inf]),
                "max_runs_per_thread": st.sampled_from([0, 1, 2]),
                "max_threads": st.sampled_from([0, 1, 2, math.inf]),
                "max_bytes": st.sampled_from([0, 1500, 3000, 6000, math.inf]),
            }
        )
    )
    def make(self, limits: dict[str, Any]) -> None:
        self.store = MemoryStore(**limits)
        self.model = ModelStore(**limits)
        self.watches: list[Watch] = []
        self.owners: list[Owner] = []
        self.all_readers: list[Reader] = []
        self.everybody: list[weakref.ref[Watch | Owner]] = []

    def result_of(self, run: ModelRun, result: RunResult | None) -> RunResult | None:
        """``result`` with the ids that its run's compacted frames have."""
        if result is None:
            return None
        token = RunKey("", 0, "").token.encode()
        frames = result.frames.replace(token + b".", run.key.token.encode() + b".c")
        return structs.replace(result, frames=frames)

    def read_from(self, cursor: Any, model: ModelReader) -> Reader:
        reader = Reader(cursor, model)
        self.all_readers.append(reader)
        return reader

    # Owners

    @rule(target=runs, thread_id=THREADS, run_id=RUN_IDS, message_ids=MESSAGE_IDS)
    def open(self, thread_id: str, run_id: str, message_ids: frozenset[str]) -> Any:
        request = RunRequest(thread_id, run_id, "agent", tuple(message_ids))
        self.model.begin_call(self.store)
        outcome, run = self.store.open_run(request), self.model.open_run(request)
        if isinstance(run, ThreadBusy):
            assert outcome == run
            return multiple()
        assert isinstance(outcome, RunOpened)
        assert outcome.key == run.key
        assert outcome.known_message_ids == self.model.known_message_ids(request)
        assert outcome.waits_for == self.model.waited_before(request)
        self.read_from(outcome.cursor, self.model.own_reader(run))
        owner = Owner(run)
        self.everybody.append(weakref.ref(owner))
        owner.cancel = self.store.watch_run(run.key, owner)
        self.owners.append(owner)
        return run

    @rule(run=runs, count=st.integers(0, 3), again=st.integers(0, 3), result=RESULTS)
    def append(self, run: ModelRun, count: int, again: int, result: RunResult | None) -> None:
        """Append frames behind those that are there, or some of those once more."""
        self.model.begin_call(self.store)
        at, old, new = self.frames_from(run, again, count)
        result = self.result_of(run, result)
        signal = self.store.append(run.key, at, old + new, result)
        assert signal is self.model.append(run.key, new, result)

    @rule(run=runs, result=RESULTS)
    def append_late(self, run: ModelRun, result: RunResult | None) -> None:
        """An append that another has overtaken says nothing, and neither does its result."""
        at, old, _ = self.frames_from(run, 2, 0)
        frames = b"".join(split_frames(old)[:-1])
        if len(frames) < len(old):
            signal = self.store.append(run.key, at, frames, self.result_of(run, result))
            assert signal is run.signal

    @rule(run=runs, closes=st.booleans())
    def append_too_far(self, run: ModelRun, closes: bool) -> None:
        """Frames behind a gap are refused, and change nothing."""
        call = self.store.close_run if closes else self.store.append
        if run.ended:
            call(run.key, len(run.data) + 1, b"data: 1\n\n", None)
        else:
            with pytest.raises(PositionGap):
                call(run.key, len(run.data) + 1, b"data: 1\n\n", None)

    @rule(run=runs, count=st.integers(0, 2), again=st.integers(0, 2), result=RESULTS)
    def close(self, run: ModelRun, count: int, again: int, result: RunResult | None) -> None:
        self.model.begin_call(self.store)
        at, old, new = self.frames_from(run, again, count)
        result = self.result_of(run, result)
        self.store.close_run(run.key, at, old + new, result)
        self.model.close_run(run.key, new, result)

    def frames_from(self, run: ModelRun, again: int, count: int) -> tuple[int, bytes, bytes]:
        """Return the place of the last ``again`` frames of a run, these, and ``count`` new ones."""
        old = b"".join(run.frames[max(len(run.frames) - again, 0) :])
        return len(run.data) - len(old), old, frames_of(run.key, len(run.frames), count)

    @rule(run=runs)
    def renew(self, run: ModelRun) -> None:
        assert self.store.renew(run.key) is run.signal

    @rule(thread_id=THREADS, run_id=st.none() | RUN_IDS)
    def stop(self, thread_id: str, run_id: str | None) -> None:
        self.model.begin_call(self.store)
        stopped = self.store.request_stop(thread_id, run_id)
        assert stopped is self.model.request_stop(thread_id, run_id)

    # Readers

    @rule(target=readers, thread_id=THREADS)
    def connect(self, thread_id: str) -> Reader:
        self.model.begin_call(self.store)
        cursor = self.store.open_cursor(thread_id, None)
        return self.read_from(cursor, self.model.open_cursor(thread_id, None))

    @rule(target=readers, run=runs, position=st.integers(0, 4), compacted=st.booleans())
    def resume(self, run: ModelRun, position: int, compacted: bool) -> Reader:
        after = f"{run.key.token}.{'c' if compacted else ''}{position}"
        self.model.begin_call(self.store)
        cursor = self.store.open_cursor(run.key.thread_id, after)
        return self.read_from(cursor, self.model.open_cursor(run.key.thread_id, after))

    @rule(reader=readers, max_bytes=st.integers(1, 60))
    def read(self, reader: Reader, max_bytes: int) -> None:
        self.read_some(reader, max_bytes)

    def read_some(self, reader: Reader, max_bytes: int) -> None:
        batch = self.store.read(reader.cursor, max_bytes)
        expected = reader.model.read(reader.position, max_bytes)
        if isinstance(batch, LogGone):
            assert batch == expected
            return
        assert batch.data == expected
        reader.position += len(batch.data)
        reader.cursor, reader.fresh = batch.cursor, False
        assert batch.ended == reader.model.ends(reader.position)

    @rule(reader=readers)
    def watch(self, reader: Reader) -> None:
        at = attrs.evolve(reader)
        watch = Watch(self.store, at)
        self.everybody.append(weakref.ref(watch))
        watch.cancel = self.store.watch(at.cursor, watch)
        if watch.told:
            # A cursor that was never read may have nothing but empty runs in front of it.
            assert at.has_news or at.fresh
        else:
            self.watches.append(watch)

    @rule(choose=st.integers(0, 9))
    def give_up(self, choose: int) -> None:
        if self.watches:
            watch = self.watches.pop(choose % len(self.watches))
            watch.cancel()
            watch.cancel()

    # Threads

    @rule(thread_id=THREADS, name=st.sampled_from([None, "n"]), archived=st.booleans())
    def update(self, thread_id: str, name: str | None, archived: bool) -> None:
        changes = {"name": name, "archived": archived}
        self.model.begin_call(self.store)
        record = self.store.update_thread(thread_id, changes)
        assert record == self.model.update_thread(thread_id, changes)

    @rule(thread_id=THREADS)
    def delete(self, thread_id: str) -> None:
        self.model.begin_call(self.store)
        assert self.store.delete_thread(thread_id) is self.model.delete_thread(thread_id)

    @rule()
    def clear(self) -> None:
        self.model.begin_call(self.store)
        self.store.clear()
        self.model.clear()

    # Invariants

    @invariant()
    def every_byte_is_counted_once(self) -> None:
        if hasattr(self, "store"):
            self.model.begin_call(self.store)
            assert self.store.total_bytes == self.model.total_bytes

    @invariant()
    def every_thread_is_as_its_runs_left_it(self) -> None:
        if not hasattr(self, "store"):
            return
        for thread_id in ("s", "t", "u"):
            assert history_of(self.store, thread_id) == self.model.read_history(thread_id)
        records = [record for id_ in "stu" if (record := self.model.record(id_)) is not None]
        listed = threads_of(self.store)
        assert sorted(listed, key=lambda record: record.thread_id) == records
        times = [record.updated_at for record in listed]
        assert times == sorted(times, reverse=True)

    @invariant()
    def each_watch_is_told_once_when_there_is_news(self) -> None:
        for watch in getattr(self, "watches", ()):
            assert watch.told == (watch.reader.has_news or watch.has_moved)

    @invariant()
    def each_owner_is_told_of_its_signal(self) -> None:
        for owner in getattr(self, "owners", ()):
            expected = {Signal.STOP} if owner.run.stopped else set()
            assert owner.told == (expected | {Signal.SEALED} if owner.run.sealed else expected)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.close_everything()
            self.nothing_is_left()
            self.no_watcher_is_left()

    def close_everything(self) -> None:
        for watch in self.watches[::2]:
            watch.cancel()
        for run in self.model.open_runs:
            self.model.begin_call(self.store)
            self.store.close_run(run.key, 0, b"", None)
            self.model.close_run(run.key, b"", None)
        for reader in self.all_readers:
            self.read_some(reader, 1 << 20)
            rest = reader.model.read(reader.position, 1)
            assert rest == LogGone() or reader.model.ends(reader.position)
        for owner in self.owners:
            owner.cancel()
            assert self.store.renew(owner.run.key) is Signal.SEALED
        self.store.clear()
        self.model.clear()
        self.model.begin_call(self.store)
        assert self.store.total_bytes == self.model.total_bytes

    def nothing_is_left(self) -> None:
        """The store keeps no byte, once the readers have gone as well."""
        self.watches = []
        for reader in self.all_readers:
            reader.cursor = None
        assert self.store.total_bytes == 0

    def no_watcher_is_left(self) -> None:
        """The store keeps no watcher that was told, nor one that gave up."""
        self.watches, self.owners = [], []
        assert [who for who in self.everybody if who() is not None] == []


def test_a_superseded_run_may_end_without_a_word() -> None:
    """A step of the machine that Hypothesis seldom finds."""
    machine = StoreMachine()
    nothing = dict.fromkeys(
        ("resumable_runs", "max_runs_per_thread", "max_threads", "max_bytes"), 0
    )
    machine.make({**nothing, "on_concurrent_run": "supersede"})
    first = machine.open("t", "a", frozenset())
    second = machine.open("t", "a", frozenset())
    machine.watch(machine.resume(second, 0, False))
    machine.close(first, 0, 0, None)
    machine.each_watch_is_told_once_when_there_is_news()
    machine.teardown()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=100, stateful_step_count=40)
