"""The event types of AG-UI, and the check that an event has the shape of its type.

An event is a plain dict of the JSON shape that AG-UI puts on the wire
(``{"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "Hi"}``), so that nothing is
converted between an agent's event and its frame. The machines of this package read the fields
they need and pass everything else through. :func:`check_event` is the one place that looks at
types of values; what has passed it never breaks a machine.

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

# type -> fields that must be strings. RUN_FINISHED has none: the runtime itself ends a stopped
# run with a bare one. SUBAGENT_* have none: the verifier reports theirs in the reference's words.
REQUIRED_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    TEXT_MESSAGE_START: ("messageId",),
    TEXT_MESSAGE_CONTENT: ("messageId", "delta"),
    TEXT_MESSAGE_END: ("messageId",),
    TEXT_MESSAGE_CHUNK: (),
    TOOL_CALL_START: ("toolCallId", "toolCallName"),
    TOOL_CALL_ARGS: ("toolCallId", "delta"),
    TOOL_CALL_END: ("toolCallId",),
    TOOL_CALL_CHUNK: (),
    TOOL_CALL_RESULT: ("toolCallId", "messageId", "content"),
    THINKING_START: (),
    THINKING_END: (),
    THINKING_TEXT_MESSAGE_START: (),
    THINKING_TEXT_MESSAGE_CONTENT: ("delta",),
    THINKING_TEXT_MESSAGE_END: (),
    STATE_SNAPSHOT: (),
    STATE_DELTA: (),
    MESSAGES_SNAPSHOT: (),
    ACTIVITY_SNAPSHOT: ("messageId", "activityType"),
    ACTIVITY_DELTA: ("messageId", "activityType"),
    RAW: (),
    CUSTOM: ("name",),
    RUN_STARTED: ("threadId", "runId"),
    RUN_FINISHED: (),
    RUN_ERROR: ("message",),
    STEP_STARTED: ("stepName",),
    STEP_FINISHED: ("stepName",),
    REASONING_START: ("messageId",),
    REASONING_MESSAGE_START: ("messageId",),
    REASONING_MESSAGE_CONTENT: ("messageId", "delta"),
    REASONING_MESSAGE_END: ("messageId",),
    REASONING_MESSAGE_CHUNK: (),
    REASONING_END: ("messageId",),
    REASONING_ENCRYPTED_VALUE: ("subtype", "entityId", "encryptedValue"),
    SUBAGENT_STARTED: (),
    SUBAGENT_FINISHED: (),
    SUBAGENT_ERROR: (),
}

KNOWN_TYPES: Final = frozenset(REQUIRED_FIELDS)

# type -> fields that must be strings if they are there. None reads as absent, except for
# subagentRunId, whose null the verifier refuses in the reference's words.
_OPTIONAL_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(REQUIRED_FIELDS, ("subagentRunId",)),
    TEXT_MESSAGE_START: ("subagentRunId", "role", "name"),
    TEXT_MESSAGE_CHUNK: ("subagentRunId", "messageId", "role", "delta", "name"),
    TOOL_CALL_START: ("subagentRunId", "parentMessageId"),
    TOOL_CALL_CHUNK: ("subagentRunId", "toolCallId", "toolCallName", "parentMessageId", "delta"),
    TOOL_CALL_RESULT: ("subagentRunId", "role"),
    REASONING_MESSAGE_CHUNK: ("subagentRunId", "messageId", "delta"),
    RUN_FINISHED: ("subagentRunId", "threadId", "runId"),
    SUBAGENT_STARTED: ("subagentRunId", "parentSubagentRunId"),
}

# An event of exactly this many fields, its required ones and "type", has nothing else to check.
# The two exceptions have a required field that is no string.
_PLAIN_SIZE: Final = {
    **{type_: len(fields) + 1 for type_, fields in REQUIRED_FIELDS.items()},
    MESSAGES_SNAPSHOT: -1,
    ACTIVITY_SNAPSHOT: -1,
}


class EventError(ValueError):
    """An event that breaks a rule of AG-UI; ``str(error)`` says which, in one sentence.

    Where the reference implementation (``@ag-ui/client``) has a message for it, it is that
    message, because it ends up in the ``RUN_ERROR`` event that a front end shows.
    """


def check_event(event: Any) -> bool:
    """Check that ``event`` has the fields its type needs, and that they are of the right type.

    Only what the machines of this package rely on is checked; a field they pass through may hold
    anything. A STATE_DELTA that is no JSON Patch is accepted: it is a delta that does not apply.

    :param event: what an agent yielded, as a dict.
    :returns: False if the type is not one of AG-UI's; the event is then to be dropped, as the
        reference does. True otherwise.
    :raises EventError: if it is not a dict with a ``type``, or a field is missing or wrong.
    """
    if not isinstance(event, dict):
        raise EventError(f"an event needs to be a dict, got {type(event).__name__}")
    type_ = event.get("type")
    if not isinstance(type_, str):
        raise _wrong_field("an event", event, "type", "a string")
    required = REQUIRED_FIELDS.get(type_)
    if required is None:
        return False
    for name in required:
        if not isinstance(event.get(name), str):
            raise _wrong_field(type_, event, name, "a string")
    if len(event) != _PLAIN_SIZE[type_]:
        _check_other_fields(type_, event)
    return True


def _check_other_fields(type_: str, event: Event) -> None:
    for name in _OPTIONAL_FIELDS[type_]:
        value = event.get(name)
        if value is not None and not isinstance(value, str):
            raise _wrong_field(type_, event, name, "a string")
    metadata = event.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise _wrong_field(type_, event, "metadata", "a dict")
    if type_ == ACTIVITY_SNAPSHOT and not isinstance(event.get("content"), dict):
        raise _wrong_field(type_, event, "content", "a dict")
    if type_ == MESSAGES_SNAPSHOT:
        messages = event.get("messages")
        if not isinstance(messages, list):
            raise _wrong_field(type_, event, "messages", "a list")
        for message in messages:
            _check_message(type_, message)


def _check_message(type_: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise EventError(f"{type_} needs each message to be a dict, got {type(message).__name__}")
    for name in ("id", "role"):
        if not isinstance(message.get(name), str):
            raise _wrong_field(f"{type_}: a message", message, name, "a string")


def _wrong_field(subject: str, event: Event, name: str, expected: str) -> EventError:
    found = f"got {type(event[name]).__name__}" if name in event else "but it is missing"
    return EventError(f"{subject} needs '{name}' to be {expected}, {found}")
