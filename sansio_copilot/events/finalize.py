"""The end of a run that has not ended by itself: it was stopped, it failed, or its events ended.

Source: ``createRunEventFinalizer`` of ``@copilotkit/shared`` 1.75.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from .. import json_codec
from . import types as t
from .types import Event

STOP_MESSAGE: Final = "Run stopped by user"
"""The reason for the end of a run that a client has stopped."""
_ABRUPT_END_MESSAGE: Final = "Run ended without emitting a terminal event"


class Finalizer(Struct, eq=False):
    """Remembers the open messages and tool calls of a run, and closes them in the end.

    It keeps nothing but their ids, so that it may watch a stream of any length.

    :ivar terminal: whether the run has ended: RUN_FINISHED or RUN_ERROR was observed, or appended.
    """

    terminal: bool = False
    # The messages are in the order in which they opened, because they are closed in that order.
    _open_messages: dict[str, None] = {}
    # Each id is mapped to the types that are still to come: TOOL_CALL_END, TOOL_CALL_RESULT, or
    # both.
    _open_tool_calls: dict[str, set[str]] = {}

    def observe(self, event: Event) -> None:
        """Take note of an event that was sent. After a terminal event no event counts."""
        type_ = event["type"]
        if self.terminal:
            return
        if type_ == t.TEXT_MESSAGE_START:
            if event.get("messageId"):
                self._open_messages[event["messageId"]] = None
        elif type_ == t.TEXT_MESSAGE_END:
            self._open_messages.pop(event.get("messageId", ""), None)
        elif type_ == t.TOOL_CALL_START:
            if event.get("toolCallId"):
                expected = {t.TOOL_CALL_END, t.TOOL_CALL_RESULT}
                self._open_tool_calls.setdefault(event["toolCallId"], expected)
        elif type_ in (t.TOOL_CALL_END, t.TOOL_CALL_RESULT):
            to_come = self._open_tool_calls.get(event.get("toolCallId", ""))
            if to_come is not None:
                to_come.discard(type_)
                if not to_come:
                    del self._open_tool_calls[event["toolCallId"]]
        elif type_ in (t.RUN_FINISHED, t.RUN_ERROR):
            self.terminal = True

    def finalize(
        self, *, stop_requested: bool = False, interruption_message: str | None = None
    ) -> list[Event]:
        """The events that make the stream well formed; empty if it has ended already.

        They end each open text message, end each open tool call and give it a result that says
        why there is no other, and end the run.

        :param stop_requested: whether the end was asked for. The run then ends with RUN_FINISHED,
            and otherwise with RUN_ERROR.
        :param interruption_message: the reason for the end, for RUN_ERROR and the tool results.
        """
        if self.terminal:
            return []
        stopped = STOP_MESSAGE if interruption_message is None else interruption_message
        failed = interruption_message
        if not failed or failed == STOP_MESSAGE:
            failed = _ABRUPT_END_MESSAGE
        if stop_requested:
            result = {"status": "stopped", "reason": "stop_requested", "message": stopped}
            terminal: Event = {"type": t.RUN_FINISHED}
        else:
            result = {"status": "error", "reason": "missing_terminal_event", "message": failed}
            terminal = {"type": t.RUN_ERROR, "message": failed, "code": "INCOMPLETE_STREAM"}
        content = json_codec.encode(result).decode() if self._open_tool_calls else ""

        appended: list[Event] = [
            {"type": t.TEXT_MESSAGE_END, "messageId": message_id}
            for message_id in self._open_messages
        ]
        for call_id, to_come in self._open_tool_calls.items():
            if t.TOOL_CALL_END in to_come:
                appended.append({"type": t.TOOL_CALL_END, "toolCallId": call_id})
            if t.TOOL_CALL_RESULT in to_come:
                appended.append(
                    {
                        "type": t.TOOL_CALL_RESULT,
                        "toolCallId": call_id,
                        "messageId": f"{call_id}-result",
                        "role": "tool",
                        "content": content,
                    }
                )
        appended.append(terminal)
        self.terminal = True
        return appended


def closing_events(
    events: Iterable[Event], *, stop_requested: bool, message: str | None
) -> list[Event]:
    """The events that end the last run of ``events``, which has not ended.

    :param events: a stream of runs, each but the last one with its terminal event.
    :param stop_requested: see :meth:`Finalizer.finalize`, as for the message.
    """
    finalizer = Finalizer()
    for event in events:
        if event["type"] == t.RUN_STARTED:
            finalizer = Finalizer()
        else:
            finalizer.observe(event)
    return finalizer.finalize(stop_requested=stop_requested, interruption_message=message)


def finalize_events(
    events: Iterable[Event],
    *,
    stop_requested: bool = False,
    interruption_message: str | None = None,
) -> list[Event]:
    """The events to append to ``events`` so that they are a well-formed run.

    ``events`` is not changed; the parameters are those of :meth:`Finalizer.finalize`.
    """
    finalizer = Finalizer()
    for event in events:
        finalizer.observe(event)
    return finalizer.finalize(
        stop_requested=stop_requested, interruption_message=interruption_message
    )
