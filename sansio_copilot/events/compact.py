"""Compaction: fewer events that fold to the same messages and the same state.

What a thread has been through is replayed to every client that connects. The deltas of a message
or tool call become one, all state events of a run become one snapshot, and the events of one
message end up next to each other, followed by what arrived while it was streamed.

Source: ``compactEvents`` of ``@ag-ui/client`` 0.0.59, with two differences. State carries over
from run to run, as it does for the client that was there; the reference starts each run from an
empty object. And a delta that does not apply is kept where it is; the reference dies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, Final

from . import types as t
from ._values import merge_metadata
from .state import StateFolder
from .types import Event

Metadata = dict[str, Any]


class _Stream:
    """What is known of a text message or tool call that has not ended."""

    __slots__ = ("deltas", "ended", "in_between", "metadata", "number", "start")

    def __init__(self, number: int) -> None:
        self.number = number
        self.start: Event | None = None
        self.deltas: list[str] = []
        # Of the deltas, and of starts that came after one.
        self.metadata: Metadata | None = None
        self.in_between: list[Event] = []
        self.ended = False

    def add_start(self, event: Event) -> None:
        """Take a start, or another one, which a client that rejoins can see: it replaces the
        first, but their metadata is merged.

        As the start goes out before the deltas, metadata that arrived after a delta must not
        ride on it, or it would lose against older values.
        """
        metadata = event.get("metadata")
        older = None if self.start is None else self.start.get("metadata")
        if self.deltas:
            self.metadata = merge_metadata(self.metadata, metadata)
            metadata = older
        else:
            metadata = merge_metadata(older, metadata)
        if metadata is not event.get("metadata"):
            event = {key: value for key, value in event.items() if key != "metadata"}
            if metadata is not None:
                event["metadata"] = metadata
        self.start = event


class _Streams:
    """The open streams of one kind, by id."""

    __slots__ = ("_content_type", "_count", "_id_field", "_started", "_streams")

    def __init__(self, content_type: str, id_field: str) -> None:
        self._content_type = content_type
        self._id_field = id_field
        self._streams: dict[str, _Stream] = {}
        # A heap of those with a start, so that the oldest is found without a search; one that
        # has ended is dropped when it comes up.
        self._started: list[tuple[int, _Stream]] = []
        self._count = 0

    def _get(self, event: Event) -> _Stream:
        entity_id = event[self._id_field]
        stream = self._streams.get(entity_id)
        if stream is None:
            self._count += 1
            stream = self._streams[entity_id] = _Stream(self._count)
        return stream

    def start(self, event: Event) -> None:
        stream = self._get(event)
        if stream.start is None:
            heappush(self._started, (stream.number, stream))
        stream.add_start(event)

    def content(self, event: Event) -> None:
        stream = self._streams.get(event[self._id_field]) or self._get(event)
        stream.deltas.append(event["delta"])
        if "metadata" in event:
            stream.metadata = merge_metadata(stream.metadata, event["metadata"])

    def continuation(self, event: Event) -> Callable[[str], object]:
        return self._get(event).deltas.append

    def end(self, event: Event, out: list[Event]) -> None:
        stream = self._get(event)
        stream.ended = True
        self._flush(self._streams.pop(event[self._id_field]), event, event[self._id_field], out)
        # Not kept longer than need be: the text is in the output now.
        stream.deltas.clear()
        self.oldest()

    def flush(self, out: list[Event]) -> None:
        for entity_id, stream in self._streams.items():
            self._flush(stream, None, entity_id, out)
        self._streams.clear()
        self._started.clear()

    def oldest(self) -> _Stream | None:
        """The open stream with a start that was heard of first; None if there is none."""
        while self._started:
            stream = self._started[0][1]
            if not stream.ended:
                return stream
            heappop(self._started)
        return None

    def _flush(self, stream: _Stream, end: Event | None, entity_id: str, out: list[Event]) -> None:
        if stream.start is not None:
            out.append(stream.start)
        if stream.deltas:
            content: Event = {
                "type": self._content_type,
                self._id_field: entity_id,
                "delta": "".join(stream.deltas),
            }
            if stream.metadata is not None:
                content["metadata"] = stream.metadata
            out.append(content)
        if end is not None:
            out.append(end)
        out.extend(stream.in_between)


class Compactor:
    """Compacts one event stream while it goes by.

    The events it is given are not changed, but kept and handed out again: whoever feeds it must
    not change them either.

    :param state: the state before the first event; None for an empty object.
    """

    __slots__ = (
        "_carrier",
        "_folder",
        "_out",
        "_state_metadata",
        "_state_pending",
        "_texts",
        "_tool_calls",
        "skipped",
    )

    def __init__(self, state: Any = None) -> None:
        self._out: list[Event] = []
        # What takes along the events in between; no other does until it ends, so that they stay
        # in order.
        self._carrier: _Stream | None = None
        self._texts = _Streams(t.TEXT_MESSAGE_CONTENT, "messageId")
        self._tool_calls = _Streams(t.TOOL_CALL_ARGS, "toolCallId")
        self._folder = StateFolder(state)
        self._state_pending = False
        self._state_metadata: Metadata | None = None
        #: How many deltas did not apply to the state, and were kept as they are.
        self.skipped = 0

    @property
    def state(self) -> Any:
        """The state after what was fed so far; None if there was none. It is not to be changed."""
        return self._folder.state

    def feed(self, event: Event) -> None:
        """Take the next event of the stream."""
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event)
        else:
            # Kept out of the middle of a message: the first that is open takes it along.
            if self._carrier is None or self._carrier.ended:
                self._carrier = self._texts.oldest() or self._tool_calls.oldest()
            (self._out if self._carrier is None else self._carrier.in_between).append(event)

    def continuation(self, event: Event) -> Callable[[str], object]:
        """What takes a further delta of the message or tool call that ``event`` was a delta of.

        It is the same as to feed that delta, as long as nothing else is fed.
        """
        streams = self._tool_calls if event["type"] == t.TOOL_CALL_ARGS else self._texts
        return streams.continuation(event)

    def finish(self) -> list[Event]:
        """The compacted events, with what is still open at the end. Nothing is fed after it."""
        self._texts.flush(self._out)
        self._tool_calls.flush(self._out)
        self._flush_state()
        return self._out

    def _text_start(self, event: Event) -> None:
        self._texts.start(event)

    def _text_content(self, event: Event) -> None:
        self._texts.content(event)

    def _text_end(self, event: Event) -> None:
        self._texts.end(event, self._out)

    def _tool_start(self, event: Event) -> None:
        self._tool_calls.start(event)

    def _tool_args(self, event: Event) -> None:
        self._tool_calls.content(event)

    def _tool_end(self, event: Event) -> None:
        self._tool_calls.end(event, self._out)

    def _run_boundary(self, event: Event) -> None:
        self._flush_state()
        self._out.append(event)

    def _state_event(self, event: Event) -> None:
        if self._folder.feed(event):
            self._state_pending = True
            self._state_metadata = merge_metadata(self._state_metadata, event.get("metadata"))
        else:
            self.skipped += 1
            self._flush_state()
            self._out.append(event)

    def _flush_state(self) -> None:
        if not self._state_pending:
            return
        snapshot = {"type": t.STATE_SNAPSHOT, "snapshot": self._folder.state}
        if self._state_metadata is not None:
            snapshot["metadata"] = self._state_metadata
        self._out.append(snapshot)
        self._state_pending = False
        self._state_metadata = None


_HANDLERS: Final[dict[str, Callable[[Compactor, Event], None]]] = {
    t.TEXT_MESSAGE_START: Compactor._text_start,
    t.TEXT_MESSAGE_CONTENT: Compactor._text_content,
    t.TEXT_MESSAGE_END: Compactor._text_end,
    t.TOOL_CALL_START: Compactor._tool_start,
    t.TOOL_CALL_ARGS: Compactor._tool_args,
    t.TOOL_CALL_END: Compactor._tool_end,
    t.RUN_STARTED: Compactor._run_boundary,
    t.RUN_FINISHED: Compactor._run_boundary,
    t.RUN_ERROR: Compactor._run_boundary,
    t.STATE_SNAPSHOT: Compactor._state_event,
    t.STATE_DELTA: Compactor._state_event,
}


def compact_events(events: Iterable[Event], *, state: Any = None) -> list[Event]:
    """``events`` in fewer events that fold to the same; see :class:`Compactor`."""
    compactor = Compactor(state)
    for event in events:
        compactor.feed(event)
    return compactor.finish()
