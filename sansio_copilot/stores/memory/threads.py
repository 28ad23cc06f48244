"""The runs and threads that a MemoryStore keeps, and the bytes that each of them counts for."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from sys import getsizeof

from msgspec import Struct

from ...sse import EventId, behind_frame
from ..protocol import Kind, NotifyOwner, RunKey, RunResult, Signal, ThreadQuery, ThreadRecord
from .streams import Cursor, RunStream

# These sizes are what Python takes for the objects of a thread, a run and an id, beside the bytes
# and texts that the objects hold. They were measured by tracemalloc, and a test compares them with
# what it measures.
THREAD_BYTES = 600
RUN_BYTES = 600
MESSAGE_ID_BYTES = 50


class KeptRun(Struct, eq=False):
    """A run in a thread, or one that is open although its thread was deleted.

    :ivar raw: its frames as they were appended; None once they were let go.
    :ivar result: while the run is open, the result that it would have if it ended now.
    :ivar compacted: once the run is history, the frames that a replay sends.
    :ivar fixed: the bytes that it takes beside its frames, whatever becomes of it.
    :ivar size: the bytes that it counts for.
    """

    key: RunKey
    agent_id: str
    raw: RunStream | None
    result: RunResult | None = None
    compacted: RunStream | None = None
    message_ids: tuple[str, ...] = ()
    signal: Signal = Signal.CONTINUE
    detached: bool = False
    notify_owner: NotifyOwner | None = None
    fixed: int = 0
    size: int = 0

    @property
    def open_stream(self) -> RunStream:
        assert self.raw is not None, "an open run keeps its frames"
        return self.raw

    @property
    def replayed(self) -> RunStream:
        """The frames that a replay reads of the run: compacted once it is history, raw while it is
        open."""
        return self.open_stream if self.compacted is None else self.compacted

    def forget_owner(self) -> None:
        self.notify_owner = None

    def measure(self) -> int:
        """Count the run's bytes anew; return how many more they are than before."""
        size, before = self.fixed, self.size
        if self.raw is not None:
            size += len(self.raw.data)
        if self.compacted is not None:
            size += len(self.compacted.data)
        elif (result := self.result) is not None:
            size += len(result.frames) + len(result.messages or b"") + len(result.state or b"")
            size += len(result.waits_for or b"")
            size += size_of_ids(result.message_ids)
        self.size = size
        return size - before


by_seq = attrgetter("key.seq")


class KeptThread(Struct, eq=False):
    """A thread: its ended runs, those that were superseded and have not ended, and the live one.

    Its history is in the order in which the runs were opened.

    :ivar used: the store's count of uses when the thread was last used.
    """

    thread_id: str
    owner: str | None = None
    history: list[KeptRun] = []
    superseded: list[KeptRun] = []
    live: KeptRun | None = None
    messages: bytes = b"[]"
    state: bytes | None = None
    waits_for: bytes | None = None
    message_ids: dict[str, int] = {}
    created_at: float = 0.0
    updated_at: float = 0.0
    name: str | None = None
    archived: bool = False
    used: int = 0
    size: int = 0

    @property
    def open_runs(self) -> list[KeptRun]:
        return self.superseded if self.live is None else [*self.superseded, self.live]

    def runs(self) -> list[KeptRun]:
        """All runs of the thread in order."""
        if not self.superseded:
            return self.history if self.live is None else [*self.history, self.live]
        return sorted([*self.history, *self.open_runs], key=by_seq)

    def cursor_behind(self, after: str) -> Cursor | None:
        """The cursor of a reader that has seen the event of that id; None if the id is not
        known."""
        event_id = EventId.parse(after)
        runs = self.runs()
        for index, run in enumerate(runs):
            if event_id is None or run.key.token != event_id.token:
                continue
            stream = run.compacted if event_id.compacted else run.raw
            if stream is not None and (offset := behind_frame(stream.data, after)) is not None:
                return Cursor((stream, *(run.replayed for run in runs[index + 1 :])), offset)
        return None

    def history_cursor(self, kind: Kind) -> Cursor:
        """The cursor at the beginning of the history, which the ended runs have left."""
        if kind == "frames":
            return Cursor(tuple([run.replayed for run in self.history]))
        data = self.messages if kind == "messages" else self.state or b""
        return Cursor((RunStream(data, ended=True),))

    def record(self) -> ThreadRecord:
        """The line in a list of a thread that has history."""
        agent_id = self.history[-1].agent_id
        return ThreadRecord(
            *(self.thread_id, agent_id, self.created_at, self.updated_at),
            *(self.name, self.archived, None if self.open_runs else self.waits_for),
        )

    def answers(self, query: ThreadQuery) -> bool:
        """Whether ``query`` asks for this thread, on whatever page."""
        return (
            bool(self.history)
            and self.owner == query.owner
            and query.agent_id in (None, self.history[-1].agent_id)
            and query.archived in (None, self.archived)
            and query.waiting in (None, self.waits_for is not None and not self.open_runs)
        )

    def count_message_ids(self, run: KeptRun, by: int) -> None:
        for message_id in run.message_ids:
            count = self.message_ids.get(message_id, 0) + by
            if count:
                self.message_ids[message_id] = count
            else:
                del self.message_ids[message_id]

    def measure(self) -> int:
        """Count the thread's bytes anew, without its runs; return how many more they are."""
        size, before = THREAD_BYTES + getsizeof(self.thread_id) + getsizeof(self.name), self.size
        size += 0 if self.owner is None else getsizeof(self.owner)
        size += len(self.messages) + len(self.state or b"") + len(self.waits_for or b"")
        self.size = size
        return size - before


def size_of_ids(message_ids: Collection[str]) -> int:
    """Return the bytes of memory that the ids of messages take."""
    return sum(map(getsizeof, message_ids)) + MESSAGE_ID_BYTES * len(message_ids)
