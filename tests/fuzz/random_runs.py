"""Runs of events of every kind at random: in order, with few ids, so that they meet again."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random
from typing import Any

from sansio_copilot.events import ChunkExpander, EventError, ThinkingUpgrader, Verifier

Event = dict[str, Any]
_MESSAGES = ("m1", "m2", "m3", "m1", "m2", "m3", "question 0", "a1", "z1", "c1", "r1", "")
_CALLS = ("c1", "c2", "c1", "c2", "c1", "c2", "m1", "")
_THOUGHTS = ("z1", "z2", "z1", "z2", "z1", "z2", "m1", "a1")
_ACTIVITIES = ("a1", "a2", "a1", "a2", "a1", "a2", "m1", "z1", "r1")
_RESULTS = ("r1", "r2", "r3", "m1", "c1-result")
_DELTAS = ("a", "b ", "", "\N{ROCKET}", "{", "\u2028")
_STATES: tuple[Any, ...] = (
    *(None, False, 0, "", 1, "x", [], {}, [1], {"a": {"b": [1, 2]}}, {"list": []}),
    {"a": 1, "list": [{"k": 1}]},
)
_PATHS = ("", "/a", "/a/b", "/list", "/list/-", "/list/0", "/list/0/k", "/no/such", "/x~1y", "/")
_SAID: dict[str, dict[str, tuple[Any, ...]]] = {
    "TEXT_MESSAGE_START": {
        "messageId": _MESSAGES,
        "role": ("assistant", "assistant", "user", "system"),
    },
    "TEXT_MESSAGE_CONTENT": {"messageId": _MESSAGES, "delta": _DELTAS},
    "TEXT_MESSAGE_END": {"messageId": _MESSAGES},
    "TEXT_MESSAGE_CHUNK": {"messageId": (*_MESSAGES, None, None), "delta": _DELTAS},
    "TOOL_CALL_START": {
        "toolCallId": _CALLS,
        "toolCallName": ("f", "g"),
        "parentMessageId": (*_MESSAGES, *[None] * 9),
    },
    "TOOL_CALL_ARGS": {"toolCallId": _CALLS, "delta": _DELTAS},
    "TOOL_CALL_END": {"toolCallId": _CALLS},
    "TOOL_CALL_CHUNK": {
        "toolCallId": (*_CALLS, None),
        "toolCallName": ("f", "g", None),
        "delta": _DELTAS,
    },
    "TOOL_CALL_RESULT": {"messageId": _RESULTS, "toolCallId": _CALLS, "content": _DELTAS},
    "REASONING_START": {"messageId": _THOUGHTS},
    "REASONING_MESSAGE_START": {"messageId": _THOUGHTS, "role": ("reasoning",)},
    "REASONING_MESSAGE_CONTENT": {"messageId": _THOUGHTS, "delta": _DELTAS},
    "REASONING_MESSAGE_END": {"messageId": _THOUGHTS},
    "REASONING_END": {"messageId": _THOUGHTS},
    "REASONING_MESSAGE_CHUNK": {"messageId": (*_THOUGHTS, None), "delta": _DELTAS},
    "REASONING_ENCRYPTED_VALUE": {
        "subtype": ("message", "tool-call"),
        "entityId": (*_MESSAGES, *_CALLS, *_THOUGHTS),
        "encryptedValue": ("e1", "e2"),
    },
    "ACTIVITY_SNAPSHOT": {
        "messageId": _ACTIVITIES,
        "activityType": ("x", "y"),
        "content": ({}, {"list": []}, {"a": 1}),
        "replace": (True, False, None, None),
    },
    "ACTIVITY_DELTA": {"messageId": _ACTIVITIES, "activityType": ("x", "y")},
    "STATE_SNAPSHOT": {"snapshot": _STATES},
    "STATE_DELTA": {},
    "MESSAGES_SNAPSHOT": {},
    "STEP_STARTED": {"stepName": ("s", "t")},
    "STEP_FINISHED": {"stepName": ("s", "t")},
    "SUBAGENT_STARTED": {
        "subagentRunId": ("s1", "s2"),
        "name": ("n",),
        "parentSubagentRunId": (None, None, None, "s1", "s2"),
    },
    "SUBAGENT_FINISHED": {"subagentRunId": ("s1", "s2")},
    "SUBAGENT_ERROR": {"subagentRunId": ("s1", "s2"), "message": ("gave up",)},
    "CUSTOM": {"name": ("n",), "value": _STATES},
    "THINKING_START": {},
    "THINKING_TEXT_MESSAGE_START": {},
    "THINKING_TEXT_MESSAGE_CONTENT": {"delta": ("x",)},
    "THINKING_TEXT_MESSAGE_END": {},
    "THINKING_END": {},
    "RUN_STARTED": {"threadId": ("t",), "runId": ("r", "other")},
    "RUN_FINISHED": {
        "threadId": ("t",),
        "runId": ("r",),
        "outcome": (
            *(None, None, None, {"type": "success"}),
            {"type": "interrupt", "interrupts": [{"id": "i", "reason": "confirm"}]},
        ),
    },
    "RUN_ERROR": {"message": ("no",)},
}
_RARE = {"THINKING": 0.2, "RUN": 0.3, "STEP": 0.4, "SUBAGENT": 0.5}
_TYPES = list(_SAID)
_WEIGHTS = [_RARE.get(type_.partition("_")[0], 1.0) for type_ in _TYPES]
STARTED: Event = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED: Event = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


def random_runs(random: Random) -> bytes:
    """Make some runs in the form that the target of conversations takes, one event a line."""
    lines = list[Any]()
    for _ in range(random.randint(1, 4)):
        events = [STARTED, *(_event(random) for _ in range(random.randint(0, 60)))]
        # A run ends at the first event that is out of order, so that most runs have none.
        lines += events if random.random() < 0.1 else _in_order(events)
        lines += random.choice(([FINISHED], [FINISHED], [FINISHED], [], ["it died"], [True]))
        lines.append(None)
    return "\n".join(map(json.dumps, lines[:-1])).encode()


def _in_order(events: list[Event]) -> list[Event]:
    """Return the events that may follow those before them."""
    accepted = list[Event]()
    for event in events:
        with suppress(EventError):
            _verify([*accepted, event])
            accepted.append(event)
    return accepted


def _verify(events: list[Event]) -> None:
    expander, upgrader, verifier = ChunkExpander(), ThinkingUpgrader("k"), Verifier()
    for event in events:
        for one in expander.feed(event):
            verifier.feed(upgrader.feed(one))


def _event(random: Random) -> Event:
    type_ = random.choices(_TYPES, _WEIGHTS)[0]
    event: Event = {"type": type_}
    for name, values in _SAID[type_].items():
        if (value := random.choice(values)) is not None or values is _STATES:
            event[name] = value
    if type_.endswith("_DELTA"):
        patch = [_operation(random) for _ in range(random.choice((0, 1, 1, 1, 2, 3)))]
        event["delta" if type_ == "STATE_DELTA" else "patch"] = patch
    elif type_ == "MESSAGES_SNAPSHOT":
        event["messages"] = [_message(random) for _ in range(random.randint(0, 4))]
    if random.random() < 0.08:
        event["metadata"] = {random.choice("kl"): random.choice((0, 1, {"n": 1}))}
    if random.random() < 0.06 and not type_.startswith(("RUN", "SUBAGENT", "MESSAGES")):
        event["subagentRunId"] = random.choice(("s1", "s2"))
    return event


def _operation(random: Random) -> Event:
    op = random.choice(("add", "add", "add", "replace", "remove", "copy", "move", "test"))
    operation: Event = {"op": op, "path": random.choice(_PATHS)}
    if op in ("add", "replace", "test"):
        operation["value"] = random.choice(_STATES)
    elif op != "remove":
        operation["from"] = random.choice(_PATHS)
    return operation


def _message(random: Random) -> Event:
    message_id, call = random.choice(_MESSAGES), random.choice(_CALLS)
    function = {"name": "f", "arguments": random.choice(("", "{", "{}"))}
    messages: tuple[Event, ...] = (
        {"id": "question 0", "role": "user", "content": random.choice(("?", "edited"))},
        {"id": message_id, "role": "assistant", "content": random.choice(_DELTAS)},
        {
            "id": message_id,
            "role": "assistant",
            "toolCalls": [{"id": call, "type": "function", "function": function}],
        },
        {"id": random.choice(_RESULTS), "role": "tool", "toolCallId": call, "content": "done"},
        {"id": random.choice(_THOUGHTS), "role": "reasoning", "content": "hm"},
        {"id": random.choice(_ACTIVITIES), "role": "activity", "activityType": "x", "content": {}},
        {"id": "m3", "role": random.choice(("system", "developer", "user")), "content": "be"},
    )
    return random.choice(messages)
