"""Text of an agent that a client has to send back fits in the body of the next run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from ag_ui.core import RunAgentInput
from support.events import nested

from sansio_copilot import CopilotRuntime, Limits
from sansio_copilot.endpoints.run_input import parse_input
from sansio_copilot.events import (
    EventError,
    fold_messages,
    fold_state,
    next_body,
    normalize_event,
)
from sansio_copilot.testing import Client, run_input

RUN = "/api/copilotkit/agent/default/run"
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


@attrs.frozen
class Says:
    """Events of an agent that nest a value.

    :param levels: so many levels of it fit, and one more does not.
    :param events: the events around a value, of which the last is the one to be refused.
    """

    levels: int
    events: Callable[[Any], list[Event]]


def message(**members: Any) -> list[Event]:
    return [{"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m", **members}]}]


def text(**members: Any) -> list[Event]:
    return [{"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant", **members}]


def call(**members: Any) -> list[Event]:
    return [{"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f", **members}]


def reasoning(**members: Any) -> list[Event]:
    start = {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"}
    return [{**start, **members}]


def activity(**members: Any) -> list[Event]:
    return [{"type": "ACTIVITY_SNAPSHOT", "messageId": "m", "activityType": "a", **members}]


def patch_of_activity(operation: Event, **members: Any) -> Event:
    named = {"messageId": "m", "activityType": "a"}
    return {"type": "ACTIVITY_DELTA", **named, "patch": [operation], **members}


def started(*messages: Event) -> list[Event]:
    said = {"threadId": "t", "runId": "r", "messages": list(messages), "tools": [], "context": []}
    return [{"type": "RUN_STARTED", "threadId": "t", "runId": "r", "input": said}]


def part(value: Any) -> Event:
    source = {"type": "url", "value": "https://example.com"}
    return {"type": "image", "source": source, "metadata": value}


def function(value: Any) -> Event:
    called = {"name": "f", "arguments": ""}
    return {"id": "c", "type": "function", "function": called, "metadata": value}


def add(value: Any) -> Event:
    return {"op": "add", "path": "/b", "value": value}


KINDS = {
    "state": Says(199, lambda value: [{"type": "STATE_SNAPSHOT", "snapshot": value}]),
    "a delta of the state": Says(
        198, lambda value: [{"type": "STATE_DELTA", "delta": [add(value)]}]
    ),
    "a message": Says(197, lambda value: message(role="user", content="", metadata=value)),
    "a part": Says(195, lambda value: message(role="user", content=[part(value)])),
    "a call": Says(195, lambda value: message(role="assistant", toolCalls=[function(value)])),
    "an activity": Says(
        197, lambda value: message(role="activity", activityType="a", content=value)
    ),
    "the start of a text": Says(197, lambda value: text(metadata=value)),
    "a piece of a text": Says(
        197,
        lambda value: [
            *text(),
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "a", "metadata": value},
        ],
    ),
    "a chunk of a text": Says(
        197,
        lambda value: [
            {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "a", "metadata": value}
        ],
    ),
    "the start of a call": Says(195, lambda value: call(metadata=value)),
    "a piece of a call": Says(
        195,
        lambda value: [
            *call(),
            {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{", "metadata": value},
        ],
    ),
    "the end of a call": Says(
        195,
        lambda value: [*call(), {"type": "TOOL_CALL_END", "toolCallId": "c", "metadata": value}],
    ),
    "a result": Says(
        197,
        lambda value: [
            {
                "type": "TOOL_CALL_RESULT",
                "messageId": "m",
                "toolCallId": "c",
                "content": "",
                "metadata": value,
            }
        ],
    ),
    "a reasoning": Says(197, lambda value: reasoning(metadata=value)),
    "the content of an activity": Says(197, lambda value: activity(content=value)),
    "the metadata of an activity": Says(197, lambda value: activity(content={}, metadata=value)),
    "a delta of an activity": Says(
        196, lambda value: [*activity(content={}), patch_of_activity(add(value))]
    ),
    "the metadata of a delta": Says(
        197,
        lambda value: [*activity(content={}), patch_of_activity(add(0), metadata=value)],
    ),
    "the input that an agent says": Says(
        197, lambda value: started({"id": "m", "role": "user", "content": "", "metadata": value})
    ),
    "an interrupt of before AG-UI had any": Says(
        197, lambda value: [{"type": "CUSTOM", "name": "on_interrupt", "value": value}]
    ),
}


class Agent:
    """Says events within one run, and nothing in each further one."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def run(self, input: RunAgentInput) -> Iterator[Any]:
        said, self.events = self.events, []
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        if not said or said[0]["type"] != "RUN_STARTED":
            yield {"type": "RUN_STARTED", **ids}
        yield from said
        if said and said[-1]["type"] in ("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"):
            yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
        if said and said[-1]["type"] in ("TOOL_CALL_START", "TOOL_CALL_ARGS"):
            yield {"type": "TOOL_CALL_END", "toolCallId": "c"}
        if said and said[-1]["type"] == "REASONING_MESSAGE_START":
            yield {"type": "REASONING_MESSAGE_END", "messageId": "m"}
        yield {"type": "RUN_FINISHED", **ids}


