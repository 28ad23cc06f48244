"""Brackets: entities that one event opens and another closes, such as messages and tool calls.

A rule of the same form holds for all of them: an id that is open is not opened again, and only an
open id goes on and is closed. The texts of errors come from ``verifyEvents`` in ``@ag-ui/client``.
"""

from __future__ import annotations

from typing import Final

import attrs

from . import types as t
from .types import Event, EventError


@attrs.frozen
class Bracket:
    """A kind of thing that one event opens and another closes.

    :param noun: the name that the reference has for it in messages.
    :param start: the type of the event that opens it.
    :param end: the type of the event that closes it.
    """

    noun: str
    start: str
    end: str

    def already_open(self, event: Event, entity_id: str) -> EventError:
        """The error of an event that opens an id that is open already."""
        return EventError(
            f"Cannot send '{event['type']}' event: A {self.noun} with ID '{entity_id}' is "
            f"already in progress. Complete it with '{self.end}' first."
        )

    def not_to_go_on(self, event: Event, entity_id: str) -> EventError:
        """The error of an event that goes on with an id that is not open."""
        return self._not_open(event, entity_id, f"Start a {self.noun} with '{self.start}'")

    def not_to_end(self, event: Event, entity_id: str) -> EventError:
        """The error of an event that closes an id that is not open."""
        return self._not_open(event, entity_id, f"A '{self.start}' event must be sent")

    def _not_open(self, event: Event, entity_id: str, remedy: str) -> EventError:
        return EventError(
            f"Cannot send '{event['type']}' event: No active {self.noun} found with ID "
            f"'{entity_id}'. {remedy} first."
        )


TEXT: Final = Bracket("text message", t.TEXT_MESSAGE_START, t.TEXT_MESSAGE_END)
TOOL: Final = Bracket("tool call", t.TOOL_CALL_START, t.TOOL_CALL_END)
REASONING: Final = Bracket("reasoning message", t.REASONING_MESSAGE_START, t.REASONING_MESSAGE_END)
SPAN: Final = Bracket("reasoning span", t.REASONING_START, t.REASONING_END)
