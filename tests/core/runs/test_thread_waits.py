"""A thread waits for the tools and interrupts that the recorder puts in the result of its run."""

from __future__ import annotations

from typing import Any

import pytest

from sansio_copilot import json_codec
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.sse import frame_data
from sansio_copilot.stores.protocol import Orphan, RunKey

KEY = RunKey("thread", 3, "run")
ASKED = {"id": "u", "role": "user", "content": "?"}
STARTED = {"type": "RUN_STARTED", "threadId": "thread", "runId": "run"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "thread", "runId": "run"}
FAILED = {"type": "RUN_ERROR", "message": "no"}
SUSPENDED = {"type": "CUSTOM", "name": "on_interrupt", "value": "?"}


def interrupted(*ids: str) -> dict[str, Any]:
    """The end of a run that waits for answers."""
    interrupts = [{"id": one, "reason": "approval", "message": "May I?"} for one in ids]
    return {**FINISHED, "outcome": {"type": "interrupt", "interrupts": interrupts}}


def call(call_id: str, name: str) -> list[dict[str, Any]]:
    return [
        {"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": name},
        {"type": "TOOL_CALL_END", "toolCallId": call_id},
    ]


def result(call_id: str) -> dict[str, Any]:
    return {
        "type": "TOOL_CALL_RESULT",
        "toolCallId": call_id,
        "messageId": f"{call_id}-result",
        "content": "done",
    }


def made(call_id: str, name: str) -> dict[str, Any]:
    """The message of a call that was made in a run before."""
    function = {"name": name, "arguments": "{}"}
    return {
        "id": f"m-{call_id}",
        "role": "assistant",
        "toolCalls": [{"id": call_id, "type": "function", "function": function}],
    }


def recorder(*tools: str, messages: tuple[dict[str, Any], ...] = (ASKED,)) -> RunRecorder:
    described = [{"name": name, "description": "", "parameters": {}} for name in tools]
    input = {"threadId": "thread", "runId": "run", "messages": [*messages], "tools": described}
    return RunRecorder(KEY, input)


def resuming(before: dict[str, Any] | None, *answered: str) -> RunRecorder:
    """The recorder of a run that answers interrupts of a thread that has waited for ``before``."""
    resume = [{"interruptId": one, "status": "resolved"} for one in answered]
    input = {"threadId": "thread", "runId": "run", "messages": [ASKED], "resume": resume}
    waited = None if before is None else json_codec.encode(before)
    return RunRecorder(KEY, input, waits_for=waited)


def waits(recorder: RunRecorder, *events: dict[str, Any], **end: Any) -> Any:
    """Return what is waited for when a run of these events has ended."""
    for event in (STARTED, *events):
        recorder.record(event, 1.0)
    assert recorder.error is None
    _, result = recorder.finish(2.0, **end)
    assert result is not None
    return None if result.waits_for is None else json_codec.decode(result.waits_for)


def interrupts(*ids: str) -> dict[str, Any]:
    return {"interrupts": [{"id": one, "reason": "approval"} for one in ids], "toolCalls": []}


def calls(**names: str) -> dict[str, Any]:
    return {"interrupts": [], "toolCalls": [{"id": i, "name": n} for i, n in names.items()]}


class TestInterrupts:
    def test_interrupts_of_the_outcome_wait(self) -> None:
        assert waits(recorder(), interrupted("a", "b")) == interrupts("a", "b")

    def test_interrupts_that_langgraph_tells_by_an_event_of_its_own_have_no_id(self) -> None:
        found = waits(recorder(), SUSPENDED, FINISHED)
        assert found == {"interrupts": [{"reason": "on_interrupt"}], "toolCalls": []}

    def test_an_interrupt_that_is_told_in_both_ways_counts_once(self) -> None:
        assert waits(recorder(), SUSPENDED, interrupted("a")) == interrupts("a")

    def test_another_event_of_the_agents_own_is_no_interrupt(self) -> None:
        assert waits(recorder(), {"type": "CUSTOM", "name": "x", "value": 1}, FINISHED) is None

    def test_a_run_that_goes_on_in_the_same_stream_has_been_answered(self) -> None:
        for first in ([interrupted("a")], [SUSPENDED, FINISHED]):
            again = {**STARTED, "runId": "again"}
            end = {**FINISHED, "runId": "again"}
            assert waits(recorder(), *first, again, end) is None

    def test_no_other_end_waits(self) -> None:
        assert waits(recorder(), SUSPENDED, FAILED) is None
        assert waits(recorder(), SUSPENDED) is None
        assert waits(recorder(), SUSPENDED, is_stopped=True) is None
        assert waits(recorder(), SUSPENDED, error="The server ends") is None

    def test_a_stop_behind_the_end_changes_nothing(self) -> None:
        assert waits(recorder(), interrupted("a"), is_stopped=True) == interrupts("a")


