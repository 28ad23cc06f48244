"""What a MemoryStore keeps, said so simply that it can be believed: lists of frames, and no index.

Everything that :class:`~sansio_copilot.MemoryStore` counts as it goes is worked out here from
scratch whenever somebody asks.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from sansio_copilot.threads import (
    RunKey,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadHistory,
    ThreadRecord,
)


def split_frames(data: bytes) -> list[bytes]:
    """The whole frames in ``data``."""
    return [frame + b"\n\n" for frame in data.split(b"\n\n")[:-1]]


@attrs.define(eq=False)
class ModelRun:
    """A run, for its owner and for all who read it.

    :param kept: whether it leaves history, if it leaves a result at all.
    :param stopped: its owner was asked to end it.
    """

    key: RunKey
    agent_id: str
    frames: list[bytes] = attrs.field(factory=list)
    result: RunResult | None = None
    ended: bool = False
    kept: bool = True
    stopped: bool = False
    sealed: bool = False

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
    live: ModelRun | None = None
    messages: bytes = b"[]"
    state: bytes | None = None
    created_at: float = 0.0
    name: str | None = None
    archived: bool = False


@attrs.define(eq=False)
class ModelReader:
    """What a cursor is to see: compacted frames of runs that had ended, and whole runs."""

    parts: list[bytes | ModelRun]
    skip: int = 0

    @property
    def all(self) -> bytes:
        """Everything so far."""
        parts = [part.data if isinstance(part, ModelRun) else part for part in self.parts]
        return b"".join(parts)[self.skip :]

    @property
    def ends(self) -> bool:
        """Whether nothing can follow."""
        return all(part.ended for part in self.parts if isinstance(part, ModelRun))


@attrs.define(eq=False)
class ModelStore:
    """The calls of a store that change something, and what is to be seen then."""

    max_threads: float = 1000
    max_runs_per_thread: float = 100
    max_bytes: float = math.inf
    on_concurrent_run: str = "reject"
    resumable_runs: float = 4
    threads: dict[str, ModelThread] = attrs.field(factory=dict)
    runs: dict[RunKey, ModelRun] = attrs.field(factory=dict)
    # Those without a live run, the least recently used first.
    idle: list[str] = attrs.field(factory=list)

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
                live.stopped, live.kept = True, False
        key = RunKey(request.thread_id, len(self.runs) + 1, request.run_id)
        run = thread.live = self.runs[key] = ModelRun(key, request.agent_id)
        self._unused(request.thread_id)
        self._evict(keep=request.thread_id)
        return run

    def known_message_ids(self, request: RunRequest) -> frozenset[str]:
        """Call it after :meth:`open_run`: of the request's messages, those that history has."""
        known = [
            run.result.message_ids
            for run in self.threads[request.thread_id].history
            if run.result is not None
        ]
        return frozenset(request.message_ids) & frozenset().union(*known)

    def append(self, key: RunKey, frames: bytes, result: RunResult | None) -> Signal:
        run = self.runs[key]
        if not run.ended:
            run.frames += split_frames(frames)
            run.result = result
            if self.total_bytes > self.max_bytes:
                self._evict(keep=key.thread_id)
        return run.signal

    def close_run(self, key: RunKey, frames: bytes, result: RunResult | None) -> None:
        run = self.runs[key]
        if run.ended:
            return
        run.frames += split_frames(frames)
        run.result = result
        run.ended = True
        if not run.kept:
            return
        thread = self.threads[key.thread_id]
        thread.live = None
        if result is not None:
            self._keep(thread, run)
        if thread.history:
            self.idle.append(key.thread_id)
        else:
            del self.threads[key.thread_id]
        self._evict(keep=key.thread_id)

    def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        thread = self.threads.get(thread_id, ModelThread())
        run = thread.live
        if run is None or run.stopped or run_id not in (None, run.key.run_id):
            return False
        run.stopped = True
        return True

    # Readers

    def own_reader(self, run: ModelRun) -> ModelReader:
        return ModelReader([run])

    def open_cursor(self, thread_id: str, after: str | None) -> ModelReader:
        if thread_id in self.idle:
            self._unused(thread_id)
            self.idle.append(thread_id)
        thread = self.threads.get(thread_id, ModelThread())
        parts: list[Any] = [run.result.frames for run in thread.history if run.result is not None]
        runs = list(thread.history)
        if thread.live is not None:
            parts.append(thread.live)
            runs.append(thread.live)
        for index, run in enumerate(runs):
            for source in self._resumable(run):
                frames = source.frames if isinstance(source, ModelRun) else split_frames(source)
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
        last = thread.history[-1]
        assert last.result is not None
        return ThreadRecord(
            thread_id,
            last.agent_id,
            thread.created_at,
            last.result.ended_at,
            thread.name,
            thread.archived,
        )

    def read_history(self, thread_id: str) -> ThreadHistory:
        thread = self.threads.get(thread_id, ModelThread())
        results = [run.result for run in thread.history if run.result is not None]
        frames = b"".join(result.frames for result in results)
        return ThreadHistory(frames, thread.messages, thread.state)

    def update_thread(self, thread_id: str, changes: dict[str, Any]) -> ThreadRecord | None:
        if self.record(thread_id) is not None:
            for name, value in changes.items():
                setattr(self.threads[thread_id], name, value)
        return self.record(thread_id)

    def delete_thread(self, thread_id: str) -> bool:
        thread = self.threads.pop(thread_id, None)
        self._unused(thread_id)
        if thread is not None and thread.live is not None:
            thread.live.stopped, thread.live.kept = True, False
        return thread is not None

    def clear(self) -> None:
        self.threads = {
            thread_id: ModelThread(live=thread.live)
            for thread_id, thread in self.threads.items()
            if thread.live is not None
        }
        self.idle = []

    @property
    def open_runs(self) -> list[ModelRun]:
        return [run for run in self.runs.values() if not run.ended]

    @property
    def total_bytes(self) -> int:
        runs = self.open_runs
        total = sum(len(run.data) for run in runs)
        for thread in self.threads.values():
            runs += thread.history
            total += sum(len(run.data) for run in thread.history if self._has_raw(run))
            # An empty list of messages is free.
            total += len(thread.messages) - len(b"[]") + len(thread.state or b"")
        return total + sum(len(run.result.frames) for run in runs if run.result is not None)

    def _has_raw(self, run: ModelRun) -> bool:
        newest_first = self.threads[run.key.thread_id].history[::-1]
        return newest_first.index(run) < self.resumable_runs

    def _resumable(self, run: ModelRun) -> list[bytes | ModelRun]:
        if not run.ended:
            return [run]
        assert run.result is not None
        return [run, run.result.frames] if self._has_raw(run) else [run.result.frames]

    def _keep(self, thread: ModelThread, run: ModelRun) -> None:
        result = run.result
        assert result is not None
        if not thread.history:
            thread.created_at = result.ended_at
        thread.messages = thread.messages if result.messages is None else result.messages
        thread.state = thread.state if result.state is None else result.state
        thread.history.append(run)
        if self.max_runs_per_thread:
            del thread.history[: -int(min(self.max_runs_per_thread, 1000))]

    def _unused(self, thread_id: str) -> None:
        self.idle = [other for other in self.idle if other != thread_id]

    def _evict(self, keep: str) -> None:
        while len(self.threads) > self.max_threads or self.total_bytes > self.max_bytes:
            victims = [thread_id for thread_id in self.idle if thread_id != keep]
            if not victims:
                return
            self.delete_thread(victims[0])
