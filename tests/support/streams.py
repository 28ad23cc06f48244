"""Streams of events for properties: short, of every kind, and with ids that meet again."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import strategies as st

from sansio_copilot.events import EventError, Verifier

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}

deltas = st.text("ab😀", max_size=2)
metadata: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.builds(
    lambda key, value: {"metadata": {key: value}}, st.sampled_from("kl"), st.integers(0, 3)
)
patches = st.lists(
    st.sampled_from(
        [
            {"op": "add", "path": "/list", "value": []},
            {"op": "add", "path": "/list/-", "value": {"k": 1}},
            {"op": "replace", "path": "/list/0/k", "value": 2},
            {"op": "remove", "path": "/list/0"},
            {"op": "copy", "from": "/list", "path": "/copy"},
            {"op": "move", "from": "/copy", "path": "/moved"},
            {"op": "test", "path": "/list", "value": []},
            {"op": "add", "path": "/no/such/place", "value": 1},
        ]
    ),
    max_size=3,
)


def events_of(type_: Any, **fields: Any) -> Any:
    return st.builds(
        lambda fields, more: {"type": type_, **fields, **more},
        st.fixed_dictionaries(fields),
        metadata,
    )


def ids(*names: Any) -> Any:
    return st.sampled_from(names)


messages, calls, thoughts, plans = ids("m1", "m2"), ids("c1", "c2"), ids("z1"), ids("a1")
snapshots = st.lists(
    st.sampled_from(
        [
            {"id": "m1", "role": "assistant", "content": "so far"},
            {"id": "m2", "role": "user", "content": "asked"},
            {
                "id": "m1",
                "role": "assistant",
                "toolCalls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}
                ],
            },
            {"id": "r1", "role": "tool", "toolCallId": "c1", "content": "done"},
            {"id": "z1", "role": "reasoning", "content": "hm"},
        ]
    ),
    max_size=3,
    unique_by=lambda message: str(message["id"]),  # type: ignore[index]
)
in_between = st.one_of(
    events_of("CUSTOM", name=st.just("n"), value=st.integers(0, 3)),
    events_of("STEP_STARTED", stepName=ids("plan")),
    events_of("STEP_FINISHED", stepName=ids("plan")),
    events_of("STATE_SNAPSHOT", snapshot=st.sampled_from([{"list": [{}]}, None])),
    events_of("STATE_DELTA", delta=patches),
    events_of(
        "ACTIVITY_SNAPSHOT", messageId=plans, activityType=ids("x"), content=st.just({"list": []})
    ),
    events_of("ACTIVITY_DELTA", messageId=plans, activityType=ids("x", "y"), patch=patches),
    events_of("TOOL_CALL_RESULT", messageId=ids("r1", "r2"), toolCallId=calls, content=deltas),
    events_of("REASONING_MESSAGE_START", messageId=thoughts, role=st.just("reasoning")),
    events_of("REASONING_MESSAGE_CONTENT", messageId=thoughts, delta=deltas),
    events_of("REASONING_MESSAGE_END", messageId=thoughts),
    events_of("MESSAGES_SNAPSHOT", messages=snapshots),
    events_of("SUBAGENT_STARTED", subagentRunId=ids("s1", "s2"), name=st.just("s")),
    events_of("SUBAGENT_FINISHED", subagentRunId=ids("s1", "s2")),
    events_of(
        "REASONING_ENCRYPTED_VALUE",
        subtype=ids("message"),
        entityId=ids("m1", "z1"),
        encryptedValue=deltas,
    ),
    events_of(
        "REASONING_ENCRYPTED_VALUE",
        subtype=ids("tool-call"),
        entityId=calls,
        encryptedValue=deltas,
    ),
    events_of(
        "ACTIVITY_SNAPSHOT",
        messageId=ids("m1", "a1", "r1"),
        activityType=ids("x"),
        content=st.just({}),
        replace=st.booleans(),
    ),
    events_of("TOOL_CALL_RESULT", messageId=ids("m1", "r1"), toolCallId=calls, content=deltas),
    st.just({"type": "RUN_ERROR", "message": "no"}),
    st.just({"type": "RUN_FINISHED"}),
    st.just(STARTED),
)
streamed = st.one_of(
    events_of("TEXT_MESSAGE_START", messageId=messages, role=ids("assistant", "user")),
    events_of(
        "TEXT_MESSAGE_START",
        messageId=messages,
        role=ids("assistant"),
        subagentRunId=ids("s1", "s2"),
    ),
    events_of("TEXT_MESSAGE_CONTENT", messageId=messages, delta=deltas),
    events_of("TEXT_MESSAGE_END", messageId=messages),
    events_of("TOOL_CALL_START", toolCallId=calls, toolCallName=ids("f", "g")),
    events_of("TOOL_CALL_START", toolCallId=calls, toolCallName=ids("f"), parentMessageId=messages),
    events_of("TOOL_CALL_ARGS", toolCallId=calls, delta=deltas),
    events_of("TOOL_CALL_END", toolCallId=calls),
)
chunks = st.one_of(
    events_of("TEXT_MESSAGE_CHUNK", messageId=messages, delta=deltas),
    events_of("TEXT_MESSAGE_CHUNK", delta=deltas),
    events_of("TOOL_CALL_CHUNK", toolCallId=calls, toolCallName=ids("f"), delta=deltas),
    events_of("REASONING_MESSAGE_CHUNK", messageId=thoughts, delta=deltas),
)


def accepted(events: Any) -> Any:
    """Return those of ``events`` that the verifier accepts, one after the other, in a run."""
    verifier, out = Verifier(), []
    for event in [STARTED, *events]:
        with contextlib.suppress(EventError):
            verifier.feed(event)
            out.append(event)
    return out


streams = st.lists(streamed | in_between, max_size=40).map(accepted)
