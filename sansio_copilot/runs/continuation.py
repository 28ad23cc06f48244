"""The shortcut for what almost every event of a stream is: one more delta of the same message.

Whatever there is to check of such a delta was checked of the one before it, and nothing has
happened since. So it is neither checked, nor expanded, nor verified, nor handed from machine to
machine, and of its JSON only the delta is written anew. Measured: 0.9 us instead of 2.8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .. import json_codec
from ..events import types as t
from ..events.types import Event

# The events that can be continued.
DELTAS: Final = frozenset({t.TEXT_MESSAGE_CONTENT, t.TOOL_CALL_ARGS})
# What an agent yields for them, and the field that says what it belongs to.
_ID_FIELDS: Final = {
    t.TEXT_MESSAGE_CONTENT: "messageId",
    t.TEXT_MESSAGE_CHUNK: "messageId",
    t.TOOL_CALL_ARGS: "toolCallId",
    t.TOOL_CALL_CHUNK: "toolCallId",
}

Take = Callable[[str], object]


class Continuation:
    """What to do with the next delta of the message or tool call that ``event`` is a delta of.

    Good for as long as no other event comes in between.

    :param event: what the agent yielded, checked.
    :param recorded: the one event that it was written out as.
    :param takers: where such deltas are added up.
    """

    __slots__ = ("_data", "_entity_id", "_id_field", "_size", "_takers", "_type")

    def __init__(self, event: Event, recorded: Event, takers: tuple[Take, Take]) -> None:
        self._type = event["type"]
        self._id_field = _ID_FIELDS[self._type]
        self._entity_id = event.get(self._id_field)
        self._size = len(event)
        self._takers = takers
        # Its JSON up to the delta, which comes last.
        self._data = json_codec.encode({**recorded, "delta": ""}).removesuffix(b'""}')

    @classmethod
    def of(
        cls, event: Event, recorded: Event, message: Take | None, history: Take | None
    ) -> Continuation | None:
        """The continuation of ``event``; None if there is none, or more to it than a delta."""
        if message is None or history is None or next(reversed(recorded)) != "delta":
            return None
        fields = {"type", "delta", _ID_FIELDS[event["type"]]}
        return cls(event, recorded, (message, history)) if event.keys() <= fields else None

    def take(self, event: Event) -> bytes | None:
        """Add up ``event`` and return its JSON, if it says nothing else but what this continues."""
        delta = event.get("delta")
        if (
            type(delta) is not str
            or len(event) != self._size
            or event.get("type") != self._type
            or event.get(self._id_field) != self._entity_id
        ):
            return None
        for take in self._takers:
            take(delta)
        return b"%s%s}" % (self._data, json_codec.encode(delta))
