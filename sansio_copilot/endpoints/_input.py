"""The body of run, connect and suggest: a RunAgentInput."""

from __future__ import annotations

from typing import Any

import attrs
from ag_ui.core import RunAgentInput
from pydantic import ValidationError

from .. import _json
from ..http import Response
from ._errors import Refusal

_FIELDS = (
    "threadId",
    "runId",
    "parentRunId",
    "state",
    "messages",
    "tools",
    "context",
    "forwardedProps",
    "resume",
)


@attrs.frozen
class RunInput:
    """A parsed body.

    :param input: for the agent.
    :param json: the same as plain JSON, without fields that are not the protocol's; what
        RUN_STARTED tells other readers.
    :param last_seen_event_id: a connect may name it here instead of in ``Last-Event-ID``.
    """

    input: RunAgentInput
    json: dict[str, Any]
    last_seen_event_id: str | None


def parse_input(body: bytes) -> RunInput:
    """Parse a request body.

    ``tools`` and ``context`` are required, as the reference's schema has it, though AG-UI 1.0
    makes them optional: both client generations send them, and one answer is easier to rely on.

    :raises Refusal: with 400, if it is not JSON, or not a RunAgentInput.
    """
    try:
        value = _json.decode(body)
    except ValueError as error:
        raise _invalid(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _invalid(f"expected an object, received {_json_type(value)}")
    missing = [name for name in ("tools", "context") if not isinstance(value.get(name), list)]
    fields = {name: value[name] for name in _FIELDS if name in value}
    # An absent state and null are the same to every client; absent is how it is passed on.
    if fields.get("state", ...) is None:
        del fields["state"]
    problems = [
        f"{name}: expected an array, received {_json_type(value.get(name))}" for name in missing
    ]
    try:
        input = RunAgentInput.model_validate(_modern(fields))
    except ValidationError as error:
        problems = [*_problems(error), *problems]
    except RecursionError:
        problems = ["nested too deeply"]
    if problems:
        raise _invalid("; ".join(dict.fromkeys(problems)))
    last_seen = value.get("lastSeenEventId")
    return RunInput(input, fields, last_seen if isinstance(last_seen, str) and last_seen else None)


def _invalid(details: str) -> Refusal:
    return Refusal(Response.json({"error": "Invalid request body", "details": details}, 400))


def _problems(error: ValidationError) -> list[str]:
    # Without the offending input, which may be private and is often huge.
    return [
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    ]


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
    if not isinstance(mime_type, str):
        return part
    kind = mime_type.partition("/")[0]
    for source, key in (("data", "data"), ("url", "url"), ("file", "id")):
        if isinstance(part.get(key), str) and part[key]:
            named = {"filename": part["filename"]} if "filename" in part else {}
            return {
                "type": kind if kind in ("image", "audio", "video") else "document",
                "source": {"type": source, "value": part[key], "mimeType": mime_type},
                **({"metadata": named} if named else {}),
            }
    return part
