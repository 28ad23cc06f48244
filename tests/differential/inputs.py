"""Inputs of runs: bodies of every kind that the reference's schema tells apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from differential.scripts import CALL, DEEP, simple_script
from differential.steps import BASE, CONTENT_TYPES, JSON_TYPE, Step, encode

from sansio_copilot.testing import run_input

OPERATIONS = ("run", "connect", "suggest")


USER = {"id": "u", "role": "user", "content": "hello"}
ASSISTANT = {"id": "a", "role": "assistant"}
TOOL_ANSWER = {"id": "t", "role": "tool", "content": "42", "toolCallId": "c"}
ACTIVITY = {"id": "y", "role": "activity", "activityType": "plan", "content": {"a": [1]}}
REASONING = {"id": "z", "role": "reasoning", "content": "hmm"}
TOOL = {"name": "f", "description": "does", "parameters": {"type": "object", "properties": {}}}


def _parts(*parts: Any) -> dict[str, Any]:
    return {"messages": [{**USER, "content": list(parts)}]}


DATA = {"type": "data", "value": "aGk=", "mimeType": "image/png"}
URL = {"type": "url", "value": "https://example.com/x.png"}

VALID: dict[str, dict[str, Any]] = {
    "a plain one": {},
    "all roles": {
        "messages": [
            {"id": "d", "role": "developer", "content": "be brief"},
            {"id": "s", "role": "system", "content": "be nice", "name": "boss"},
            USER,
            {**ASSISTANT, "content": "", "toolCalls": [CALL]},
            TOOL_ANSWER,
            ACTIVITY,
            REASONING,
        ]
    },
    "an assistant without content": {"messages": [ASSISTANT]},
    "a tool's error": {"messages": [{**TOOL_ANSWER, "error": "no"}]},
    "messages with all optional fields": {
        "messages": [
            {
                **USER,
                "name": "ada",
                "encryptedValue": "x",
                "subagentRunId": "sub",
                "metadata": {"k": None},
            },
            {**ASSISTANT, "toolCalls": [{**CALL, "encryptedValue": "y", "metadata": {"m": 1}}]},
            {**REASONING, "encryptedValue": "z"},
        ]
    },
    "the same id twice": {"messages": [USER, {**USER, "content": "again"}]},
    "an empty id": {"messages": [{**USER, "id": "", "content": ""}]},
    "parts of all kinds": _parts(
        {"type": "text", "text": "look"},
        {"type": "image", "source": DATA},
        {"type": "audio", "source": {**DATA, "mimeType": "audio/wav"}, "metadata": {"s": 3}},
        {"type": "video", "source": URL},
        {"type": "document", "source": {**URL, "mimeType": "text/plain"}, "metadata": None},
    ),
    "no parts": _parts(),
    "legacy binary parts": _parts(
        {"type": "binary", "mimeType": "image/png", "data": "aGk="},
        {"type": "binary", "mimeType": "text/x", "url": "https://example.com/", "filename": "x"},
        {"type": "binary", "mimeType": "x", "id": "file-1"},
    ),
    "tools": {"tools": [TOOL, {"name": "", "description": "", "parameters": None}]},
    "a tool without parameters": {"tools": [{"name": "f", "description": "d"}]},
    "a tool with metadata": {"tools": [{**TOOL, "metadata": {"a": {"b": None}}}]},
    "context": {"context": [{"description": "page", "value": "/orders"}] * 2},
    "resume": {
        "resume": [
            {"interruptId": "i", "status": "resolved", "payload": {"ok": True}},
            {"interruptId": "j", "status": "cancelled", "metadata": {"k": 1}},
        ]
    },
    "an empty resume": {"resume": []},
    "a parent run": {"parentRunId": "r0"},
    "empty ids": {"runId": ""},
    "a null state": {"state": None},
    "a state that is a list": {"state": [1, {"a": None}]},
    "a state that is text": {"state": "x"},
    "a state that is zero": {"state": 0},
    "a state that is false": {"state": False},
    "nulls inside the state": {"state": {"a": None, "b": [None]}},
    "a deep state": {"state": DEEP},
    "unicode": {
        "messages": [{**USER, "content": "Köln 🚀 \u2028\u2029\u0000\u001f\x7f \ufeff\ufffe"}],
        "state": {"schlüssel 🚀": "значение", "": "empty key", "\u2028": 1},
    },
    "numbers": {"state": {"n": [0, -0.0, 0.1, 1e21, 1e-7, 123456789012, -1.5e300, 2**53 - 1]}},
    "properties that are text": {"forwardedProps": "x"},
    "names of JavaScript": {"state": {"constructor": 1, "toString": 2, "hasOwnProperty": 3}},
}

ABSENT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "state": lambda body: body.pop("state"),
    "forwardedProps": lambda body: body.pop("forwardedProps"),
}

# The reference's schema drops these; an agent or another reader never sees them.
EXTRA: dict[str, dict[str, Any]] = {
    "a field of its own": {"extra": 1, "lastSeenEventId": None},
    "a message's": {"messages": [{**USER, "createdAt": "now", "parentMessageId": None}]},
    "a tool message's": {"messages": [{**TOOL_ANSWER, "name": "f"}]},
    "a part's": _parts({"type": "text", "text": "x", "cache": True}),
    "a source's": _parts({"type": "image", "source": {**DATA, "size": 3}}),
    "a tool's": {"tools": [{**TOOL, "available": "enabled", "handler": None}]},
    "a tool call's": {"messages": [{**ASSISTANT, "toolCalls": [{**CALL, "index": 0}]}]},
    "a function's": {
        "messages": [
            {
                **ASSISTANT,
                "toolCalls": [{**CALL, "function": {**CALL["function"], "strict": True}}],
            }
        ]
    },
    "a context's": {"context": [{"description": "d", "value": "v", "id": "1"}]},
    "a resume's": {"resume": [{"interruptId": "i", "status": "resolved", "by": "me"}]},
    "tool calls of a user": {"messages": [{**USER, "toolCalls": [CALL]}]},
}

SURROGATES: dict[str, dict[str, Any]] = {
    "in a message": {"messages": [{**USER, "content": "half \ud83d of a rocket"}]},
    "in the state": {"state": {"k\ude80": ["\ud83d", "\ude80\ud83d"]}},
    "that make a pair": {"messages": [{**USER, "content": "\ud83d\ude80"}]},
}

HUGE: dict[str, dict[str, Any]] = {
    "integers": {"state": {"n": [2**53 + 1, 12345678901234567890, -(2**64)]}},
}

TOO_DEEP: Any = "bottom"
for _ in range(250):
    TOO_DEEP = [TOO_DEEP]

# These inputs have null for an optional field of the schema, so that both servers show whether null
# counts as absent.
NULLS: dict[str, dict[str, Any]] = {
    "parentRunId": {"parentRunId": None},
    "resume": {"resume": None},
    "name": {"messages": [{**USER, "name": None}]},
    "content": {"messages": [{**ASSISTANT, "content": None}]},
    "toolCalls": {"messages": [{**ASSISTANT, "content": "x", "toolCalls": None}]},
    "error": {"messages": [{**TOOL_ANSWER, "error": None}]},
    "encryptedValue": {"messages": [{**REASONING, "encryptedValue": None}]},
    "subagentRunId": {"messages": [{**USER, "subagentRunId": None}]},
    "metadata": {"messages": [{**USER, "metadata": None}]},
    "mimeType": _parts({"type": "image", "source": {**URL, "mimeType": None}}),
}

INVALID: dict[str, dict[str, Any]] = {
    "threadId is a number": {"threadId": 1},
    "threadId is null": {"threadId": None},
    "runId is an object": {"runId": {}},
    "parentRunId is a number": {"parentRunId": 0},
    "messages is null": {"messages": None},
    "messages is an object": {"messages": {}},
    "messages is text": {"messages": "hello"},
    "a message is null": {"messages": [None]},
    "a message is text": {"messages": ["hello"]},
    "a message is a list": {"messages": [[]]},
    "a message without id": {"messages": [{"role": "user", "content": "x"}]},
    "a message's id is a number": {"messages": [{**USER, "id": 7}]},
    "a message without role": {"messages": [{"id": "u", "content": "x"}]},
    "a message of an unknown role": {"messages": [{**USER, "role": "nobody"}]},
    "a message's role in capitals": {"messages": [{**USER, "role": "User"}]},
    "a message's role is null": {"messages": [{**USER, "role": None}]},
    "a later message": {"messages": [USER, {**USER, "role": 1}]},
    "a user without content": {"messages": [{"id": "u", "role": "user"}]},
    "a user's content is null": {"messages": [{**USER, "content": None}]},
    "a user's content is a number": {"messages": [{**USER, "content": 5}]},
    "a user's content is an object": {"messages": [{**USER, "content": {}}]},
    "a system's content is a list": {"messages": [{"id": "s", "role": "system", "content": []}]},
    "a developer without content": {"messages": [{"id": "d", "role": "developer"}]},
    "an assistant's content is a list": {"messages": [{**ASSISTANT, "content": []}]},
    "a reasoning without content": {"messages": [{"id": "z", "role": "reasoning"}]},
    "an activity's content is text": {"messages": [{**ACTIVITY, "content": "x"}]},
    "an activity's content is a list": {"messages": [{**ACTIVITY, "content": []}]},
    "an activity without a type": {"messages": [{"id": "y", "role": "activity", "content": {}}]},
    "a tool message without toolCallId": {"messages": [{"id": "t", "role": "tool", "content": ""}]},
    "a tool message's content is a list": {"messages": [{**TOOL_ANSWER, "content": []}]},
    "a tool message's content is null": {"messages": [{**TOOL_ANSWER, "content": None}]},
    "a name is a number": {"messages": [{**USER, "name": 1}]},
    "metadata is a list": {"messages": [{**USER, "metadata": []}]},
    "metadata is text": {"messages": [{**USER, "metadata": "x"}]},
    "subagentRunId is a number": {"messages": [{**USER, "subagentRunId": 1}]},
    "toolCalls is an object": {"messages": [{**ASSISTANT, "toolCalls": {}}]},
    "a tool call is null": {"messages": [{**ASSISTANT, "toolCalls": [None]}]},
    "a tool call without id": {
        "messages": [{**ASSISTANT, "toolCalls": [{k: CALL[k] for k in ("type", "function")}]}]
    },
    "a tool call of another type": {
        "messages": [{**ASSISTANT, "toolCalls": [{**CALL, "type": "custom"}]}]
    },
    "a tool call without type": {
        "messages": [{**ASSISTANT, "toolCalls": [{k: CALL[k] for k in ("id", "function")}]}]
    },
    "a tool call without function": {
        "messages": [{**ASSISTANT, "toolCalls": [{"id": "c", "type": "function"}]}]
    },
    "arguments are an object": {
        "messages": [
            {**ASSISTANT, "toolCalls": [{**CALL, "function": {"name": "f", "arguments": {}}}]}
        ]
    },
    "a part is text": _parts("hello"),
    "a part is null": _parts(None),
    "a part without type": _parts({"text": "x"}),
    "a part of an unknown type": _parts({"type": "hologram", "text": "x"}),
    "a text part without text": _parts({"type": "text"}),
    "a text part's text is a number": _parts({"type": "text", "text": 1}),
    "an image without source": _parts({"type": "image"}),
    "an image whose source is text": _parts({"type": "image", "source": "https://x"}),
    "a source of an unknown type": _parts({"type": "image", "source": {**DATA, "type": "ftp"}}),
    "a data source without mimeType": _parts(
        {"type": "image", "source": {"type": "data", "value": "x"}}
    ),
    "a source without value": _parts({"type": "image", "source": {"type": "url"}}),
    "an empty binary part": _parts({"type": "binary", "mimeType": "image/png"}),
    "a binary part with empty text": _parts({"type": "binary", "mimeType": "x", "data": ""}),
    "a binary part without mimeType": _parts({"type": "binary", "data": "x"}),
    "a binary part's data is a number": _parts(
        {"type": "binary", "mimeType": "x", "url": "u", "data": 1}
    ),
    "tools is null": {"tools": None},
    "tools is an object": {"tools": {}},
    "a tool is text": {"tools": ["f"]},
    "a tool without name": {"tools": [{"description": "d", "parameters": {}}]},
    "a tool without description": {"tools": [{"name": "f", "parameters": {}}]},
    "a tool's name is null": {"tools": [{**TOOL, "name": None}]},
    "a tool's metadata is a list": {"tools": [{**TOOL, "metadata": []}]},
    "context is null": {"context": None},
    "context is an object": {"context": {"description": "d", "value": "v"}},
    "a context without value": {"context": [{"description": "d"}]},
    "a context's value is an object": {"context": [{"description": "d", "value": {}}]},
    "a context is null": {"context": [None]},
    "resume is an object": {"resume": {}},
    "a resume without status": {"resume": [{"interruptId": "i"}]},
    "a resume of an unknown status": {"resume": [{"interruptId": "i", "status": "maybe"}]},
    "a resume without interruptId": {"resume": [{"status": "resolved"}]},
    "a resume's metadata is text": {
        "resume": [{"interruptId": "i", "status": "resolved", "metadata": "x"}]
    },
}

WITHOUT = ("threadId", "runId", "messages", "tools", "context")

NOT_AN_INPUT: dict[str, bytes | None] = {
    "nothing": None,
    "an empty body": b"",
    "white space": b" \n",
    "not JSON": b"hello",
    "a brace": b"{",
    "a trailing comma": b'{"threadId":"t",}',
    "single quotes": b"{'threadId':'t'}",
    "NaN": b'{"threadId":NaN}',
    "a comment": b"{} // no",
    "two values": b"{}{}",
    "null": b"null",
    "true": b"true",
    "a number": b"5",
    "text": b'"text"',
    "a list": b"[]",
    "an empty object": b"{}",
    "a bare escape": b'{"threadId":"\\x41"}',
    "a control character": b'{"threadId":"a\nb"}',
    "a leading zero": b'{"threadId":01}',
}


def bodies(random: Random) -> Iterator[Step]:
    for number, (about, make) in enumerate(_all_inputs()):
        body = make(f"body-{number}")
        yield _agent_step(random, about, body)
    for number, raw in enumerate(NOT_AN_INPUT.values()):
        operation = OPERATIONS[number % 3]
        target = f"{BASE}/agent/default/{operation}"
        headers = () if raw is None else (("content-type", random.choice(CONTENT_TYPES)),)
        yield Step("not an input", "plain", "POST", target, headers, raw)
    valid = encode(run_input("encoding", "r"))
    target = f"{BASE}/agent/default/connect"
    for about, raw in (
        ("byte order mark", b"\xef\xbb\xbf" + valid),
        ("broken UTF-8", valid.replace(b'"encoding"', b'"enc\xff\xc3oding"')),
        ("UTF-16", valid.decode().encode("utf-16")),
        ("duplicate keys", valid[:-1] + b', "tools": null, "tools": [], "runId": "s"}'),
        ("white space around", b"\r\n\t " + valid + b"\n\n"),
    ):
        yield Step(about, "plain", "POST", target, (JSON_TYPE,), raw)


def _all_inputs() -> Iterator[tuple[str, Callable[[str], dict[str, Any]]]]:
    """Inputs of every kind: what they are about, and how to make one for a thread."""

    def with_fields(fields: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
        def make(thread_id: str) -> dict[str, Any]:
            script = {"forwardedProps": {"script": simple_script(thread_id, "r")}}
            return run_input(thread_id, "r", **{**script, **copy.deepcopy(fields)})

        return make

    def without(name: str) -> Callable[[str], dict[str, Any]]:
        def make(thread_id: str) -> dict[str, Any]:
            body = with_fields({})(thread_id)
            del body[name]
            return body

        return make

    for about, group in (
        ("valid", VALID),
        ("unknown field", EXTRA),
        ("surrogate", SURROGATES),
        ("huge number", HUGE),
        ("null for an optional field", NULLS),
        ("too deep", {"state": {"state": TOO_DEEP}}),
        ("invalid", INVALID),
    ):
        for name, fields in group.items():
            yield f"{about}: {name}", with_fields(fields)
    for name in WITHOUT:
        yield f"invalid: no {name}", without(name)
    for name in ABSENT:
        yield f"valid: no {name}", without(name)


def _agent_step(random: Random, about: str, body: Any) -> Step:
    """A run with ``body``, by path, or in an envelope as an object or as text.

    Only a run says how it was understood; to refuse a body is the business of others as well.
    """
    operation = "run" if not about.startswith("invalid") else random.choice(OPERATIONS)
    if random.random() < 0.75:
        configuration = random.choice(("plain", "cors", "anywhere"))
        target = f"{BASE}/agent/default/{operation}"
        return Step(about, configuration, "POST", target, (JSON_TYPE,), encode(body))
    envelope = {
        "method": f"agent/{operation}",
        "params": {"agentId": "default"},
        "body": body if random.random() < 0.5 else json.dumps(body),
    }
    return Step(about, "single", "POST", BASE, (JSON_TYPE,), encode(envelope))
