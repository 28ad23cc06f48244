"""The body of run, connect and suggest: a RunAgentInput."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

from ag_ui.core import RunAgentInput
from msgspec import Struct
from pydantic import ValidationError

from .. import json_codec
from ..events import EventError, normalize_input
from ..events.input_shape import MAX_DEPTH, RUN_INPUT, TooDeep, Walk, json_type
from ..http.refusals import Refusal, invalid_body


class RunInput(Struct, frozen=True):
    """A parsed body.

    :param input: the models for the agent, which share nothing with ``json``.
    :param json: the same as JSON, in a form that every client reads; RUN_STARTED repeats it to
        other readers.
    :param last_seen_event_id: the id that a connect may name here instead of in ``Last-Event-ID``.
    """

    input: RunAgentInput
    json: dict[str, Any]
    last_seen_event_id: str | None


def parse_input(value: Any) -> RunInput:
    """Parse the JSON of a body.

    ``tools`` and ``context`` are required, as in the reference's schema, though AG-UI 1.0 makes
    them optional, because both generations of clients send them, and one rule is easier to rely on.

    Members that are not the protocol's are left out, as in the reference. Members that are null
    instead of absent are left out too, because servers in other languages write null, and clients
    refuse to read it.

    :raises Refusal: with 400, if it is not a RunAgentInput. It names the first few problems.
    """
    if not isinstance(value, dict):
        raise _invalid(f"expected an object, received {json_type(value)}")
    walk = Walk()
    try:
        fields = RUN_INPUT.read(value, walk)
    except TooDeep:
        raise _invalid(f"nested deeper than {MAX_DEPTH} levels") from None
    if walk.problems:
        raise _invalid(walk.details)
    try:
        # The agent is given everything that was sent, but other readers have to be able to read it.
        shown = normalize_input(fields)
    except EventError as error:
        raise _invalid(str(error)) from None
    try:
        input = _TO_MODEL(fields)
    except ValidationError as error:
        # The walk has refused everything that AG-UI 1.0 refuses, but an earlier release of its
        # models may refuse more. Its own text is not sent, because it grows with the number of
        # problems.
        message = f"the server's AG-UI models refuse it, for {error.error_count()} reasons"
        raise _invalid(message) from None
    # The set is copied, because one that has grown takes half as much again while the run lasts.
    input.__pydantic_fields_set__ = input.model_fields_set.copy()
    last_seen = value.get("lastSeenEventId")
    return RunInput(input, shown, last_seen if isinstance(last_seen, str) and last_seen else None)


def _invalid(details: str) -> Refusal:
    return Refusal(invalid_body(details))


def to_model(fields: dict[str, Any]) -> RunAgentInput:
    """The models of AG-UI 1.0, of a body that was checked.

    They share nothing with the body, because the agent may change them, and readers are sent the
    input that the agent was given.
    """
    return RunAgentInput.model_validate(json_codec.to_builtins(_modern(fields)))


def to_early_model(fields: dict[str, Any]) -> RunAgentInput:
    """The models of an earlier release, from 0.1.22 on, in which some things have another form.

    That release requires ``forwardedProps``. It has no parts in the result of a tool, and no media
    parts whose source only their provider can read; the form that both generations of clients read
    has none of these either.
    """
    early = {"forwardedProps": None, **normalize_input(_modern(fields))}
    with warnings.catch_warnings():
        # The warning is ignored, because the models have no successor for the part that it is
        # about.
        warnings.filterwarnings("ignore", "BinaryInputContent is deprecated", DeprecationWarning)
        return RunAgentInput.model_validate(json_codec.to_builtins(early))


# The models are those of 1.0 or later if a body may name the version of the protocol.
_TO_MODEL = to_model if "protocol_version" in RunAgentInput.model_fields else to_early_model


def _modern(fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with the ``binary`` parts of messages, which AG-UI 1.0 dropped, as media parts.

    CopilotKit's client still sends them for attachments.
    """
    messages = fields["messages"]
    if list not in map(type, [message.get("content") for message in messages]):
        return fields
    return {**fields, "messages": list(map(_modern_message, messages))}


def _modern_message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list) or not any(part["type"] == "binary" for part in content):
        return message
    # The attachments are counted, because a client may send one in both forms, and an agent should
    # see it once.
    modern = Counter(_attached(part) for part in content if "source" in part)
    parts = []
    for part in content:
        if part["type"] == "binary":
            upgraded = _modern_part(part)
            attached = _attached(upgraded)
            if modern[attached]:
                modern[attached] -= 1
            else:
                parts.append(upgraded)
        else:
            parts.append(part)
    return {**message, "content": parts}


def _attached(part: dict[str, Any]) -> tuple[str, str]:
    """The content of a media part, without the members that describe it."""
    return part["source"]["type"], part["source"]["value"]


def _modern_part(part: dict[str, Any]) -> dict[str, Any]:
    mime_type = part["mimeType"]
    kind = mime_type.partition("/")[0].lower()
    # The search finds one of the three, because a part without any of them has been refused.
    source, key = next(
        (source, key)
        for source, key in (("data", "data"), ("url", "url"), ("file", "id"))
        if part.get(key)
    )
    named = {"filename": part["filename"]} if "filename" in part else {}
    return {
        "type": kind if kind in ("image", "audio", "video") else "document",
        "source": {"type": source, "value": part[key], "mimeType": mime_type},
        **({"metadata": named} if named else {}),
    }
