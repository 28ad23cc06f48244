"""Scripted agents: what their steps say, and how they begin and end a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from ag_ui.core import EventType, StateSnapshotEvent

from sansio_copilot import CopilotRuntime
from sansio_copilot.testing import (
    Client,
    ClientResponse,
    NeedsEventLoop,
    ScriptedAgent,
    assert_valid_stream,
    call_tool,
    fail,
    interrupt,
    patch_state,
    run_input,
    say,
    set_state,
    think,
    wait,
)


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


def run(agent: Any, **fields: Any) -> ClientResponse:
    return Client(CopilotRuntime({"default": agent})).run(run_input(**fields))


def types(answer: ClientResponse) -> list[str]:
    return [event["type"] for event in answer.events()]


def test_every_step_makes_a_valid_stream() -> None:
    answer = run(
        ScriptedAgent(
            think("Let", " me see"),
            say("Hello", "", " there", message_id="m"),
            call_tool("weather", {"city": "Paris"}),
            call_tool("clock", result="noon"),
            call_tool("list", [1], result=[2]),
            set_state({"n": 1}),
            patch_state({"op": "replace", "path": "/n", "value": 2}),
            {"type": "CUSTOM", "name": "n", "value": 1},
            StateSnapshotEvent(type=EventType.STATE_SNAPSHOT, snapshot={"n": 3}),
            "Bye",
        )
    )
    assert_valid_stream(answer)
    assert answer.text() == "Hello there\nBye"
    assert [call.arguments for call in answer.tool_calls()] == [{"city": "Paris"}, {}, [1]]
    results = [e["content"] for e in answer.events() if e["type"] == "TOOL_CALL_RESULT"]
    assert results == ["noon", "[2]"]
    assert answer.state() == {"n": 3}
    reasons = [e["delta"] for e in answer.events() if e["type"] == "REASONING_MESSAGE_CONTENT"]
    assert reasons == ["Let", " me see"]


def test_the_same_test_gives_the_same_bytes() -> None:
    agent = ScriptedAgent("a", call_tool("b"), interrupt("why"))
    assert run(agent).body == run(agent).body


@pytest.mark.parametrize(
    "script",
    [
        [],
        [[]],
        [{"type": "RUN_STARTED"}],
        [{"type": "RUN_STARTED"}, {"type": "RUN_FINISHED", "result": 1}],
        [{"type": "RUN_FINISHED", "result": 1}],
        [[{"type": "RUN_STARTED", "threadId": "thread-1", "runId": "run-1"}]],
    ],
)
def test_a_script_begins_and_ends_the_run_once(script: list[Any]) -> None:
    answer = run(ScriptedAgent(*script))
    assert types(answer) == ["RUN_STARTED", "RUN_FINISHED"]
    assert_valid_stream(answer)


def test_a_script_that_breaks_the_rules_ends_with_an_error() -> None:
    answer = run(ScriptedAgent({"type": "TEXT_MESSAGE_END", "messageId": "m"}, whole=False))
    assert answer.run_error() == "First event must be 'RUN_STARTED'"


def test_a_step_may_depend_on_the_input() -> None:
    agent = ScriptedAgent(lambda input: [f"You said {input.messages[-1].content}", say("!")])
    assert run(agent, text="hi").text() == "You said hi\n!"
    assert [each.thread_id for each in agent.inputs] == ["thread-1"]


def test_a_script_is_played_only_as_far_as_it_is_read() -> None:
    played: list[int] = []

    def parts() -> Iterator[str]:
        for number in range(3):
            played.append(number)
            yield str(number)

    client = Client(CopilotRuntime({"default": ScriptedAgent(lambda _: parts())}))
    stream = client.begin_run(run_input())
    assert [stream.next()["type"] for _ in range(2)] == ["RUN_STARTED", "TEXT_MESSAGE_START"]
    assert played == [0]


def test_a_thread_may_have_a_script_for_each_run() -> None:
    agent = ScriptedAgent.in_turns(
        call_tool("weather", {"city": "Paris"}),
        lambda input: f"It is {input.messages[-1].content}.",
    )
    client = Client(CopilotRuntime({"default": agent}))
    first = client.run(run_input(run_id="r1", text="Paris?"))
    (call,) = first.tool_calls()
    result = {"id": "result", "role": "tool", "toolCallId": call.id, "content": "sunny"}
    messages = [*first.messages(), result]
    assert client.run(run_input(run_id="r2", messages=messages)).text() == "It is sunny."
    assert len(agent.inputs) == 2
    assert client.run(run_input(run_id="r3")).run_error() == "run 3 of an agent with 2 scripts"


def test_an_interrupt_ends_the_run() -> None:
    answer = run(ScriptedAgent("Sure?", interrupt("approval", message="Delete it?")))
    assert_valid_stream(answer)
    last = answer.events()[-1]
    assert last["outcome"]["interrupts"] == [
        {"id": "run-1-2", "reason": "approval", "message": "Delete it?"}
    ]


@pytest.mark.parametrize("first", [[], ["so far"]])
def test_a_failure_ends_the_run(first: list[Any]) -> None:
    told = run(ScriptedAgent(*first, fail("out of credit", code="CREDIT")))
    assert told.events()[-1] == {
        "type": "RUN_ERROR",
        "message": "out of credit",
        "code": "CREDIT",
    }
    raised = run(ScriptedAgent(*first, fail(ValueError("a bug"))))
    assert raised.run_error() == "a bug"
    assert types(raised)[0] == "RUN_STARTED"
    assert "code" not in run(ScriptedAgent(fail("so"))).events()[-1]


async def at_once() -> None:
    """Wait for nothing."""


def test_a_wait_needs_an_event_loop_only_if_it_waits() -> None:
    answer = run(ScriptedAgent(wait(at_once), "done"))
    assert types(answer)[0] == "RUN_STARTED"
    assert answer.text() == "done"
    import asyncio

    with pytest.raises(NeedsEventLoop):
        run(ScriptedAgent(wait(asyncio.sleep, 1)))


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (wait(lambda: None), "wait takes an async function, and was given a plain one"),  # type: ignore[arg-type, return-value]
        (7, "a script has steps, texts, events and functions, not int"),
    ],
)
def test_a_value_that_is_no_script_ends_with_an_error(script: Any, why: str) -> None:
    assert run(ScriptedAgent(script)).run_error() == why


def test_a_value_that_is_no_event_ends_with_an_error() -> None:
    assert "type" in (run(ScriptedAgent({"name": "x"})).run_error() or "")


def test_a_script_is_an_agent_of_one_argument_too() -> None:
    agent = ScriptedAgent("hi")
    assert hasattr(agent.run(None), "__aiter__")  # type: ignore[arg-type]
    assert agent.inputs == []