def next_run(client: Client, events: list[Event]) -> int:
    """The status of a run with what a client has kept of ``events``."""
    props: Any = {}
    for event in events:
        if event["type"] == "CUSTOM":
            props = {"command": {"resume": "yes", "interruptEvent": event["value"]}}
    kept = {"messages": fold_messages(events), "state": fold_state(events) or {}}
    body = {**run_input(thread_id="t", run_id="r2", forwardedProps=props), **kept}
    return client.post(RUN, json=body).status


@pytest.mark.parametrize("kind", KINDS)
class TestKinds:
    def test_the_deepest_value_goes_to_the_client_and_comes_back(self, kind: str) -> None:
        says = KINDS[kind]
        client = Client(CopilotRuntime(agents={"default": Agent(says.events(nested(says.levels)))}))
        answer = client.post(RUN, json=run_input(thread_id="t", run_id="r1"))
        assert answer.run_error() is None
        assert next_run(client, answer.events()) == 200

    def test_a_deeper_value_is_refused_and_the_thread_goes_on(self, kind: str) -> None:
        says = KINDS[kind]
        said = says.events(nested(says.levels + 1))
        client = Client(CopilotRuntime(agents={"default": Agent(said)}))
        answer = client.post(RUN, json=run_input(thread_id="t", run_id="r1"))
        error = answer.run_error()
        assert error is not None
        assert "nested" in error
        replay = client.post(RUN.replace("/run", "/connect"), json=run_input(thread_id="t"))
        for events in (answer.events(), replay.events()):
            assert str(nested(100)) not in str(events)
        # No end of what has not begun may be replayed. A run without a single event of its agent's
        # leaves no history.
        assert replay.run_error() == (None if said[0]["type"] == "RUN_STARTED" else error)
        assert next_run(client, answer.events()) == 200