def left(**answered: bool) -> dict[str, Any]:
    """The interrupts that a failed run has left."""
    marks = [{"answered": True} if one else {} for one in answered.values()]
    told = interrupts(*answered)["interrupts"]
    return {
        "interrupts": [{**one, **mark} for one, mark in zip(told, marks, strict=True)],
        "toolCalls": [],
    }


class TestFailures:
    """A client goes on to wait for the interrupts of the run before one that has failed."""

    @pytest.mark.parametrize("end", [[FAILED], []], ids=["by its agent", "by the runtime"])
    def test_the_interrupts_that_a_failed_run_was_given_answers_to_are_marked(
        self, end: list[dict[str, Any]]
    ) -> None:
        before = {**calls(c="ask"), "interrupts": interrupts("a", "b")["interrupts"]}
        assert waits(resuming(before, "a"), *end, error="broken") == left(a=True, b=False)
        again = left(a=True, b=False)
        assert waits(resuming(again, "b"), *end, error="broken") == left(a=True, b=True)
        assert waits(resuming(again), *end, error="broken") == again

    def test_of_two_long_ids_that_begin_alike_only_the_answered_one_is_marked(self) -> None:
        long = "x" * 1000
        before = waits(recorder(), interrupted(long, f"{long}!"))
        found = waits(resuming(before, f"{long}!"), FAILED)
        assert [one.get("answered") for one in found["interrupts"]] == [None, True]

    def test_a_run_that_has_ended_well_leaves_its_own_interrupts_only(self) -> None:
        before = interrupts("a", "b")
        assert waits(resuming(before, "a", "b"), FINISHED) is None
        assert waits(resuming(before, "a", "b"), interrupted("c")) == interrupts("c")

    def test_a_stop_leaves_nothing(self) -> None:
        assert waits(resuming(interrupts("a"), "a"), is_stopped=True) is None

    def test_an_agent_that_refuses_its_input_has_answered_nothing(self) -> None:
        run = resuming(interrupts("a"), "a")
        run.record(FAILED, 1.0)
        _, result = run.finish(2.0)
        assert result is not None
        assert result.waits_for == json_codec.encode(interrupts("a"))

    def test_an_agent_that_goes_on_behind_an_error_may_have_acted(self) -> None:
        run = resuming(interrupts("a"), "a")
        run.record(FAILED, 1.0)
        assert waits(run, FAILED) == left(a=True)

    def test_an_interrupt_without_an_id_is_gone(self) -> None:
        before = waits(recorder(), SUSPENDED, FINISHED)
        assert waits(resuming(before), FAILED) is None

    def test_an_error_behind_the_end_leaves_the_interrupts_of_the_end(self) -> None:
        run = resuming(interrupts("a"), "a")
        assert waits(run, interrupted("b"), FAILED) == interrupts("b")

    def test_a_second_run_of_the_stream_that_fails_leaves_those_of_the_first(self) -> None:
        again = {**STARTED, "runId": "again"}
        assert waits(recorder(), interrupted("a"), again, FAILED) == interrupts("a")

    def test_a_run_that_was_lost_may_have_acted_on_its_answers(self) -> None:
        lost = resuming(interrupts("a", "b"), "a")
        frames = lost.record(STARTED, 1.0)
        before = json_codec.encode(interrupts("a", "b"))
        adopted = RunRecorder.adopt(Orphan(KEY, "agent", frames, waits_for=before))
        _, result = adopted.finish(2.0, error="lost")
        assert result is not None
        assert result.waits_for == json_codec.encode(left(a=True, b=False))

    def test_a_run_that_was_lost_before_its_first_event_may_have_had_every_answer(self) -> None:
        before = json_codec.encode(interrupts("a", "b"))
        adopted = RunRecorder.adopt(Orphan(KEY, "agent", b"", waits_for=before))
        _, result = adopted.finish(2.0, error="lost")
        assert result is not None
        assert result.waits_for == json_codec.encode(left(a=True, b=True))


