"""RunRecorder: events in, frames and a result out."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    RunErrorEvent,
    RunFinishedEvent,
    RunStartedEvent,
    StateSnapshotEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)
from hypothesis import given
from hypothesis import strategies as st
from support.events import nested

from sansio_copilot import Limits, json_codec
from sansio_copilot.events import Verifier
from sansio_copilot.runs import delta_shortcut, recorder
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.sse import NUMBERED_FRAME, Parser, frame_data
from sansio_copilot.stores.protocol import Orphan, RunKey

KEY = RunKey("thread", 3, "run")
INPUT: dict[str, Any] = {
    "threadId": "thread",
    "runId": "run",
    "state": {"n": 1},
    "messages": [
        {"id": "u1", "role": "user", "content": "first"},
        {"id": "u2", "role": "user", "content": "second"},
    ],
}
STARTED = {"type": "RUN_STARTED", "threadId": "thread", "runId": "run"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "thread", "runId": "run"}
FAILED = {"type": "RUN_ERROR", "message": "no"}
TEXT = [
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hel"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "lo"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
]
TOOL = [
    {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{}"},
    {"type": "TOOL_CALL_END", "toolCallId": "c"},
]


def started(input: dict[str, Any] | None = INPUT, known: tuple[str, ...] = ()) -> RunRecorder:
    recorder = RunRecorder(KEY, input, known)
    recorder.record(STARTED, 0.0)
    return recorder


def record_all(recorder: RunRecorder, events: list[Any], now: float = 1.0) -> bytes:
    return b"".join(recorder.record(event, now) for event in events)


def events_of(frames: bytes) -> list[dict[str, Any]]:
    return [json_codec.decode(event.data.encode()) for event in Parser().feed(frames)]


def ids_of(frames: bytes) -> list[str]:
    return [event.id for event in Parser().feed(frames)]


def types_of(frames: bytes) -> list[str]:
    return [event["type"] for event in events_of(frames)]


def verify(frames: bytes) -> None:
    verifier = Verifier()
    for event in events_of(frames):
        verifier.feed(event)


class TestFrames:
    def test_each_frame_has_the_run_and_its_position_for_an_id(self) -> None:
        frames = record_all(RunRecorder(KEY, INPUT), [STARTED, *TEXT, FINISHED])
        assert ids_of(frames) == [f"{KEY.token}.{position}" for position in range(6)]

    def test_frames_are_compact_json_on_one_line(self) -> None:
        frame = started().record({"type": "CUSTOM", "name": "n", "value": {"a": [1, "é"]}}, 0.0)
        data = '{"type":"CUSTOM","name":"n","value":{"a":[1,"é"]}}'
        assert frame == f"id: {KEY.token}.1\ndata: {data}\n\n".encode()

    def test_a_run_that_stores_nothing_has_no_ids_and_no_input(self) -> None:
        frames = record_all(RunRecorder(KEY, None), [STARTED, FINISHED])
        assert ids_of(frames) == ["", ""]
        assert events_of(frames) == [STARTED, FINISHED]

    def test_each_event_is_encoded_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encoded: list[Any] = []

        def encode(value: Any) -> bytes:
            encoded.append(value)
            return json_codec.encode(value)

        counted = staticmethod(encode)
        counting = type("Json", (), {"encode": counted, "encode_usual": counted})
        run = started()
        monkeypatch.setattr(recorder, "json_codec", counting)
        monkeypatch.setattr(delta_shortcut, "json_codec", counting)
        record_all(run, TEXT)
        # The delta of a message is encoded alone, behind the beginning that all of them share.
        beginning = {**TEXT[1], "delta": ""}
        assert encoded == [*TEXT[:2], beginning, TEXT[2]["delta"], *TEXT[3:]]

    def test_a_chunk_becomes_the_events_that_it_stands_for(self) -> None:
        run = started()
        chunk = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "Hi"}
        first, second = run.record(chunk, 0.0), run.record(FINISHED, 0.0)
        assert types_of(first) == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
        assert types_of(second) == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert ids_of(first + second) == [f"{KEY.token}.{position}" for position in (1, 2, 3, 4)]

    @pytest.mark.parametrize(
        "text",
        [
            "a\nb\r\nc\rd",
            "\n\n",
            "\u2028\u2029\x85\x0b",
            "\0",
            "id: 1\ndata: x\n\n",
            "\ufeff",
            "é😀",
        ],
    )
    def test_no_text_breaks_frames(self, text: str) -> None:
        run = started()
        record_all(run, TEXT[:1])
        frame = run.record({**TEXT[1], "delta": text}, 0.0)
        assert frame.count(b"\n") == 3
        [event] = events_of(frame)
        assert event["delta"] == text

    def test_thinking_becomes_reasoning_whose_ids_are_those_of_no_other_run(self) -> None:
        thought = [
            {"type": "THINKING_START"},
            {"type": "THINKING_TEXT_MESSAGE_START"},
            {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "hm"},
            {"type": "THINKING_TEXT_MESSAGE_END"},
            {"type": "THINKING_END"},
        ]
        run = started()
        once = events_of(record_all(run, [*thought, FINISHED]))
        again = events_of(record_all(run, [STARTED, *thought, FINISHED]))
        assert [event["type"] for event in once] == [
            "REASONING_START",
            "REASONING_MESSAGE_START",
            "REASONING_MESSAGE_CONTENT",
            "REASONING_MESSAGE_END",
            "REASONING_END",
            "RUN_FINISHED",
        ]
        ids = {event["messageId"] for event in once + again if "messageId" in event}
        assert ids == {f"{KEY.token}-reasoning-{number}" for number in range(1, 5)}

    def test_chunks_end_at_thinking_that_has_no_place_too(self) -> None:
        run = started()
        run.record({"type": "REASONING_MESSAGE_CHUNK", "messageId": "m", "delta": "hm"}, 0.0)
        assert types_of(run.record({"type": "THINKING_END"}, 0.0)) == ["REASONING_MESSAGE_END"]
        assert run.error is not None
        assert "No active thinking step found" in run.error

    @pytest.mark.parametrize("before", [[], [STARTED, FINISHED]])
    def test_thinking_outside_of_a_run_is_refused(self, before: list[Any]) -> None:
        run = RunRecorder(KEY, INPUT)
        record_all(run, before)
        assert run.record({"type": "THINKING_START"}, 1.0) == b""
        assert run.error is not None
        assert "RUN_STARTED" in run.error

    def test_a_lone_surrogate_goes_out_as_its_escape(self) -> None:
        run = started()
        record_all(run, TEXT[:1])
        frame = run.record({**TEXT[1], "delta": "a\ud800b\n"}, 0.0)
        assert b'"a\\ud800b\\n"' in frame
        run.record(TEXT[3], 0.0)
        run.record(FINISHED, 0.0)
        assert run.result is not None
        assert b'"a\\ud800b\\n"' in run.result.frames

    def test_nan_becomes_null(self) -> None:
        run = started()
        frame = run.record({"type": "STATE_SNAPSHOT", "snapshot": {"x": float("nan")}}, 0.0)
        assert b'{"x":null}' in frame
        run.record(FINISHED, 0.0)
        assert run.result is not None
        assert run.result.state == b'{"x":null}'

    def test_a_delta_of_100_megabytes_is_a_delta(self) -> None:
        run = started()
        run.record(TEXT[0], 0.0)
        frame = run.record({**TEXT[1], "delta": "x" * 100_000_000}, 0.0)
        assert len(frame) > 100_000_000
        assert run.error is None


class TestInput:
    def test_run_started_carries_the_input_to_those_who_did_not_send_it(self) -> None:
        [event] = events_of(RunRecorder(KEY, INPUT).record(STARTED, 0.0))
        assert event == {**STARTED, "input": INPUT}

    def test_run_started_does_not_carry_messages_that_a_replay_has_anyway(self) -> None:
        [event] = events_of(RunRecorder(KEY, INPUT, {"u1", "x"}).record(STARTED, 0.0))
        assert event["input"] == {**INPUT, "messages": INPUT["messages"][1:]}
        assert len(INPUT["messages"]) == 2

    def test_an_input_that_the_agent_gave_is_kept(self) -> None:
        own = {**INPUT, "tools": [], "context": [], "messages": INPUT["messages"][1:]}
        given = {**STARTED, "input": own}
        assert events_of(RunRecorder(KEY, INPUT, {"u1"}).record(given, 0.0)) == [given]

    def test_a_null_in_the_place_of_the_input_is_no_input(self) -> None:
        [event] = events_of(RunRecorder(KEY, INPUT).record({**STARTED, "input": None}, 0.0))
        assert event["input"] == INPUT

    def test_every_run_of_the_stream_carries_the_input(self) -> None:
        frames = record_all(RunRecorder(KEY, INPUT), [STARTED, FINISHED, STARTED])
        assert [event.get("input") for event in events_of(frames)] == [INPUT, None, INPUT]

    @pytest.mark.parametrize(
        "given",
        [
            "text",
            5,
            [1],
            {"messages": 5},
            {"messages": "abc"},
            {"messages": [1, None, {}, {"id": 1}, {"id": []}]},
        ],
    )
    def test_another_input_is_refused_and_adopted_from_a_store_that_has_it(
        self, given: Any
    ) -> None:
        started = {**STARTED, "input": given}
        run = RunRecorder(KEY, INPUT)
        assert run.record(started, 0.0) == b""
        assert run.error is not None
        assert run.error.startswith("RUN_STARTED needs 'input")
        frames = b"".join(
            b"data: %s\n\n" % json_codec.encode(event) for event in (started, FINISHED)
        )
        _, adopted = RunRecorder.adopt(Orphan(KEY, "default", frames)).finish(1.0)
        assert adopted is not None
        assert adopted.message_ids == frozenset()


class TestWrongEvents:
    def test_a_tag_that_disagrees_with_the_message_in_the_input_is_an_error(self) -> None:
        tagged = {**TEXT[0], "messageId": "u1", "role": "user", "subagentRunId": "s"}
        recorder = started()
        assert recorder.record(tagged, 1.0) == b""
        assert recorder.error is not None
        assert "does not match the message 'u1' opener's subagent" in recorder.error
        # A reader who has the message already is not told it again, and takes the tag.
        known = started(known=("u1",))
        assert types_of(known.record(tagged, 1.0)) == ["TEXT_MESSAGE_START"]

    def test_an_unknown_type_is_dropped_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        run = started()
        with caplog.at_level(logging.WARNING, "sansio_copilot"):
            assert run.record({"type": "FROM_THE_FUTURE"}, 0.0) == b""
        assert caplog.messages == [
            "agent None: events of unknown type 'FROM_THE_FUTURE' are dropped"
        ]
        assert run.error is None
        assert ids_of(run.record(FINISHED, 0.0)) == [f"{KEY.token}.1"]

    @pytest.mark.parametrize(
        ("event", "error"),
        [
            (None, "yielded NoneType"),
            ("text", "yielded str"),
            (b"data", "yielded bytes"),
            (7, "yielded int"),
            ([], "yielded list"),
            (object(), "yielded object"),
            ({}, "'type'"),
            ({"type": None}, "'type'"),
            ({"type": 5}, "'type'"),
            ({"type": ["CUSTOM"]}, "'type'"),
            ({"type": "CUSTOM"}, "'name'"),
            ({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m"}, "'delta'"),
            ({"type": "TEXT_MESSAGE_START", "messageId": 1}, "'messageId'"),
            ({"type": "CUSTOM", "name": "n", "value": object()}, "object has no form in JSON"),
            ({"type": "CUSTOM", "name": "n", "value": {(): 1}}, "event that is not JSON"),
            (TEXT[1], "No active text message found with ID 'm'"),
            (STARTED, "while a run is still active"),
            (CustomEvent(name="n", value=object()), "object"),
        ],
    )
    def test_an_event_that_breaks_a_rule_ends_the_run(self, event: object, error: str) -> None:
        run = started()
        assert run.record(event, 0.0) == b""
        assert run.error is not None
        assert error in run.error
        closing, result = run.finish(1.0, error=run.error)
        assert events_of(closing) == [
            {"type": "RUN_ERROR", "message": run.error, "code": "INCOMPLETE_STREAM"}
        ]
        assert result is not None

    @pytest.mark.parametrize("model", [False, True])
    def test_an_event_cannot_contain_itself(self, model: bool) -> None:
        value: list[Any] = []
        value.append(value)
        run = started()
        plain = {"type": "CUSTOM", "name": "n", "value": value}
        assert run.record(CustomEvent(name="n", value=value) if model else plain, 0.0) == b""
        assert run.error is not None

    def test_an_event_cannot_be_nested_without_end(self) -> None:
        value: dict[str, Any] = {}
        for _ in range(600):
            value = {"a": value}
        run = started()
        run.record({"type": "STATE_SNAPSHOT", "snapshot": value}, 0.0)
        closing, result = run.finish(1.0, error=run.error)
        assert types_of(closing) == ["RUN_ERROR"]
        assert result is not None

    def test_the_first_event_must_start_the_run(self) -> None:
        run = RunRecorder(KEY, INPUT)
        assert run.record(TEXT[0], 0.0) == b""
        assert run.error == "First event must be 'RUN_STARTED'"

    def test_events_before_a_wrong_one_are_kept(self) -> None:
        run = started()
        run.record({"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "Hi"}, 0.0)
        frames = run.record(STARTED, 0.0)
        assert types_of(frames) == ["TEXT_MESSAGE_END"]
        assert run.error is not None
        assert "'RUN_STARTED' while a run is still active" in run.error

    def test_a_mapping_will_do_for_an_event(self) -> None:
        class Event(dict[str, Any]):
            pass

        assert RunRecorder(KEY, None).record(Event(STARTED), 0.0) == RunRecorder(KEY, None).record(
            STARTED, 0.0
        )


class TestModels:
    def test_models_are_recorded_like_the_dicts_that_they_stand_for(self) -> None:
        models: list[BaseEvent] = [
            RunStartedEvent(thread_id="thread", run_id="run"),
            TextMessageStartEvent(message_id="m", role="assistant"),
            TextMessageContentEvent(message_id="m", delta="Hel"),
            TextMessageContentEvent(message_id="m", delta="lo"),
            TextMessageEndEvent(message_id="m"),
            ToolCallStartEvent(tool_call_id="c", tool_call_name="f"),
            ToolCallArgsEvent(tool_call_id="c", delta="{}"),
            ToolCallEndEvent(tool_call_id="c"),
            ToolCallResultEvent(tool_call_id="c", message_id="c-r", content="ok"),
            StateSnapshotEvent(snapshot={"a": [1]}),
            StepStartedEvent(step_name="s"),
            RunErrorEvent(message="no"),
            RunStartedEvent(thread_id="thread", run_id="run"),
            RunFinishedEvent(thread_id="thread", run_id="run"),
        ]
        result = {"type": "TOOL_CALL_RESULT", "messageId": "c-r", "toolCallId": "c"}
        dicts: list[dict[str, Any]] = [
            STARTED,
            *TEXT,
            *TOOL,
            {**result, "content": "ok"},
            {"type": "STATE_SNAPSHOT", "snapshot": {"a": [1]}},
            {"type": "STEP_STARTED", "stepName": "s"},
            FAILED,
            STARTED,
            FINISHED,
        ]
        of_models, of_dicts = RunRecorder(KEY, INPUT), RunRecorder(KEY, INPUT)
        assert events_of(record_all(of_models, models)) == events_of(record_all(of_dicts, dicts))
        assert of_models.error is None
        assert of_models.result is not None
        assert of_dicts.result is not None
        assert of_models.result.messages == of_dicts.result.messages
        assert of_models.result.state == of_dicts.result.state == b'{"a":[1]}'


class TestResult:
    def test_the_result_is_there_while_the_terminal_event_is_the_last(self) -> None:
        run = started()
        assert run.result is None
        run.record(TEXT[0], 0.0)
        run.record(TEXT[3], 0.0)
        assert run.result is None
        run.record(FINISHED, 5.0)
        assert run.result is not None
        assert run.result.ended_at == 5.0
        assert types_of(run.result.frames) == [
            "RUN_STARTED",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_END",
            "RUN_FINISHED",
        ]

    def test_an_error_ends_a_run_too(self) -> None:
        run = started()
        run.record(FAILED, 5.0)
        assert run.result is not None
        assert events_of(run.result.frames)[-1] == FAILED

    def test_an_error_after_the_end_is_part_of_the_result(self) -> None:
        run = started()
        run.record(FINISHED, 5.0)
        run.record(FAILED, 6.0)
        assert run.result is not None
        assert run.result.ended_at == 6.0
        assert types_of(run.result.frames) == ["RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"]

    def test_a_second_run_in_the_stream_takes_the_result_back(self) -> None:
        run = started()
        run.record(FINISHED, 5.0)
        run.record(STARTED, 6.0)
        assert run.result is None
        run.record(TEXT[0], 6.0)
        closing, result = run.finish(7.0, error="broken")
        assert types_of(closing) == ["TEXT_MESSAGE_END", "RUN_ERROR"]
        assert result is not None
        assert types_of(result.frames) == [
            "RUN_STARTED",
            "RUN_FINISHED",
            "RUN_STARTED",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_END",
            "RUN_ERROR",
        ]

    def test_a_wrong_event_after_the_end_changes_nothing(self) -> None:
        run = started()
        run.record(FINISHED, 5.0)
        result = run.result
        assert run.record(TEXT[0], 6.0) == b""
        assert run.error is not None
        assert run.finish(7.0, error=run.error) == (b"", result)

    def test_frames_are_compacted_and_have_ids_of_their_own(self) -> None:
        run = started()
        record_all(run, [*TEXT, FINISHED])
        assert run.result is not None
        frames = run.result.frames
        assert ids_of(frames) == [f"{KEY.token}.c{index}" for index in range(5)]
        assert events_of(frames)[2]["delta"] == "Hello"

    def test_entities_that_an_error_left_open_are_replayed_before_it(self) -> None:
        run = started()
        step = {"type": "STEP_STARTED", "stepName": "p"}
        frames = record_all(run, [step, *TEXT[:3], *TOOL[:2], FAILED])
        assert types_of(frames)[-1] == "RUN_ERROR"
        assert run.result is not None
        assert types_of(run.result.frames) == [
            *("RUN_STARTED", "STEP_STARTED"),
            *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
            *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"),
            "RUN_ERROR",
        ]
        verify(run.result.frames)

    def test_messages_are_the_conversation_after_the_run(self) -> None:
        run = started(known=("u1", "u2"))
        record_all(run, [*TEXT, FINISHED])
        assert run.result is not None
        assert run.result.messages is not None
        assert json_codec.decode(run.result.messages) == [
            *INPUT["messages"],
            {"id": "m", "role": "assistant", "content": "Hello"},
        ]

    def test_a_thread_keeps_its_messages_if_the_run_has_none(self) -> None:
        run = started({"messages": []})
        run.record(FINISHED, 0.0)
        assert run.result is not None
        assert run.result.messages is None

    def test_message_ids_are_those_that_a_replay_brings(self) -> None:
        run = started(known=("u1",))
        record_all(run, [*TEXT, FINISHED])
        assert run.result is not None
        assert run.result.message_ids == {"u2", "m"}

    @pytest.mark.parametrize(
        ("events", "state"),
        [
            ([], None),
            ([{"type": "STATE_SNAPSHOT", "snapshot": {"a": 1}}], b'{"a":1}'),
            (
                [{"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/m", "value": 2}]}],
                b'{"n":1,"m":2}',
            ),
            ([{"type": "STATE_SNAPSHOT", "snapshot": [1]}], b"null"),
            ([{"type": "STATE_SNAPSHOT", "snapshot": None}], b"null"),
            ([{"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "/nothing"}]}], None),
        ],
    )
    def test_state_is_that_after_the_run(self, events: list[Any], state: bytes | None) -> None:
        run = started()
        record_all(run, [*events, FINISHED])
        assert run.result is not None
        assert run.result.state == state

    def test_the_result_is_as_it_was_sent_whatever_the_agent_does_to_its_events(self) -> None:
        messages = [{"id": "s", "role": "user", "content": "as sent"}]
        value: list[Any] = ["as sent"]
        text = {**TEXT[1], "delta": "as sent", "metadata": {"a": "as sent"}}
        events: list[dict[str, Any]] = [
            {"type": "MESSAGES_SNAPSHOT", "messages": messages},
            {"type": "CUSTOM", "name": "n", "value": value},
            TEXT[0],
            text,
            TEXT[3],
        ]
        expected = copy.deepcopy(events)
        run = started()
        record_all(run, events)
        messages[0]["content"] = "changed"
        text["metadata"]["a"] = "changed"  # type: ignore[index]
        value.append(value)
        run.record(FINISHED, 0.0)
        assert run.result is not None
        assert events_of(run.result.frames)[1:-1] == expected
        assert b"changed" not in (run.result.messages or b"")


class TestFinish:
    def test_a_run_that_has_ended_needs_nothing_more(self) -> None:
        run = started()
        run.record(FINISHED, 5.0)
        assert run.finish(9.0) == (b"", run.result)
        assert run.result is not None
        assert run.result.ended_at == 5.0

    def test_open_entities_are_closed(self) -> None:
        run = started()
        record_all(run, [*TEXT[:2], *TOOL[:1]])
        frames, result = run.finish(9.0)
        assert types_of(frames) == [
            "TEXT_MESSAGE_END",
            "TOOL_CALL_END",
            "TOOL_CALL_RESULT",
            "RUN_ERROR",
        ]
        assert ids_of(frames) == [f"{KEY.token}.{position}" for position in (4, 5, 6, 7)]
        assert result is not None
        assert result.ended_at == 9.0
        assert types_of(result.frames)[-1] == "RUN_ERROR"

    def test_a_stopped_run_finishes(self) -> None:
        frames, result = started().finish(9.0, is_stopped=True)
        assert events_of(frames) == [FINISHED]
        assert result is not None
        assert types_of(result.frames) == ["RUN_STARTED", "RUN_FINISHED"]

    def test_a_run_stopped_before_its_first_event_finishes(self) -> None:
        frames, result = RunRecorder(KEY, INPUT, {"u1"}).finish(9.0, is_stopped=True)
        given = {**INPUT, "messages": INPUT["messages"][1:]}
        assert events_of(frames) == [{**STARTED, "input": given}, FINISHED]
        assert ids_of(frames) == [f"{KEY.token}.0", f"{KEY.token}.1"]
        assert result is not None
        assert events_of(result.frames) == [{**STARTED, "input": given}, FINISHED]

    def test_a_stopped_run_that_stores_nothing_finishes(self) -> None:
        frames, _ = RunRecorder(KEY, None).finish(9.0, is_stopped=True)
        assert frames == b"".join(
            b"data: %s\n\n" % json_codec.encode(e) for e in (STARTED, FINISHED)
        )

    def test_a_stop_closes_steps_and_subagents_too(self) -> None:
        events = [
            STARTED,
            {"type": "STEP_STARTED", "stepName": "plan"},
            {"type": "SUBAGENT_STARTED", "subagentRunId": "s", "name": "helper"},
            {"type": "STEP_STARTED", "stepName": "act", "subagentRunId": "s"},
        ]
        run = RunRecorder(KEY, None)
        frames = record_all(run, events)
        closing, _ = run.finish(9.0, is_stopped=True)
        verify(frames + closing)
        assert types_of(closing) == [
            "STEP_FINISHED",
            "STEP_FINISHED",
            "SUBAGENT_FINISHED",
            "RUN_FINISHED",
        ]

    @pytest.mark.parametrize(
        "events",
        [
            [STARTED, *TOOL, TOOL[0]],
            [STARTED, {**TEXT[0], "messageId": ""}],
            [STARTED, {**TOOL[0], "toolCallId": ""}],
        ],
    )
    @pytest.mark.parametrize("end", [{"is_stopped": True}, {"error": "died"}])
    def test_entities_that_the_finalizer_does_not_know_are_closed(
        self, events: list[Any], end: dict[str, Any]
    ) -> None:
        run = RunRecorder(KEY, INPUT)
        frames = record_all(run, events)
        assert run.error is None
        closing, result = run.finish(9.0, **end)
        verify(frames + closing)
        assert result is not None
        verify(result.frames)

    def test_a_finish_of_the_agents_own_gets_the_ids(self) -> None:
        run = RunRecorder(KEY, None)
        frames = record_all(run, [STARTED, {"type": "RUN_FINISHED", "result": 1}])
        assert events_of(frames)[-1] == {**FINISHED, "result": 1}

    def test_an_agent_that_raises_before_its_first_event_leaves_nothing(self) -> None:
        run = RunRecorder(KEY, INPUT)
        run.agent_has_raised = True
        frames, result = run.finish(9.0, error="no luck")
        assert events_of(frames) == [
            {"type": "RUN_ERROR", "message": "no luck", "code": "INCOMPLETE_STREAM"}
        ]
        assert result is None

    def test_an_agent_whose_first_event_breaks_a_rule_leaves_nothing(self) -> None:
        run = RunRecorder(KEY, INPUT)
        assert run.record(TEXT[1], 0.0) == b""
        assert run.error is not None
        frames, result = run.finish(9.0, error=run.error)
        assert types_of(frames) == ["RUN_ERROR"]
        assert result is None

    def test_a_run_that_others_end_before_its_first_event_leaves_its_question(self) -> None:
        frames, result = RunRecorder(KEY, INPUT).finish(9.0, error="The server is shutting down")
        assert types_of(frames) == ["RUN_STARTED", "RUN_ERROR"]
        assert events_of(frames)[0]["input"] == INPUT
        assert result is not None
        assert events_of(result.frames) == events_of(frames)

    def test_an_agent_without_events_leaves_that_it_had_none(self) -> None:
        frames, result = RunRecorder(KEY, INPUT).finish(9.0)
        assert types_of(frames) == ["RUN_STARTED", "RUN_ERROR"]
        assert events_of(frames)[0]["input"] == INPUT
        assert result is not None
        assert events_of(result.frames) == events_of(frames)

    def test_the_input_that_an_agent_tells_is_behind_that_of_the_run(self) -> None:
        extra = {"id": "x", "role": "system", "content": "be kind"}
        given = {**INPUT, "tools": [], "context": []}
        told = {**given, "state": {"other": 1}, "messages": [extra, *INPUT["messages"]]}
        run = RunRecorder(KEY, INPUT)
        [event] = events_of(run.record({**STARTED, "input": told}, 0.0))
        assert event["input"] == {**given, "messages": [*INPUT["messages"], extra]}

    def test_the_state_that_an_agent_tells_is_left_out_if_the_run_has_none(self) -> None:
        given = {name: value for name, value in INPUT.items() if name != "state"}
        delta = {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a", "value": 1}]}
        run = RunRecorder(KEY, given)
        frames = run.record({**STARTED, "input": {**given, "state": {"other": 1}}}, 0.0)
        [event] = events_of(frames)
        assert "state" not in event["input"]
        # A process that takes the run over has only the frames to know that.
        orphan = Orphan(KEY, "a", frames + run.record(delta, 0.0), b"[]")
        _, left = RunRecorder.adopt(orphan).finish(1.0)
        _, result = run.finish(1.0)
        assert left == result

    def test_an_error_of_the_agents_that_is_its_first_event_comes_behind_a_start(self) -> None:
        run = RunRecorder(KEY, INPUT)
        frames = run.record({"type": "RUN_ERROR", "message": "no luck"}, 0.0)
        assert types_of(frames) == ["RUN_STARTED", "RUN_ERROR"]
        assert events_of(frames)[0]["input"] == INPUT
        assert (run.error, run.terminal, run.events) == (None, True, 2)
        assert run.result is not None
        assert events_of(run.result.frames) == events_of(frames)

    def test_an_error_is_told_to_the_client(self) -> None:
        run = started()
        record_all(run, TOOL)
        frames, _ = run.finish(9.0, error="no luck")
        result, last = events_of(frames)
        assert json_codec.decode(result["content"].encode())["message"] == "no luck"
        assert last["message"] == "no luck"

    def test_a_second_run_of_the_stream_ends_as_the_first_would(self) -> None:
        run = started()
        record_all(run, [TEXT[0], FAILED, STARTED])
        frames, _ = run.finish(9.0, is_stopped=True)
        assert events_of(frames) == [FINISHED]


class TestAdopt:
    def outcomes(
        self, events: list[Any], **end: Any
    ) -> tuple[tuple[bytes, Any], tuple[bytes, Any]]:
        run = RunRecorder(KEY, INPUT)
        frames = record_all(run, events)
        return RunRecorder.adopt(Orphan(KEY, "default", frames)).finish(9.0, **end), run.finish(
            9.0, **end
        )

    @pytest.mark.parametrize("end", [{}, {"is_stopped": True}, {"error": "died"}])
    @pytest.mark.parametrize("length", range(2, 10))
    def test_an_adopted_run_ends_as_its_owner_would_have_ended_it(
        self, length: int, end: dict[str, Any]
    ) -> None:
        delta = {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/m", "value": 2}]}
        events = [STARTED, delta, *TEXT, *TOOL][:length]
        adopted, own = self.outcomes(events, **end)
        assert adopted == own

    def test_a_run_that_had_ended_needs_only_its_result(self) -> None:
        adopted, own = self.outcomes([STARTED, *TEXT, FINISHED], error="died")
        assert adopted[0] == b""
        assert adopted[1].frames == own[1].frames

    def test_an_adopted_run_without_events_is_a_run_that_has_failed(self) -> None:
        """A follower of several such runs would be sent an error behind an error otherwise."""
        frames, result = RunRecorder.adopt(Orphan(KEY, "default", b"")).finish(9.0, error="died")
        assert types_of(frames) == ["RUN_STARTED", "RUN_ERROR"]
        assert ids_of(frames) == [f"{KEY.token}.0", f"{KEY.token}.1"]
        assert result is not None
        assert types_of(result.frames) == ["RUN_STARTED", "RUN_ERROR"]

    def test_an_adopted_run_stopped_before_its_first_event_is_well_formed(self) -> None:
        # The input died with its owner; half of an input would be worse than none.
        frames, _ = RunRecorder.adopt(Orphan(KEY, "default", b"")).finish(9.0, is_stopped=True)
        assert events_of(frames) == [STARTED, FINISHED]

    def test_an_adopted_run_may_be_the_second_of_its_stream(self) -> None:
        adopted, own = self.outcomes([STARTED, TEXT[0], FAILED, STARTED, TEXT[0]])
        assert adopted == own


def test_an_agent_that_tells_its_input_tells_neither_state_nor_answers_of_the_run() -> None:
    answer = {"interruptId": "i", "status": "resolved"}
    ours = {"threadId": "t", "runId": "r", "messages": [], "tools": []}
    told = {**ours, "state": {"b": 1}, "resume": [{**answer, "interruptId": "j"}], "context": []}
    for own in ({}, {"state": {"a": 1}, "resume": [answer]}):
        run = RunRecorder(KEY, {**ours, **own})
        (started,) = events_of(run.record({**STARTED, "input": told}, 0.0))
        assert started["input"] == {**ours, "context": [], **own}


def test_frame_data_is_the_json_of_each_frame() -> None:
    frames = record_all(RunRecorder(KEY, None), [STARTED, FINISHED])
    assert frame_data(frames) == [json_codec.encode(STARTED), json_codec.encode(FINISHED)]
    assert frame_data(b"") == []


IDS = st.sampled_from(["a", "b"])
# No codec is named, so that the texts have lone surrogates as well.
TEXTS = st.text(st.characters(codec=None), max_size=5)
EVENTS = st.one_of(
    st.just(STARTED),
    st.just(FINISHED),
    st.just(FAILED),
    st.builds(lambda i: {"type": "TEXT_MESSAGE_START", "messageId": i, "role": "user"}, IDS),
    st.builds(
        lambda i, d: {"type": "TEXT_MESSAGE_CONTENT", "messageId": i, "delta": d}, IDS, TEXTS
    ),
    st.builds(lambda i: {"type": "TEXT_MESSAGE_END", "messageId": i}, IDS),
    st.builds(lambda i, d: {"type": "TEXT_MESSAGE_CHUNK", "messageId": i, "delta": d}, IDS, TEXTS),
    st.builds(lambda i: {"type": "TOOL_CALL_START", "toolCallId": i, "toolCallName": "f"}, IDS),
    st.builds(lambda i, d: {"type": "TOOL_CALL_ARGS", "toolCallId": i, "delta": d}, IDS, TEXTS),
    st.builds(lambda i: {"type": "TOOL_CALL_END", "toolCallId": i}, IDS),
    st.builds(
        lambda i: {
            "type": "TOOL_CALL_RESULT",
            "toolCallId": i,
            "messageId": f"{i}-r",
            "content": "ok",
        },
        IDS,
    ),
    st.builds(lambda s: {"type": "STATE_SNAPSHOT", "snapshot": {"s": s}}, TEXTS),
    st.builds(
        lambda s: {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/s", "value": s}]}, TEXTS
    ),
    st.builds(lambda s: {"type": "CUSTOM", "name": "n", "value": s}, TEXTS),
    st.just({"type": "UNKNOWN"}),
    st.just(None),
)


@given(
    st.lists(EVENTS, max_size=12),
    st.sampled_from([{}, {"is_stopped": True}, {"error": "died"}]),
    st.booleans(),
)
def test_every_finished_stream_is_well_formed(
    events: list[Any], end: dict[str, Any], starts: bool
) -> None:
    run = RunRecorder(KEY, INPUT)
    frames = b""
    for event in [STARTED, *events] if starts else events:
        frames += run.record(event, 1.0)
        if run.error is not None:
            end = {"error": run.error}
            break
    closing, result = run.finish(2.0, **end)
    whole = frames + closing
    verify(whole)
    assert types_of(whole)[-1] in ("RUN_FINISHED", "RUN_ERROR")
    assert ids_of(whole) == [f"{KEY.token}.{n}" for n in range(len(events_of(whole)))]
    if result is not None:
        verify(result.frames)
        assert types_of(result.frames)[-1] in ("RUN_FINISHED", "RUN_ERROR")
    if starts:
        adopted, of_adopted = RunRecorder.adopt(Orphan(KEY, "default", frames)).finish(2.0, **end)
        assert adopted == closing
        assert of_adopted is not None
        assert result is not None
        assert (of_adopted.frames, of_adopted.state) == (result.frames, result.state)
        assert (of_adopted.messages, of_adopted.message_ids) == (
            result.messages,
            result.message_ids,
        )


def test_a_delta_that_does_not_apply_is_logged_once_the_run_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delta = [{"op": "remove", "path": "/nothing/there"}]
    run = RunRecorder(KEY, INPUT)
    record_all(run, [STARTED, *[{"type": "STATE_DELTA", "delta": delta}] * 2, FINISHED])
    assert caplog.messages == []
    run.finish(2.0)
    told = f"run {KEY.run_id!r}: state deltas that do not apply, and are kept as they are: 2"
    assert caplog.messages == [told]


def test_a_delta_that_makes_too_much_is_passed_on_and_told_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = RunRecorder(KEY, INPUT, limits=Limits(patch_bytes=1000))
    doubling = [{"op": "copy", "from": "", "path": "/copy"}] * 20
    shown = {"messageId": "a", "activityType": "x"}
    said = [
        STARTED,
        {"type": "ACTIVITY_SNAPSHOT", **shown, "content": {"n": 1}},
        {"type": "ACTIVITY_DELTA", **shown, "patch": doubling},
        {"type": "STATE_DELTA", "delta": doubling},
    ]
    assert types_of(record_all(run, said)) == [event["type"] for event in said]  # type: ignore[index]
    assert caplog.messages == [
        f"run {KEY.run_id!r}: ACTIVITY_DELTA: the delta does not apply: it makes more than a run's "
        "patches may"
    ]
    run.record(FINISHED, 1.0)
    assert run.result is not None
    assert len(run.result.frames) < 3_000
    assert said[2] in events_of(run.result.frames)
    assert said[3] in events_of(run.result.frames)


def test_an_adopted_run_loses_a_delta_of_an_older_release_that_is_too_deep() -> None:
    too_deep = {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a", "value": nested(199)}]}
    frames = b"".join(
        NUMBERED_FRAME % (KEY.token.encode(), position, json_codec.encode(event))
        for position, event in enumerate([STARTED, too_deep])
    )
    end, result = RunRecorder.adopt(Orphan(KEY, "default", frames)).finish(
        1.0, error="The owner died"
    )
    assert [frame_id.rpartition(".")[2] for frame_id in ids_of(end)] == ["2"]
    assert result is not None
    assert types_of(result.frames) == ["RUN_STARTED", "RUN_ERROR"]


def test_a_result_that_cannot_be_written_costs_the_history_and_no_more(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(value: Any) -> bytes:
        if type(value) is list:
            raise ValueError("nested too deeply")
        return json_codec.encode(value)

    of_messages = {"encode": staticmethod(encode), "encode_each": json_codec.encode_each}
    failing = type("Json", (), of_messages)
    run = started()
    monkeypatch.setattr("sansio_copilot.runs.compacted_result.json_codec", failing)
    assert types_of(run.record(FINISHED, 1.0)) == ["RUN_FINISHED"]
    assert run.finish(2.0) == (b"", None)
    assert "leaves no history: nested too deeply" in caplog.text
