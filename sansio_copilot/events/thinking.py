"""From THINKING_* events to the REASONING_* events that took their place.

AG-UI 1.0 has no THINKING_* events. Its client still reads them, and makes up an id for each. This
module replaces them, so that all readers have the same ids, now and on each reload.

Source: ``verifyEvents`` of ``@ag-ui/client`` 0.0.59 for the order of these events and the texts of
errors, ``compatibility-boundary.ts`` of 1.0.0 for the events that take their place.
"""

from __future__ import annotations

from typing import Final

from . import types as t
from .types import Event, EventError

_REASONING: Final = {
    t.THINKING_START: t.REASONING_START,
    t.THINKING_END: t.REASONING_END,
    t.THINKING_TEXT_MESSAGE_START: t.REASONING_MESSAGE_START,
    t.THINKING_TEXT_MESSAGE_CONTENT: t.REASONING_MESSAGE_CONTENT,
    t.THINKING_TEXT_MESSAGE_END: t.REASONING_MESSAGE_END,
}
_KEPT: Final = frozenset({"timestamp", "rawEvent", "metadata", "delta"})
_RUN_ENDS_OR_STARTS: Final = frozenset({t.RUN_STARTED, t.RUN_FINISHED, t.RUN_ERROR})
THINKING: Final = frozenset(_REASONING)
"""The types of events that are upgraded."""


class ThinkingUpgrader:
    """Upgrades the events of one stream.

    :param prefix: the beginning of the ids. Each run must have its own, because ids are unique in a
        thread.
    :param is_running: whether a run has begun already, in events that this machine was not fed.
    """

    __slots__ = ("_count", "_message", "_prefix", "_running", "_span")

    def __init__(self, prefix: str, *, is_running: bool = False) -> None:
        self._prefix = prefix
        self._count = 0
        self._running = is_running
        # These are the ids of the step and of the message in it, while they are open.
        self._span: str | None = None
        self._message: str | None = None

    def feed(self, event: Event) -> Event:
        """``event`` itself, or the REASONING_* event that says the same.

        :raises EventError: if it may not come here, with the reference's message.
        """
        type_ = event["type"]
        if type_ in _RUN_ENDS_OR_STARTS:
            self._running = type_ == t.RUN_STARTED
            self._span = self._message = None
        if type_ not in _REASONING or not self._running:
            # An event outside of a run is not upgraded, because the verifier refuses it in any
            # form.
            return event
        # A REASONING_START has no title, and THINKING_* events have no other members but those of
        # all events.
        kept = {name: value for name, value in event.items() if name in _KEPT}
        upgraded = {**kept, "type": _REASONING[type_], "messageId": self._place(type_)}
        if type_ == t.THINKING_TEXT_MESSAGE_START:
            upgraded["role"] = "reasoning"
        return upgraded

    def _place(self, type_: str) -> str:
        """The id of the step or message that an event of this type begins, continues or ends."""
        if type_ == t.THINKING_START:
            if self._span is not None:
                raise EventError(
                    f"Cannot send '{type_}' event: A thinking step is already in progress. End it "
                    "with 'THINKING_END' first."
                )
            self._span = id_ = self._new_id()
        elif type_ == t.THINKING_END:
            if self._span is None:
                raise EventError(
                    f"Cannot send '{type_}' event: No active thinking step found. A "
                    "'THINKING_START' event must be sent first."
                )
            id_, self._span = self._span, None
        elif type_ == t.THINKING_TEXT_MESSAGE_START:
            if self._span is None:
                raise EventError(
                    f"Cannot send '{type_}' event: A thinking step is not in progress. Create one "
                    "with 'THINKING_START' first."
                )
            if self._message is not None:
                raise EventError(
                    f"Cannot send '{type_}' event: A thinking message is already in progress. "
                    "Complete it with 'THINKING_TEXT_MESSAGE_END' first."
                )
            self._message = id_ = self._new_id()
        elif self._message is None:
            opener = (
                "Start a message with 'THINKING_TEXT_MESSAGE_START' first."
                if type_ == t.THINKING_TEXT_MESSAGE_CONTENT
                else "A 'THINKING_TEXT_MESSAGE_START' event must be sent first."
            )
            raise EventError(
                f"Cannot send '{type_}' event: No active thinking message found. {opener}"
            )
        else:
            id_ = self._message
            if type_ == t.THINKING_TEXT_MESSAGE_END:
                self._message = None
        return id_

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-reasoning-{self._count}"
