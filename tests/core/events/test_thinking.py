"""The deprecated form of reasoning, which old agents still send."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sansio_copilot.events import EventError, ThinkingUpgrader, verify_events

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
ERROR = {"type": "RUN_ERROR", "message": "no"}


def thinking(what: Any, **fields: Any) -> Any:
    delta = {"delta": "x"} if what.endswith("CONTENT") else {}
    return {"type": f"THINKING_{what}", **delta, **fields}


def test_each_thinking_event_becomes_the_reasoning_event_in_its_place() -> None:
    said = [
        thinking("START", title="so", timestamp=1, subagentRunId=[]),
        thinking("TEXT_MESSAGE_START"),
        thinking("TEXT_MESSAGE_CONTENT", metadata={"a": 1}),
        thinking("TEXT_MESSAGE_END"),
        thinking("TEXT_MESSAGE_START"),
        thinking("TEXT_MESSAGE_END"),
        thinking("END"),
        thinking("START"),
    ]
    before = copy.deepcopy(said)
    upgrader = ThinkingUpgrader("run")
    upgrader.feed(STARTED)
    one, two, three, four = (f"run-reasoning-{number}" for number in range(1, 5))
    assert [upgrader.feed(event) for event in said] == [
        {"type": "REASONING_START", "messageId": one, "timestamp": 1},
        {"type": "REASONING_MESSAGE_START", "messageId": two, "role": "reasoning"},
        {
            "type": "REASONING_MESSAGE_CONTENT",
            "messageId": two,
            "delta": "x",
            "metadata": {"a": 1},
        },
        {"type": "REASONING_MESSAGE_END", "messageId": two},
        {"type": "REASONING_MESSAGE_START", "messageId": three, "role": "reasoning"},
        {"type": "REASONING_MESSAGE_END", "messageId": three},
        {"type": "REASONING_END", "messageId": one},
        {"type": "REASONING_START", "messageId": four},
    ]
    assert said == before


def test_other_events_stay_as_they_are() -> None:
    upgrader = ThinkingUpgrader("run")
    for event in (STARTED, {"type": "RAW", "event": 1}):
        assert upgrader.feed(event) is event


def test_thinking_events_outside_of_a_run_are_refused() -> None:
    with pytest.raises(EventError, match="First event must be 'RUN_STARTED'"):
        verify_events([thinking("END")])
    with pytest.raises(EventError, match="The run has already errored"):
        verify_events([STARTED, thinking("START"), ERROR, thinking("END")])


def test_another_run_begins_anew() -> None:
    assert verify_events([STARTED, thinking("START"), ERROR, STARTED, thinking("START")])
    with pytest.raises(EventError, match="while reasoning spans are still active"):
        verify_events([STARTED, thinking("START"), {**STARTED, "type": "RUN_FINISHED"}])


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            ["START", "START"],
            "A thinking step is already in progress. End it with 'THINKING_END' first.",
        ),
        (
            ["END"],
            "No active thinking step found. A 'THINKING_START' event must be sent first.",
        ),
        (
            ["TEXT_MESSAGE_START"],
            "A thinking step is not in progress. Create one with 'THINKING_START' first.",
        ),
        (
            ["START", "TEXT_MESSAGE_START", "TEXT_MESSAGE_START"],
            (
                "A thinking message is already in progress. Complete it with "
                "'THINKING_TEXT_MESSAGE_END' first."
            ),
        ),
        (
            ["TEXT_MESSAGE_CONTENT"],
            (
                "No active thinking message found. Start a message with "
                "'THINKING_TEXT_MESSAGE_START' first."
            ),
        ),
        (
            ["TEXT_MESSAGE_END"],
            (
                "No active thinking message found. A 'THINKING_TEXT_MESSAGE_START' event must "
                "be sent first."
            ),
        ),
    ],
)
def test_thinking_events_out_of_order_are_refused(names: Any, reason: Any) -> None:
    with pytest.raises(EventError) as caught:
        verify_events([STARTED, *(thinking(name) for name in names)])
    assert str(caught.value) == f"Cannot send 'THINKING_{names[-1]}' event: {reason}"
