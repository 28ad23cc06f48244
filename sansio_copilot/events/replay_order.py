"""The order in which the reference replays: each message and tool call in one piece, at its end.

The events of a text message or tool call stand next to each other, where it ended, and events that
arrived in between follow them. Clients are used to this order. Where messages come one after the
other it changes nothing; where they overlap it may, so that :mod:`.compact` decides whether it is
used.

Source: ``compactEvents`` of ``@ag-ui/client`` 0.0.59.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, Final

from . import types as t
from .json_values import merge_metadata
from .types import Event

Metadata = dict[str, Any]


def arrange(events: Iterable[Event]) -> list[Event]:
    """``events``, whose state is compact already, in the order of the reference."""
    out: list[Event] = []
    texts = _OpenEntities(t.TEXT_MESSAGE_CONTENT, "messageId")
    calls = _OpenEntities(t.TOOL_CALL_ARGS, "toolCallId")
    for event in events:
        type_ = event["type"]
        if type_ in STREAMED:
            entities = texts if type_.startswith(_TEXT) else calls
            entities.feed(type_, event, out)
        elif type_ in _IN_PLACE:
            out.append(event)
        else:
            # The event must not stay in the middle of a message, so that the oldest open one takes
            # it along.
            carrier = texts.oldest() or calls.oldest()
            (out if carrier is None else carrier.in_between).append(event)
    texts.flush(out)
    calls.flush(out)
    return out


#: The events that make a text message or tool call out of pieces.
STREAMED: Final = frozenset(
    {
        t.TEXT_MESSAGE_START,
        t.TEXT_MESSAGE_CONTENT,
        t.TEXT_MESSAGE_END,
        t.TOOL_CALL_START,
        t.TOOL_CALL_ARGS,
        t.TOOL_CALL_END,
    }
)
_TEXT: Final = "TEXT_MESSAGE"
_IN_PLACE: Final = frozenset(
    {t.RUN_STARTED, t.RUN_FINISHED, t.RUN_ERROR, t.STATE_SNAPSHOT, t.STATE_DELTA}
)


class _GatheredEvents:
    """The events of a text message or tool call that has not ended."""

    __slots__ = ("deltas", "ended", "in_between", "metadata", "number", "start")

    def __init__(self, number: int) -> None:
        self.number = number
        self.start: Event | None = None
        self.deltas: list[str] = []
        # The metadata are those of the deltas, and of starts that came after a delta.
        self.metadata: Metadata | None = None
        self.in_between: list[Event] = []
        self.ended = False

    def add_start(self, event: Event) -> None:
        """Take a start. Another one, as a client that rejoins can see, replaces the first.

        The metadata of both are merged. Metadata that arrived after a delta must not leave with the
        start, because the start goes out before the deltas, whose older values would replace them.
        """
        metadata = event.get("metadata")
        older = None if self.start is None else self.start.get("metadata")
        if self.deltas:
            self.add_metadata(metadata)
            metadata = older
        else:
            metadata = merge_metadata(older, metadata)
        if metadata is not event.get("metadata"):
            event = {key: value for key, value in event.items() if key != "metadata"}
            if metadata is not None:
                event["metadata"] = metadata
        self.start = event

    def add_metadata(self, metadata: Metadata | None) -> None:
        if metadata is not None:
            # The dict is the entity's own and is added to, because a new one for each event would
            # cost the sum of all.
            self.metadata = {} if self.metadata is None else self.metadata
            self.metadata.update(metadata)


class _OpenEntities:
    """The open entities of one kind, by id."""

    __slots__ = ("_by_id", "_content_type", "_count", "_id_field", "_started")

    def __init__(self, content_type: str, id_field: str) -> None:
        self._content_type = content_type
        self._id_field = id_field
        self._by_id: dict[str, _GatheredEvents] = {}
        # The entities with a start are in a heap, so that the oldest is found without a search. One
        # that has ended is dropped when it comes up.
        self._started: list[tuple[int, _GatheredEvents]] = []
        self._count = 0

    def _get(self, event: Event) -> _GatheredEvents:
        entity_id = event[self._id_field]
        entity = self._by_id.get(entity_id)
        if entity is None:
            self._count += 1
            entity = self._by_id[entity_id] = _GatheredEvents(self._count)
        return entity

    def feed(self, type_: str, event: Event, out: list[Event]) -> None:
        """Take a START, an END, or an event in between."""
        entity = self._get(event)
        if type_.endswith("_START"):
            if entity.start is None:
                heappush(self._started, (entity.number, entity))
            entity.add_start(event)
        elif type_.endswith("_END"):
            entity.ended = True
            del self._by_id[event[self._id_field]]
            self._flush(entity, event, event[self._id_field], out)
        else:
            entity.deltas.append(event["delta"])
            entity.add_metadata(event.get("metadata"))

    def flush(self, out: list[Event]) -> None:
        """Hand out the events of the entities that have not ended."""
        for entity_id, entity in self._by_id.items():
            self._flush(entity, None, entity_id, out)

    def oldest(self) -> _GatheredEvents | None:
        """The open entity with a start whose first event came first; None if there is none."""
        while self._started:
            entity = self._started[0][1]
            if not entity.ended:
                return entity
            heappop(self._started)
        return None

    def _flush(
        self, entity: _GatheredEvents, end: Event | None, entity_id: str, out: list[Event]
    ) -> None:
        if entity.start is not None:
            out.append(entity.start)
        if entity.deltas:
            content: Event = {
                "type": self._content_type,
                self._id_field: entity_id,
                "delta": "".join(entity.deltas),
            }
            if entity.metadata is not None:
                content["metadata"] = entity.metadata
            out.append(content)
        if end is not None:
            out.append(end)
        out.extend(entity.in_between)
