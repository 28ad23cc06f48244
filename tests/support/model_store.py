"""A model of MemoryStore, so simple that it can be believed: lists of frames, and no index.

Everything that :class:`~sansio_copilot.MemoryStore` counts as it goes is worked out here from
scratch whenever somebody asks.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import attrs
from support.owner import ThreadHistory

from sansio_copilot.stores.memory import MemoryStore
from sansio_copilot.stores.memory.threads import MESSAGE_ID_BYTES, RUN_BYTES, THREAD_BYTES
from sansio_copilot.stores.protocol import (
    LogGone,
    RunKey,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadRecord,
)


def unread_tokens(store: MemoryStore) -> set[str]:
    """The runs of which ``store`` has raw frames only because somebody is reading them."""
    room = store._room  # noqa: SLF001 - no public call tells who still reads what
    streams = [unread.stream() for unread in room.unread.values()]
    lines = [bytes(stream.data).partition(b"\n")[0] for stream in streams if stream is not None]
    return {line.decode().removeprefix("id: ").rpartition(".")[0] for line in lines}


def split_frames(data: bytes) -> list[bytes]:
    """The whole frames in ``data``."""
    return [frame + b"\n\n" for frame in data.split(b"\n\n")[:-1]]


@attrs.define(eq=False)
class ModelRun:
    """A run, for its owner and for all who read it.

    :param kept: whether it leaves history, if it leaves a result at all.
    :param stopped: its owner was asked to end it.
    :param superseded: by a run that began behind it.
    :param has_raw: its frames are there for whoever comes.
    :param raw_lost: its frames were let go, whoever reads them.
    :param replay_lost: the same for its compacted ones.
    """

    key: RunKey
    agent_id: str
    frames: list[bytes] = attrs.field(factory=list)
    result: RunResult | None = None
    ended: bool = False
    kept: bool = True
    stopped: bool = False
    superseded: bool = False
    sealed: bool = False
    has_raw: bool = True
    raw_lost: bool = False
    replay_lost: bool = False

    @property
    def data(self) -> bytes:
        return b"".join(self.frames)

    @property
    def signal(self) -> Signal:
        if self.ended:
            return Signal.SEALED
        return Signal.STOP if self.stopped else Signal.CONTINUE


@attrs.define(eq=False)
class ModelThread:
    history: list[ModelRun] = attrs.field(factory=list)
    open: list[ModelRun] = attrs.field(factory=list)
    messages: bytes = b"[]"
    state: bytes | None = None
    waits_for: bytes | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    name: str | None = None
    archived: bool = False

    @property
    def live(self) -> ModelRun | None:
        """The run that the thread is busy with; others were superseded."""
        return next((run for run in self.open if not run.superseded), None)


@attrs.define(eq=False)
class ModelPart:
    """The frames of one run that a cursor is to see: compacted, or as they were live."""

    run: ModelRun
    compacted: bool

    @property
    def data(self) -> bytes:
        if not self.compacted:
            return self.run.data
        assert self.run.result is not None
        return self.run.result.frames

    @property
    def lost(self) -> bool:
        return self.run.replay_lost if self.compacted else self.run.raw_lost


@attrs.define(eq=False)
class ModelReader:
    """The frames that a cursor is to see, behind the first ``skip`` bytes."""

    parts: list[ModelPart]
    skip: int = 0

    def read(self, position: int, max_bytes: int) -> bytes | LogGone:
        """Return the bytes behind ``position``."""
        behind, data = position + self.skip, b""
        for part in self.parts:
            rest = part.data[behind:]
            behind = max(0, behind - len(part.data))
            if rest and part.lost:
                return data[:max_bytes] or LogGone()
            data += rest
            if not part.run.ended:
                break
        return data[:max_bytes]

    @property
    def all(self) -> bytes:
        """Everything so far, whether it is still there or not."""
        return b"".join(part.data for part in self.parts)[self.skip :]

    def ends(self, position: int) -> bool:
        """Return whether nothing can follow."""
        return position == len(self.all) and all(part.run.ended for part in self.parts)


@attrs.define(eq=False)
class ModelStore:
    """The calls of a store that change something, and what is to be seen then.

    :ivar unread: runs whose frames are there for their readers only, and when that began.
    :ivar used: when each thread was used last.
    """

    max_threads: float = 1000
    max_runs_per_thread: float = 100
    max_bytes: float = math.inf
    on_concurrent_run: str = "reject"
    resumable_runs: float = 4
    threads: dict[str, ModelThread] = attrs.field(factory=dict)
    runs: dict[RunKey, ModelRun] = attrs.field(factory=dict)
    unread: dict[RunKey, int] = attrs.field(factory=dict)
    used: dict[str, int] = attrs.field(factory=dict)
    calls: int = 0

    def begin_call(self, store: MemoryStore) -> None:
        """Tell it before each call which readers the real store still has."""
        self.calls += 1
        tokens = unread_tokens(store)
        assert tokens <= {key.token for key in self.unread}
        self.unread = {key: used for key, used in self.unread.items() if key.token in tokens}

    # Owners

    def open_run(self, request: RunRequest) -> ModelRun | ThreadBusy:
        thread = self.threads.setdefault(request.thread_id, ModelThread())
        live = thread.live
        if live is not None:
            if live.result is not None:
                live.ended = live.sealed = True
                self._keep(thread, live)
            elif self.on_concurrent_run == "reject":
                return ThreadBusy(live.key.run_id)
            else:
                live.stopped = live.superseded = True
        key = RunKey(request.thread_id, len(self.runs) + 1, request.run_id)
        run = self.runs[key] = ModelRun(key, request.agent_id)
        thread.open.append(run)
        self._evict()
        return run

    def known_message_ids(self, request: RunRequest) -> frozenset[str]:
        """Call it after :meth:`open_run`: of the request's messages, those that history has."""
        known = [
            run.result.message_ids
            for run in self.threads[request.thread_id].history
            if run.result is not None
        ]
        return frozenset(request.message_ids) & frozenset().union(*known)

    def waited_before(self, request: RunRequest) -> bytes | None:
        """Call it after :meth:`open_run`: what the thread has waited for before the run."""
        thread = self.threads[request.thread_id]
        return thread.waits_for if len(thread.open) == 1 else None

    def append(self, key: RunKey, frames: bytes, result: RunResult | None) -> Signal:
        run = self.runs[key]
        if not run.ended:
            run.frames += split_frames(frames)
            run.result = result
            if self.total_bytes > self.max_bytes:
                self._evict()
        return run.signal

    def close_run(self, key: RunKey, frames: bytes, result: RunResult | None) -> None:
        run = self.runs[key]
        if run.ended:
            return
        run.frames += split_frames(frames)
        run.result = result
        run.ended = True
        if not run.kept:
            self._part_with_raw(run)
            return
        thread = self.threads[key.thread_id]
        self.used[key.thread_id] = self.calls
        if result is not None:
            self._keep(thread, run)
        else:
            thread.open.remove(run)
            self._part_with_raw(run)
        if not thread.history and not thread.open:
            del self.threads[key.thread_id]
        self._evict()

    def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        thread = self.threads.get(thread_id, ModelThread())
        run = thread.live
        if run is None or run.stopped or run_id not in (None, run.key.run_id):
            return False
        run.stopped = True
        return True

    # Readers

    def own_reader(self, run: ModelRun) -> ModelReader:
        return ModelReader([ModelPart(run, compacted=False)])

    def open_cursor(self, thread_id: str, after: str | None) -> ModelReader:
        self.used[thread_id] = self.calls
        thread = self.threads.get(thread_id, ModelThread())
        runs = sorted([*thread.history, *thread.open], key=lambda run: run.key.seq)
        parts = [ModelPart(run, compacted=run.ended) for run in runs]
        for index, run in enumerate(runs):
            for source in self._resumable(run):
                frames = split_frames(source.data)
                for position, frame in enumerate(frames, 1):
                    if after is not None and frame.startswith(f"id: {after}\n".encode()):
                        skip = len(b"".join(frames[:position]))
                        return ModelReader([source, *parts[index + 1 :]], skip)
        return ModelReader(parts)

    # Threads

    def record(self, thread_id: str) -> ThreadRecord | None:
        thread = self.threads.get(thread_id, ModelThread())
        if not thread.history:
            return None
        return ThreadRecord(
            thread_id,
            thread.history[-1].agent_id,
            thread.created_at,
            thread.updated_at,
            thread.name,
            thread.archived,
            None if thread.open else thread.waits_for,
        )

    def read_history(self, thread_id: str) -> ThreadHistory:
        thread = self.threads.get(thread_id, ModelThread())
        results = [run.result for run in thread.history if run.result is not None]
        frames = b"".join(result.frames for result in results)
        return ThreadHistory(frames, thread.messages, thread.state)

    def update_thread(self, thread_id: str, changes: dict[str, Any]) -> ThreadRecord | None:
        if self.record(thread_id) is not None:
            self.used[thread_id] = self.calls
            for name, value in changes.items():
                setattr(self.threads[thread_id], name, value)
            self._evict()
        return self.record(thread_id)

    def delete_thread(self, thread_id: str, *, evicted: bool = False) -> bool:
        thread = self.threads.pop(thread_id, None)
        if thread is None:
            return False
        self._drop(thread.history, evicted=evicted)
        for run in thread.open:
            run.stopped, run.kept = True, False
        return True

    def clear(self) -> None:
        for thread in self.threads.values():
            self._drop(thread.history)
        self.threads = {
            thread_id: ModelThread(open=thread.open)
            for thread_id, thread in self.threads.items()
            if thread.open
        }

    @property
    def open_runs(self) -> list[ModelRun]:
        return [run for run in self.runs.values() if not run.ended]

    @property
    def total_bytes(self) -> int:
        total = sum(len(self.runs[key].data) for key in self.unread)
        for thread_id, thread in self.threads.items():
            total += THREAD_BYTES + sys.getsizeof(thread_id) + sys.getsizeof(thread.name)
            total += len(thread.messages) + len(thread.state or b"") + len(thread.waits_for or b"")
            total += sum(self._fixed(run) for run in thread.history)
            for run in thread.history:
                assert run.result is not None
                total += len(run.result.frames) + _size_of_ids(run.result.message_ids)
                total += len(run.data) if self._has_raw(run) else 0
        for run in self.open_runs:
            total += self._fixed(run) + len(run.data)
            # The id of a thread that was deleted counts for its run, because nobody else has it.
            total += 0 if run.kept else sys.getsizeof(run.key.thread_id)
            if run.result is not None:
                total += len(run.result.frames) + len(run.result.messages or b"")
                total += len(run.result.state or b"") + _size_of_ids(run.result.message_ids)
                total += len(run.result.waits_for or b"")
        return total

    def _fixed(self, run: ModelRun) -> int:
        return RUN_BYTES + sys.getsizeof(run.key.run_id) + sys.getsizeof(run.agent_id)

    def _has_raw(self, run: ModelRun) -> bool:
        newest_first = self.threads[run.key.thread_id].history[::-1]
        return newest_first.index(run) < self.resumable_runs

    def _resumable(self, run: ModelRun) -> list[ModelPart]:
        raw, replay = ModelPart(run, compacted=False), ModelPart(run, compacted=True)
        if not run.ended:
            return [raw]
        return [raw, replay] if self._has_raw(run) else [replay]

    def _keep(self, thread: ModelThread, run: ModelRun) -> None:
        result = run.result
        assert result is not None
        thread.open.remove(run)
        if not thread.history:
            thread.created_at = thread.updated_at = result.ended_at
        thread.updated_at = max(thread.updated_at, result.ended_at)
        thread.history = sorted([*thread.history, run], key=lambda run: run.key.seq)
        if run is thread.history[-1]:
            thread.messages = thread.messages if result.messages is None else result.messages
            thread.state = thread.state if result.state is None else result.state
            thread.waits_for = result.waits_for
        if self.max_runs_per_thread and len(thread.history) > self.max_runs_per_thread:
            self._drop([thread.history.pop(0)])
        for old in thread.history:
            if not self._has_raw(old):
                self._part_with_raw(old)

    def _drop(self, runs: Iterable[ModelRun], *, evicted: bool = False) -> None:
        for run in runs:
            run.replay_lost = True
            self._part_with_raw(run, lost=evicted)

    def _part_with_raw(self, run: ModelRun, *, lost: bool = False) -> None:
        if run.has_raw:
            run.has_raw, run.raw_lost = False, lost
            if run.frames and not lost:
                self.unread[run.key] = self.calls

    def _evict(self) -> None:
        while len(self.threads) > self.max_threads or self.total_bytes > self.max_bytes:
            idle = {
                id: self.used.get(id, 0) for id, thread in self.threads.items() if not thread.open
            }
            over = self.total_bytes > self.max_bytes
            victims: list[tuple[int, Any]] = [(used, id) for id, used in idle.items()]
            victims += [(used, key) for key, used in self.unread.items() if over]
            # The first is taken of two that were used at the same time.
            used, victim = min(victims, key=lambda it: it[0], default=(self.calls, None))
            if used == self.calls:
                return
            if isinstance(victim, RunKey):
                del self.unread[victim]
                self.runs[victim].raw_lost = True
            else:
                assert isinstance(victim, str)
                self.delete_thread(victim, evicted=True)


def _size_of_ids(message_ids: Iterable[str]) -> int:
    return sum(sys.getsizeof(id) + MESSAGE_ID_BYTES for id in message_ids)
