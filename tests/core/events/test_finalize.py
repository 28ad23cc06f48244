"""The finalizer ends a run that did not end."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.events import Finalizer, finalize_events, verify_events

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "finalize.json").read_text())["cases"]

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}


def tool_start(call_id: Any) -> Any:
    return {"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": "f"}


@pytest.mark.untraced
@pytest.mark.parametrize("case", CASES)
def test_the_finalizer_appends_what_the_reference_appends(case: Any) -> None:
    given_events = copy.deepcopy(case["events"])
    appended = finalize_events(
        case["events"],
        stop_requested=case["stop_requested"],
        interruption_message=case["interruption_message"],
    )
    assert appended == case["expect"]
    assert [list(event) for event in appended] == [list(event) for event in case["expect"]]
    assert case["events"] == given_events


def test_a_run_that_ended_gets_nothing_more() -> None:
    for terminal in ({"type": "RUN_FINISHED"}, {"type": "RUN_ERROR", "message": "no"}):
        assert finalize_events([STARTED, tool_start("c"), terminal]) == []


def test_events_behind_the_terminal_event_do_not_count() -> None:
    finalizer = Finalizer()
    finalizer.observe({"type": "RUN_FINISHED"})
    finalizer.observe(tool_start("c"))
    assert finalizer.finalize() == []


def test_the_finalizer_is_terminal_from_the_end_on() -> None:
    finalizer = Finalizer()
    assert not finalizer.terminal
    finalizer.observe(STARTED)
    assert not finalizer.terminal
    assert finalizer.finalize() != []
    assert finalizer.terminal
    assert finalizer.finalize() == []


def test_a_tool_call_is_closed_only_once_it_has_both_end_and_result() -> None:
    end = {"type": "TOOL_CALL_END", "toolCallId": "c"}
    result = {"type": "TOOL_CALL_RESULT", "toolCallId": "c", "messageId": "m", "content": ""}

    def types(*events: Any) -> Any:
        return [event["type"] for event in finalize_events([tool_start("c"), *events])]

    assert types() == ["TOOL_CALL_END", "TOOL_CALL_RESULT", "RUN_ERROR"]
    assert types(end) == ["TOOL_CALL_RESULT", "RUN_ERROR"]
    assert types(result) == ["TOOL_CALL_END", "RUN_ERROR"]
    assert types(end, result) == types(result, end) == ["RUN_ERROR"]


def test_events_without_an_id_or_an_open_entity_are_passed_over() -> None:
    assert finalize_events(
        [
            {"type": "TEXT_MESSAGE_START", "messageId": ""},
            {"type": "TEXT_MESSAGE_END", "messageId": "never"},
            tool_start(""),
            {"type": "TOOL_CALL_END", "toolCallId": "never"},
        ],
        stop_requested=True,
    ) == [{"type": "RUN_FINISHED"}]


def test_a_stop_says_so_in_the_tool_result() -> None:
    _, result, terminal = finalize_events([tool_start("c")], stop_requested=True)
    assert result["content"] == (
        '{"status":"stopped","reason":"stop_requested","message":"Run stopped by user"}'
    )
    assert terminal == {"type": "RUN_FINISHED"}


def test_the_default_stop_message_is_no_reason_for_an_error() -> None:
    (error,) = finalize_events([], interruption_message="Run stopped by user")
    assert error["message"] == "Run ended without emitting a terminal event"


def test_the_result_is_written_as_javascript_writes_json() -> None:
    _, result, _ = finalize_events([tool_start("c")], interruption_message='é"\u2028\n\x01\ud800')
    assert result["content"] == (
        '{"status":"error","reason":"missing_terminal_event",'
        '"message":"é\\"\u2028\\n\\u0001\\ud800"}'
    )


@given(st.sets(st.text("abc", min_size=1)), st.sets(st.text("abc", min_size=1)), st.booleans())
def test_a_finalized_run_is_well_formed(messages: Any, calls: Any, stop: Any) -> None:
    events = [
        STARTED,
        *({"type": "TEXT_MESSAGE_START", "messageId": message} for message in messages),
        *(tool_start(call) for call in calls),
    ]
    appended = finalize_events(events, stop_requested=stop)
    verify_events(events + appended)
    assert finalize_events(events + appended) == []