@pytest.mark.parametrize(
    "event",
    [
        {"type": "CUSTOM", "name": "mine", "value": nested(300)},
        {"type": "STEP_STARTED", "stepName": "s", "metadata": nested(300)},
        {"type": "STATE_SNAPSHOT", "snapshot": {}, "metadata": nested(300)},
        {"type": "STATE_SNAPSHOT", "snapshot": {"a": "[" * 300}},
        {"type": "STATE_SNAPSHOT", "snapshot": {"a": [{}] * 300}},
        {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m", "role": "user", "content": ""}]},
    ],
)
def test_a_value_that_no_client_sends_back_is_nested_as_it_likes(event: Event) -> None:
    if event["type"] == "MESSAGES_SNAPSHOT":
        # A member that the protocol does not have is left out by whoever reads the message.
        event = {**event, "messages": [{**event["messages"][0], "mine": nested(300)}]}
    next_body.check_fits(event, Limits())
    ended = {"type": "STEP_FINISHED", "stepName": "s"}
    said = [event, ended] if event["type"] == "STEP_STARTED" else [event]
    client = Client(CopilotRuntime(agents={"default": Agent(said)}))
    answer = client.post(RUN, json=run_input(thread_id="t", run_id="r1"))
    assert answer.run_error() is None
    assert next_run(client, [one for one in answer.events() if one["type"] != "CUSTOM"]) == 200


def test_a_text_of_few_brackets_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(event: Event, limits: Limits) -> None:
        raise EventError("looked at")

    monkeypatch.setattr("sansio_copilot.runs.recorder.check_fits", look)
    most = next_body.SURE_BRACKETS - 2
    for levels, error in ((most, None), (most + 1, "looked at")):
        said = [{"type": "STATE_SNAPSHOT", "snapshot": nested(levels)}]
        client = Client(CopilotRuntime(agents={"default": Agent(said)}))
        assert client.post(RUN, json=run_input()).run_error() == error


LARGE: dict[str, tuple[Event, Event]] = {
    "values of a state": (
        {"type": "STATE_SNAPSHOT", "snapshot": [0] * 998},
        {"type": "STATE_SNAPSHOT", "snapshot": [0] * 999},
    ),
    "bytes of a state": (
        {"type": "STATE_SNAPSHOT", "snapshot": "x" * (9_000 - len('{"state":""}'))},
        {"type": "STATE_SNAPSHOT", "snapshot": "x" * (9_001 - len('{"state":""}'))},
    ),
    "messages": (
        {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m", "role": "assistant"}] * 200},
        {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m", "role": "assistant"}] * 400},
    ),
    "a delta of the state": (
        {"type": "STATE_DELTA", "delta": [add([0] * 900)]},
        {"type": "STATE_DELTA", "delta": [add([0] * 500), add([0] * 500)]},
    ),
    "a delta of an activity": (
        patch_of_activity(add([0] * 900)),
        patch_of_activity(add([0] * 1000)),
    ),
    "an activity": (
        activity(content={"a": [0] * 900})[0],
        activity(content={"a": [0] * 1000})[0],
    ),
    "a result": (
        {"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "content": "x" * 8_000},
        {"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "content": "x" * 9_000},
    ),
}


@pytest.mark.parametrize("large", LARGE)
def test_a_value_larger_than_a_body_is_refused(large: str) -> None:
    for event, fits in zip(LARGE[large], (True, False), strict=True):
        limits = Limits(body_bytes=9_000, body_values=1_000)
        client = Client(CopilotRuntime(agents={"default": Agent([event])}, limits=limits))
        error = client.post(RUN, json=run_input(thread_id="t", run_id="r1")).run_error()
        told = "has at most 9000 bytes and 1000 JSON values"
        assert (error is None) if fits else (error is not None and error.endswith(told))


def test_a_value_that_is_not_sent_back_may_be_larger_than_a_body() -> None:
    event = {"type": "CUSTOM", "name": "mine", "value": [0] * 5_000}
    # The input, which RUN_STARTED repeats, has been in a body already.
    sent = run_input(thread_id="t", run_id="r1", text="x" * 8_000)
    limits = Limits(body_bytes=9_000, body_values=1_000)
    client = Client(CopilotRuntime(agents={"default": Agent([event])}, limits=limits))
    assert client.post(RUN, json=sent).run_error() is None


MESSAGES: dict[str, Event] = {
    "developer": {"content": "a"},
    "system": {"content": "a"},
    "assistant": {},
    "user": {"content": "a"},
    "tool": {"content": "a", "toolCallId": "c"},
    "activity": {"activityType": "a", "content": {}},
    "reasoning": {"content": "a"},
}
MEMBERS = (
    *("content", "name", "metadata", "toolCalls", "toolCallId", "error", "encryptedValue"),
    *("subagentRunId", "activityType", "mine"),
)
VALUES: tuple[Any, ...] = ("", "a", None, 0, 1.5, True, [], ["a"], {}, {"a": None}, 10**30)


@pytest.mark.parametrize("role", MESSAGES)
@pytest.mark.parametrize("member", MEMBERS)
def test_a_message_that_clients_are_sent_is_one_that_a_body_may_have(
    role: str, member: str
) -> None:
    sent = 0
    for value in VALUES:
        said = message(**{"role": role, **MESSAGES[role], member: value})
        try:
            event = normalize_event(said[0])
        except EventError:
            continue
        assert event is not None
        parse_input(run_input(messages=event["messages"]))
        sent += 1
    assert sent
