"""Brackets: entities that one event opens and another closes, such as messages and tool calls.

A rule of the same form holds for all of them: an id that is open is not opened again, and only an
open id goes on and is closed. The texts of errors come from ``verifyEvents`` in ``@ag-ui/client``.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final

import attrs

from . import types as t
from .subagents import Openers, OpenersOfKinds
from .types import Event, EventError


@attrs.frozen(eq=False)
class Bracket:
    """A kind of thing that one event opens and another closes.

    :param noun: the reference's name for it in the texts of errors.
    :param start: the type of the event that opens it.
    :param end: the type of the event that closes it.
    :param openers: the openers of its kind.
    :param opened: the reference's name for it in errors about openers.
    :param id_field: the member of these events that has its id.
    :param ends_as_it_goes_on: whether the reference has the same message for an end that may not
        come as for an event that goes on.
    """

    noun: str
    start: str
    end: str
    openers: Callable[[OpenersOfKinds], Openers]
    opened: str
    id_field: str = "messageId"
    ends_as_it_goes_on: bool = False

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
        if self.ends_as_it_goes_on:
            return self.not_to_go_on(event, entity_id)
        return self._not_open(event, entity_id, f"A '{self.start}' event must be sent")

    def _not_open(self, event: Event, entity_id: str, remedy: str) -> EventError:
        return EventError(
            f"Cannot send '{event['type']}' event: No active {self.noun} found with ID "
            f"'{entity_id}'. {remedy} first."
        )


_MESSAGES: Final = attrgetter("messages")
_REASONING: Final = attrgetter("reasoning")

TEXT: Final = Bracket(
    "text message", t.TEXT_MESSAGE_START, t.TEXT_MESSAGE_END, _MESSAGES, "message"
)
TOOL: Final = Bracket(
    *("tool call", t.TOOL_CALL_START, t.TOOL_CALL_END, attrgetter("tool_calls"), "tool call"),
    "toolCallId",
)
REASONING: Final = Bracket(
    *("reasoning message", t.REASONING_MESSAGE_START, t.REASONING_MESSAGE_END),
    *(_REASONING, "reasoning message"),
    ends_as_it_goes_on=True,
)
SPAN: Final = Bracket(
    "reasoning span", t.REASONING_START, t.REASONING_END, _REASONING, "reasoning message"
)
