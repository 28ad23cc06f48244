"""The event types of AG-UI.

An event is a dict of the JSON shape that AG-UI puts on the wire
(``{"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "Hi"}``), so that nothing is
converted between an agent's event and its frame. The machines of this package read the members that
they need and pass everything else through. Only :mod:`.normalize` checks the types of values; an
event that has passed it never breaks a machine.

Source: https://docs.ag-ui.com/concepts/events and the schemas of ``@ag-ui/core`` 0.0.59.
"""

from __future__ import annotations

from typing import Any, Final

Event = dict[str, Any]

TEXT_MESSAGE_START: Final = "TEXT_MESSAGE_START"
TEXT_MESSAGE_CONTENT: Final = "TEXT_MESSAGE_CONTENT"
TEXT_MESSAGE_END: Final = "TEXT_MESSAGE_END"
TEXT_MESSAGE_CHUNK: Final = "TEXT_MESSAGE_CHUNK"
TOOL_CALL_START: Final = "TOOL_CALL_START"
TOOL_CALL_ARGS: Final = "TOOL_CALL_ARGS"
TOOL_CALL_END: Final = "TOOL_CALL_END"
TOOL_CALL_CHUNK: Final = "TOOL_CALL_CHUNK"
TOOL_CALL_RESULT: Final = "TOOL_CALL_RESULT"
THINKING_START: Final = "THINKING_START"
THINKING_END: Final = "THINKING_END"
THINKING_TEXT_MESSAGE_START: Final = "THINKING_TEXT_MESSAGE_START"
THINKING_TEXT_MESSAGE_CONTENT: Final = "THINKING_TEXT_MESSAGE_CONTENT"
THINKING_TEXT_MESSAGE_END: Final = "THINKING_TEXT_MESSAGE_END"
STATE_SNAPSHOT: Final = "STATE_SNAPSHOT"
STATE_DELTA: Final = "STATE_DELTA"
MESSAGES_SNAPSHOT: Final = "MESSAGES_SNAPSHOT"
ACTIVITY_SNAPSHOT: Final = "ACTIVITY_SNAPSHOT"
ACTIVITY_DELTA: Final = "ACTIVITY_DELTA"
RAW: Final = "RAW"
CUSTOM: Final = "CUSTOM"
RUN_STARTED: Final = "RUN_STARTED"
RUN_FINISHED: Final = "RUN_FINISHED"
RUN_ERROR: Final = "RUN_ERROR"
STEP_STARTED: Final = "STEP_STARTED"
STEP_FINISHED: Final = "STEP_FINISHED"
REASONING_START: Final = "REASONING_START"
REASONING_MESSAGE_START: Final = "REASONING_MESSAGE_START"
REASONING_MESSAGE_CONTENT: Final = "REASONING_MESSAGE_CONTENT"
REASONING_MESSAGE_END: Final = "REASONING_MESSAGE_END"
REASONING_MESSAGE_CHUNK: Final = "REASONING_MESSAGE_CHUNK"
REASONING_END: Final = "REASONING_END"
REASONING_ENCRYPTED_VALUE: Final = "REASONING_ENCRYPTED_VALUE"
SUBAGENT_STARTED: Final = "SUBAGENT_STARTED"
SUBAGENT_FINISHED: Final = "SUBAGENT_FINISHED"
SUBAGENT_ERROR: Final = "SUBAGENT_ERROR"


class EventError(ValueError):
    """An event that breaks a rule of AG-UI; ``str(error)`` says which, in one sentence.

    Where the reference implementation (``@ag-ui/client``) has a message for it, it is that
    message, because it ends up in the ``RUN_ERROR`` event that a front end shows.
    """
