"""The body of run, connect and suggest: a RunAgentInput."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
from ag_ui.core import RunAgentInput
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .. import _json
from ..http import Response
from ._errors import Refusal

_BINARY = ("mimeType", "data", "url", "id", "filename")
# What a member holds: a shape is that of the object, or of each object in the list. OPAQUE may hold
# anything, and null is a value there; PLAIN as well, but its null is the same as its absence.
_OPAQUE, _PLAIN = "opaque", "plain"
_Members: TypeAlias = Mapping[str, Any]


def _plain(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), _PLAIN)


_SOURCE = _plain("type value mimeType provider")
_PART = {
    **_plain("type id text mimeType url data filename"),
    "source": _SOURCE,
    "metadata": _OPAQUE,
}
_CALL = {**_plain("id type encryptedValue metadata"), "function": _plain("name arguments")}
_MESSAGE = _plain("id role content name encryptedValue subagentRunId metadata")
_MESSAGES: Mapping[Any, _Members] = {
    "user": {**_MESSAGE, "content": _PART},
    "assistant": {**_MESSAGE, "toolCalls": _CALL},
    "tool": {
        **_plain("id role toolCallId error encryptedValue subagentRunId metadata"),
        "content": _PART,
    },
    "activity": _plain("id role activityType content subagentRunId metadata"),
    "reasoning": _plain("id role content encryptedValue subagentRunId metadata"),
}
_INPUT = {
    **_plain("threadId runId parentRunId state"),
    "messages": _MESSAGES,
    "tools": {**_plain("name description metadata"), "parameters": _OPAQUE},
    "context": _plain("description value"),
    "forwardedProps": _OPAQUE,
    "resume": {**_plain("interruptId status metadata"), "payload": _OPAQUE},
}
# Deeper than any state that somebody made on purpose, and shallow enough that nothing which walks
# it later, here or in an agent, runs out of stack.
_MAX_DEPTH = 200
_CONTAINERS = frozenset({dict, list})


@attrs.frozen
class RunInput:
    """A parsed body.

    :param input: for the agent.
    :param json: the same as plain JSON; what RUN_STARTED tells other readers.
    :param last_seen_event_id: a connect may name it here instead of in ``Last-Event-ID``.
    """

    input: RunAgentInput
    json: dict[str, Any]
    last_seen_event_id: str | None


def parse_input(body: bytes) -> RunInput:
    """Parse a request body.

    ``tools`` and ``context`` are required, as the reference's schema has it, though AG-UI 1.0
    makes them optional: both client generations send them, and one answer is easier to rely on.

    Members that are not the protocol's go no further, as in the reference. Nor does null where it
    stands for absence: servers in other languages write it, and clients refuse to read it.

    :raises Refusal: with 400, if it is not JSON, or not a RunAgentInput.
    """
    try:
        value = _json.decode(body)
    except ValueError as error:
        raise _invalid(f"not JSON: {error}") from None
    # With no more brackets than that it cannot be deeper, and need not be walked.
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > _MAX_DEPTH and _depth_exceeds(value, _MAX_DEPTH):
        raise _invalid(f"nested deeper than {_MAX_DEPTH} levels")
    if not isinstance(value, dict):
        raise _invalid(f"expected an object, received {_json_type(value)}")
    missing = [name for name in ("tools", "context") if not isinstance(value.get(name), list)]
    fields = _known(value, _INPUT)
    problems = [
        f"{name}: expected an array, received {_json_type(value.get(name))}" for name in missing
    ]
    try:
        input = RunAgentInput.model_validate(_modern(fields))
    except ValidationError as error:
        problems = [*_problems(error), *problems]
    if problems:
        raise _invalid("; ".join(dict.fromkeys(problems)))
    last_seen = value.get("lastSeenEventId")
    return RunInput(input, fields, last_seen if isinstance(last_seen, str) and last_seen else None)


def _known(value: Any, shape: Any) -> Any:
    """``value`` without members that ``shape`` does not have, and without nulls for absence."""
    if isinstance(value, list):
        return [_known(item, shape) for item in value]
    if not isinstance(value, dict):
        return value  # if it should have been an object, validation will say so
    if shape is _MESSAGES:
        role = value.get("role")
        shape = _MESSAGES.get(role, _MESSAGE) if isinstance(role, str) else _MESSAGE
    known = {}
    kind_of = shape.get
    for name, member in value.items():
        kind = kind_of(name)
        if kind is _OPAQUE or (kind is _PLAIN and member is not None):
            known[name] = member
        elif kind is not None and member is not None:
            # Nearly all content is text, which has no members.
            known[name] = member if type(member) is str else _known(member, kind)
    return known


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def _invalid(details: str) -> Refusal:
    return Refusal(Response.json({"error": "Invalid request body", "details": details}, 400))


def _problems(error: ValidationError) -> list[str]:
    # Without the offending input, which may be private and is often huge.
    problems = error.errors(include_url=False, include_input=False)
    return [f"{'.'.join(map(str, problem['loc']))}: {_text(problem)}" for problem in problems]


def _text(problem: ErrorDetails) -> str:
    if problem["type"] == "union_tag_invalid":
        # pydantic's own text repeats the tag, which is input too.
        return f"expected one of {problem['ctx']['expected_tags']}"
    return problem["msg"]


def _json_type(value: object) -> str:
    if value is None:
        return "nothing"
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "a number")


def _modern(fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with the ``binary`` parts of messages, which AG-UI 1.0 dropped, as media parts.

    CopilotKit's client still sends them for attachments.
    """
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return fields
    upgraded = [_modern_message(message) for message in messages]
    if all(new is old for new, old in zip(upgraded, messages, strict=True)):
        return fields
    return {**fields, "messages": upgraded}


def _modern_message(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    parts = [_modern_part(part) for part in content]
    if all(new is old for new, old in zip(parts, content, strict=True)):
        return message
    return {**message, "content": parts}


def _modern_part(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") != "binary":
        return part
    mime_type = part.get("mimeType")
    if not all(isinstance(part.get(key, ""), str) for key in _BINARY) or mime_type is None:
        return part
    kind = mime_type.partition("/")[0]
    for source, key in (("data", "data"), ("url", "url"), ("file", "id")):
        if part.get(key):
            named = {"filename": part["filename"]} if "filename" in part else {}
            return {
                "type": kind if kind in ("image", "audio", "video") else "document",
                "source": {"type": source, "value": part[key], "mimeType": mime_type},
                **({"metadata": named} if named else {}),
            }
    return part
