"""The shortcut for one more delta of the same message, which almost every event of a stream is.

Every rule that holds for such a delta was checked for the delta before it, and nothing has happened
since. So the delta skips all machines, and only its text is encoded anew and added up. Measured:
0.9 us instead of 2.8.

The shortcut is right under two conditions. An event with any other member than the delta before it
takes the long way; and the machines that add up deltas (the message folder and the compactor) offer
a function that does for a further delta exactly what feeding it would do. A test compares every
byte with and without the shortcut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from msgspec import Struct

from .. import json_codec
from ..events import types as t
from ..events.types import Event

# Only events of these types take the shortcut, because all that a further one adds to a message or
# tool call is its delta.
DELTAS: Final = frozenset({t.TEXT_MESSAGE_CONTENT, t.TOOL_CALL_ARGS})
# An agent yields events of these types for deltas; the field has the id of the message or tool
# call.
_ID_FIELDS: Final = {
    t.TEXT_MESSAGE_CONTENT: "messageId",
    t.TEXT_MESSAGE_CHUNK: "messageId",
    t.TOOL_CALL_ARGS: "toolCallId",
    t.TOOL_CALL_CHUNK: "toolCallId",
}

#: A function that is called with the text of each further delta, so that the machine behind it
#: learns of the delta without an event.
TakeDelta: TypeAlias = Callable[[str], object]


class Continuation(Struct, eq=False):
    """The way of further deltas of the message or tool call that ``event`` is a delta of.

    It is valid for as long as no other event comes in between.

    :param type: the type of the agent's event.
    :param id_field: the member that has the id of the message or tool call, and that id.
    :param size: the number of members that the event has.
    :param data: the JSON of the event that is recorded for it, up to the delta, which comes last.
    :param takers: the functions that add up such deltas.
    """

    type: str
    id_field: str
    entity_id: str | None
    size: int
    data: bytes
    takers: tuple[TakeDelta, TakeDelta]

    @classmethod
    def of(
        cls, event: Event, recorded: Event, message: TakeDelta | None, history: TakeDelta | None
    ) -> Continuation | None:
        """The continuation of ``event``; None if it is more than a delta, or has no effect.

        :param event: the event of the agent, checked.
        :param recorded: the one event that was recorded for it.
        :param message: adds a delta to the message, and ``history`` to the replay.
        """
        if message is None or history is None or next(reversed(recorded)) != "delta":
            return None
        type_ = event["type"]
        id_field = _ID_FIELDS[type_]
        if event.keys() - {"type", "delta", id_field}:
            return None
        data = json_codec.encode({**recorded, "delta": ""}).removesuffix(b'""}')
        return cls(type_, id_field, event.get(id_field), len(event), data, (message, history))

    def take(self, event: Event) -> bytes | None:
        """Add up ``event``, if it is a further delta.

        :returns: its JSON; None if it is anything else.
        """
        delta = event.get("delta")
        if (
            type(delta) is not str
            or len(event) != self.size
            or event.get("type") != self.type
            or event.get(self.id_field) != self.entity_id
        ):
            return None
        for take in self.takers:
            take(delta)
        return b"%s%s}" % (self.data, json_codec.encode(delta))