class TestTools:
    def test_a_call_of_the_pages_tool_waits(self) -> None:
        assert waits(recorder("ask"), *call("c", "ask"), FINISHED) == calls(c="ask")

    def test_a_call_beside_an_interrupt_waits_too(self) -> None:
        found = waits(recorder("ask"), *call("c", "ask"), interrupted("a"))
        assert found == {**calls(c="ask"), "interrupts": interrupts("a")["interrupts"]}

    def test_a_call_that_was_answered_or_is_not_the_pages_does_not_wait(self) -> None:
        assert waits(recorder("ask"), *call("c", "ask"), result("c"), FINISHED) is None
        assert waits(recorder("ask"), *call("c", "search"), FINISHED) is None
        assert waits(recorder(), *call("c", "ask"), FINISHED) is None

    def test_only_the_call_without_a_result_waits(self) -> None:
        events = [*call("a", "ask"), *call("b", "search"), *call("c", "ask"), result("a")]
        assert waits(recorder("ask"), *events, result("b"), FINISHED) == calls(c="ask")

    def test_a_call_of_a_run_before_counts_until_it_is_answered(self) -> None:
        before = (ASKED, made("a", "ask"), made("b", "ask"))
        answer = {"id": "r", "role": "tool", "toolCallId": "a", "content": "yes"}
        assert waits(recorder("ask", messages=(*before, answer)), FINISHED) == calls(b="ask")
        other = {**answer, "id": "r2", "toolCallId": "b"}
        assert waits(recorder("ask", messages=(*before, answer, other)), FINISHED) is None

    def test_a_call_counts_until_the_user_has_gone_on_without_it(self) -> None:
        again = {"id": "u2", "role": "user", "content": "never mind"}
        assert waits(recorder("ask", messages=(ASKED, made("a", "ask"), again)), FINISHED) is None

    def test_a_snapshot_may_have_made_the_call(self) -> None:
        snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": [ASKED, made("a", "ask")]}
        assert waits(recorder("ask"), snapshot, FINISHED) == calls(a="ask")

    def test_no_other_end_waits(self) -> None:
        assert waits(recorder("ask"), *call("c", "ask"), FAILED) is None
        assert waits(recorder("ask"), *call("c", "ask"), is_stopped=True) is None

    @pytest.mark.parametrize("tools", [None, "ask", [None, {}, {"name": 1}]])
    def test_an_input_that_names_no_tools_waits_for_none(self, tools: Any) -> None:
        input = {"threadId": "thread", "runId": "run", "messages": [ASKED], "tools": tools}
        assert waits(RunRecorder(KEY, input), *call("c", "ask"), FINISHED) is None

    def test_a_call_without_a_name_in_the_clients_conversation_does_not_wait(self) -> None:
        odd = made("a", "ask")
        odd["toolCalls"][0]["function"]["name"] = None
        assert waits(recorder("ask", messages=(ASKED, odd)), FINISHED) is None


def test_a_run_that_has_lost_its_owner_behind_its_end_waits_as_it_did() -> None:
    lost = recorder("ask")
    frames = b"".join(
        lost.record(event, 1.0) for event in (STARTED, *call("c", "ask"), interrupted("a"))
    )
    assert len(list(frame_data(frames))) == 4
    adopted = RunRecorder.adopt(Orphan(KEY, "agent", frames))
    _, result = adopted.finish(2.0)
    assert result is not None
    assert lost.result is not None
    assert result.waits_for == lost.result.waits_for is not None


def test_the_wait_that_is_told_has_a_bound() -> None:
    many = [event for n in range(100) for event in call(f"{n}" * 1000, "ask")]
    found = waits(recorder("ask"), *many, interrupted(*(f"{n}" * 1000 for n in range(100))))
    assert (len(found["interrupts"]), len(found["toolCalls"])) == (64, 16)
    assert max(len(one["id"]) for kind in found.values() for one in kind) < 200
    legacy = waits(recorder(), *[SUSPENDED] * 100, FINISHED)
    assert len(legacy["interrupts"]) == 64
