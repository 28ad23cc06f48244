"""The shortcut for deltas gives what the long way gives, whatever comes before and after."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from ag_ui.core import (
    CustomEvent,
    RunStartedEvent,
    TextMessageChunkEvent,
    TextMessageContentEvent,
    ToolCallArgsEvent,
)
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.agents.protocols import event_dict
from sansio_copilot.runs.delta_shortcut import Continuation
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.stores.protocol import RunKey, RunResult

KEY = RunKey("thread", 3, "run")
STARTED = {"type": "RUN_STARTED", "threadId": "thread", "runId": "run"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "thread", "runId": "run"}

ids = st.sampled_from(["a", "b"])
deltas = st.sampled_from(["x", "é\n", "\ud800", ""])
extras = st.sampled_from(
    [{}, {}, {}, {"metadata": {"n": 1}}, {"subagentRunId": "s"}, {"name": None}]
)


def dicts(type_: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def merged(fields: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        return {"type": type_, **fields, **extra}

    return st.builds(merged, st.fixed_dictionaries(fields), extras)


events = st.one_of(
    dicts("TEXT_MESSAGE_START", messageId=ids, role=st.just("assistant")),
    dicts("TEXT_MESSAGE_CONTENT", messageId=ids, delta=deltas),
    dicts("TEXT_MESSAGE_CONTENT", delta=deltas, messageId=ids),
    dicts("TEXT_MESSAGE_CONTENT", messageId=ids, delta=st.none()),
    dicts("TEXT_MESSAGE_END", messageId=ids),
    dicts("TEXT_MESSAGE_CHUNK", messageId=ids, delta=deltas),
    dicts("TEXT_MESSAGE_CHUNK", delta=deltas),
    dicts("TOOL_CALL_START", toolCallId=ids, toolCallName=st.just("f")),
    dicts("TOOL_CALL_ARGS", toolCallId=ids, delta=deltas),
    dicts("TOOL_CALL_END", toolCallId=ids),
    dicts("TOOL_CALL_CHUNK", toolCallId=ids, toolCallName=st.just("f")),
    dicts("TOOL_CALL_CHUNK", toolCallId=ids, delta=deltas),
    dicts("TOOL_CALL_CHUNK", delta=deltas),
    dicts("ACTIVITY_SNAPSHOT", messageId=ids, activityType=st.just("t"), content=st.just({})),
    dicts("REASONING_MESSAGE_START", messageId=ids),
    dicts("REASONING_MESSAGE_CONTENT", messageId=ids, delta=deltas),
    st.builds(TextMessageContentEvent, message_id=ids, delta=st.just("m")),
    st.builds(ToolCallArgsEvent, tool_call_id=ids, delta=st.just("m")),
    st.builds(TextMessageChunkEvent, message_id=ids, delta=st.just("m")),
)


def recorded(said: list[Any]) -> tuple[bytes, str | None, RunResult | None]:
    """The frames of a run, why it ended, and what it leaves."""
    recorder = RunRecorder(KEY, {"messages": [{"id": "a", "role": "user", "content": "hi"}]})
    frames = recorder.record(STARTED, 0.0)
    for event in [*said, FINISHED]:
        if recorder.error is None:
            frames += recorder.record(event, 1.0)
    last, result = recorder.finish(2.0, error=recorder.error)
    return frames + last, recorder.error, result


@given(st.lists(events, max_size=12))
def test_a_run_is_the_same_without_the_shortcut(said: list[Any]) -> None:
    with patch.object(Continuation, "of", return_value=None):
        expected = recorded(said)
    assert recorded(said) == expected


@pytest.mark.parametrize("type_", ["TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK"])
def test_the_shortcut_is_taken_for_a_delta(type_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = RunRecorder(KEY, {})
    recorder.record(STARTED, 0.0)
    for event in (
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
        *({"type": type_, "messageId": "m", "delta": delta} for delta in "ab"),
    ):
        recorder.record(event, 0.0)
    monkeypatch.setattr("sansio_copilot.runs.recorder.normalize_event", None)
    frame = recorder.record({"type": type_, "messageId": "m", "delta": "c"}, 0.0)
    assert frame.endswith(b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"c"}\n\n')


class Shouted(TextMessageContentEvent):
    """A model with a way of its own to be dumped."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return {**super().model_dump(**options), "delta": self.delta.upper()}


@pytest.mark.parametrize(
    "event",
    [
        TextMessageContentEvent(message_id="m", delta="x"),
        TextMessageContentEvent(message_id="m", delta="x", timestamp=5, raw_event="r"),
        TextMessageContentEvent(message_id="m", delta="x", raw_event={"a": [1]}),
        TextMessageContentEvent.model_validate(
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x", "more": 1}
        ),
        TextMessageContentEvent.model_construct(message_id="m"),
        CustomEvent(name="n", value=None),
        CustomEvent(name="n", value=1.5),
        RunStartedEvent(thread_id="t", run_id="r"),
        Shouted(message_id="m", delta="x"),
    ],
    ids=repr,
)
def test_a_model_is_dumped_as_it_would_dump_itself(event: Any) -> None:
    assert event_dict(event) == event.model_dump(mode="json", by_alias=True)
