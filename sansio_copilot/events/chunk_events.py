"""From chunks to start, content and end: the shorthand of AG-UI written out.

A ``*_CHUNK`` event opens a message or a tool call, continues it, and ends it by being followed
by something else. Everything after this machine sees only the long form.

Source: https://docs.ag-ui.com/concepts/events ("convenience events"), and ``transformChunks`` of
``@ag-ui/client`` 0.0.59.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from . import types as t
from .normalize import KNOWN_TYPES
from .types import Event, EventError


def _start_text(chunk: Event) -> Event:
    start = {
        "type": t.TEXT_MESSAGE_START,
        "messageId": chunk["messageId"],
        "role": chunk.get("role") or "assistant",
    }
    if chunk.get("name") is not None:
        start["name"] = chunk["name"]
    return start


def _start_tool_call(chunk: Event) -> Event:
    if chunk.get("toolCallName") is None:
        raise EventError("First TOOL_CALL_CHUNK must have a toolCallName")
    start = {
        "type": t.TOOL_CALL_START,
        "toolCallId": chunk["toolCallId"],
        "toolCallName": chunk["toolCallName"],
    }
    if chunk.get("parentMessageId") is not None:
        start["parentMessageId"] = chunk["parentMessageId"]
    return start


def _start_reasoning(chunk: Event) -> Event:
    return {"type": t.REASONING_MESSAGE_START, "messageId": chunk["messageId"], "role": "reasoning"}


@attrs.frozen(eq=False)
class _ChunkKind:
    """A kind of thing that chunks can build, with the events of its long form."""

    chunk_type: str
    noun: str
    id_field: str
    start: Callable[[Event], Event]
    content_type: str
    end_type: str


_KINDS: Final = {
    kind.chunk_type: kind
    for kind in (
        _ChunkKind(
            t.TEXT_MESSAGE_CHUNK,
            "text message",
            "messageId",
            _start_text,
            t.TEXT_MESSAGE_CONTENT,
            t.TEXT_MESSAGE_END,
        ),
        _ChunkKind(
            t.TOOL_CALL_CHUNK,
            "tool call",
            "toolCallId",
            _start_tool_call,
            t.TOOL_CALL_ARGS,
            t.TOOL_CALL_END,
        ),
        _ChunkKind(
            t.REASONING_MESSAGE_CHUNK,
            "reasoning message",
            "messageId",
            _start_reasoning,
            t.REASONING_MESSAGE_CONTENT,
            t.REASONING_MESSAGE_END,
        ),
    )
}

CHUNKS: Final = frozenset(_KINDS)
"""The types of events that are written out."""

# These events end every message, because they are about the run as a whole and not about one agent.
_CLOSE_ALL: Final = frozenset({t.RUN_STARTED, t.RUN_FINISHED, t.RUN_ERROR, t.MESSAGES_SNAPSHOT})
# These events can occur in the middle of a message without ending it.
_CLOSE_NONE: Final = frozenset(
    {t.RAW, t.ACTIVITY_SNAPSHOT, t.ACTIVITY_DELTA, t.REASONING_ENCRYPTED_VALUE, t.SUBAGENT_STARTED}
)
_WHOLE: Final = KNOWN_TYPES.difference(_KINDS)
_SUBAGENT_ENDS: Final = frozenset({t.SUBAGENT_FINISHED, t.SUBAGENT_ERROR})


@attrs.frozen(eq=False)
class _OpenEntity:
    """A message or tool call that one lane is assembling: it has started and not ended."""

    kind: _ChunkKind
    entity_id: str
    opener: str | None

    def end(self) -> Event:
        event = {"type": self.kind.end_type, self.kind.id_field: self.entity_id}
        if self.opener is not None:
            event["subagentRunId"] = self.opener
        return event


class ChunkExpander:
    """Writes out the chunks of one event stream.

    Chunks are assembled in lanes, one for each ``subagentRunId`` and one for the parent agent, so
    that subagents that stream at the same time do not end each other's messages. A message that is
    open when the stream ends is left open, because the finalizer closes it.
    """

    __slots__ = ("_by_id", "_openers", "lanes")

    def __init__(self) -> None:
        self.lanes: dict[str | None, _OpenEntity] = {}
        """The lanes in which something is open. While there are none, every event but those of
        :data:`CHUNKS` passes as it is, and need not be fed."""
        # The same entities are kept by kind and id, and their lanes by kind (in an ordered set), so
        # that a chunk finds its entity among thousands.
        self._by_id: dict[tuple[_ChunkKind, str], _OpenEntity] = {}
        self._openers: dict[_ChunkKind, dict[str | None, None]] = {
            kind: {} for kind in _KINDS.values()
        }

    def feed(self, event: Event) -> Sequence[Event]:
        """Write out one event.

        :returns: the events that stand for it, most often ``event`` itself; none if its type is
            unknown.
        :raises EventError: if a chunk opens a message or tool call without an id, or may continue
            more than one.
        """
        type_ = event["type"]
        if type_ in _WHOLE and (not self.lanes or type_ in _CLOSE_NONE):
            return (event,)
        kind = _KINDS.get(type_)
        if kind is not None:
            return self._expand(kind, event)
        if type_ not in _WHOLE:
            return ()
        if type_ in _CLOSE_ALL:
            ends = [end for opener in list(self.lanes) for end in self._close(opener)]
            return (*ends, event)
        opener = event.get("subagentRunId")
        if not isinstance(opener, str):
            # The member is ignored, because it may be anything: the schema has no such member for
            # this type of event.
            opener = None
        if opener is None and type_ in _SUBAGENT_ENDS:
            # The event is malformed, so that it does not end the parent's entity.
            return (event,)
        return (*self._close(opener), event)

    def _close(self, opener: str | None) -> list[Event]:
        entity = self.lanes.pop(opener, None)
        if entity is None:
            return []
        del self._by_id[entity.kind, entity.entity_id]
        del self._openers[entity.kind][opener]
        return [entity.end()]

    def _expand(self, kind: _ChunkKind, chunk: Event) -> list[Event]:
        entity_id: str | None = chunk.get(kind.id_field)
        opener = self._find_lane(kind, entity_id, chunk.get("subagentRunId"))
        metadata = chunk.get("metadata")
        out: list[Event] = []

        entity = self.lanes.get(opener)
        if (
            entity is None
            or entity.kind is not kind
            or (entity_id is not None and entity_id != entity.entity_id)
        ):
            out = self._close(opener)
            if entity_id is None:
                raise EventError(f"First {kind.chunk_type} must have a {kind.id_field}")
            start = kind.start(chunk)
            entity = self.lanes[opener] = _OpenEntity(kind, entity_id, opener)
            self._by_id[kind, entity_id] = entity
            self._openers[kind][opener] = None
            out.append(_attributed(start, opener, metadata))

        delta = chunk.get("delta")
        if delta is None and not out and metadata is not None:
            # The last chunk of a message often has only metadata, such as usage and finish reason.
            # The metadata leave in an event of their own, because the end may not come before the
            # stream stops.
            delta = ""
        if delta is not None:
            content = {"type": kind.content_type, kind.id_field: entity.entity_id, "delta": delta}
            out.append(_attributed(content, opener, metadata))
        return out

    def _find_lane(self, kind: _ChunkKind, entity_id: str | None, tag: str | None) -> str | None:
        """The lane of a chunk: by its id if that is open, else by its tag, else by a guess.

        A guess is allowed only where there is one possibility. A chunk without an id cannot open
        anything, so that it must continue the parent's entity of its kind, or, if the parent has
        none, the only one that is open.
        """
        if entity_id is not None:
            entity = self._by_id.get((kind, entity_id))
            if entity is None:
                return tag
            if tag is not None and tag != entity.opener:
                holder = "(the parent agent)" if entity.opener is None else entity.opener
                raise EventError(
                    f"Cannot continue {kind.noun} '{entity_id}': chunk subagentRunId "
                    f"'{tag}' does not match the open stream's subagent '{holder}'."
                )
            return entity.opener
        if tag is not None:
            return tag
        openers = self._openers[kind]
        if not openers or None in openers:
            return None
        if len(openers) > 1:
            raise EventError(
                f"Ambiguous {kind.chunk_type}: it carries neither a {kind.id_field} nor a "
                f"subagentRunId, but {len(openers)} lanes have an open {kind.noun}. Attribute the "
                "chunk to the subagent it belongs to."
            )
        return next(iter(openers))


def _attributed(event: Event, opener: str | None, metadata: object) -> Event:
    if opener is not None:
        event["subagentRunId"] = opener
    if metadata is not None:
        event["metadata"] = metadata
    return event


def expand_chunks(events: Iterable[Event]) -> list[Event]:
    """``events`` with every chunk written out as start, content and end.

    :raises EventError: at a chunk that fits nowhere; see :meth:`ChunkExpander.feed`.
    """
    expander = ChunkExpander()
    return [out for event in events for out in expander.feed(event)]
