"""The demo's agent, driven by hand: no server, no event loop, and nobody waits."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest
from ag_ui.core import RunAgentInput

from copilot_bindings.demo.agent import DemoAgent
from sansio_copilot.events import Event

CONFIRM = {
    "name": "confirm",
    "description": "Asks the person.",
    "parameters": {
        "type": "object",
        "properties": {
            "question": {"type": "string"},
            "tone": {"enum": ["kind", "curt"]},
            "times": {"type": "integer"},
        },
    },
}

PAIRS = {
    "TEXT_MESSAGE_START": ("TEXT_MESSAGE_END", "messageId"),
    "TOOL_CALL_START": ("TOOL_CALL_END", "toolCallId"),
    "REASONING_START": ("REASONING_END", "messageId"),
    "REASONING_MESSAGE_START": ("REASONING_MESSAGE_END", "messageId"),
    "STEP_STARTED": ("STEP_FINISHED", "stepName"),
}


class Context:
    """The context that an agent is given."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.headers: Mapping[str, str] = headers or {}
        self.stop_requested = False


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never really waits; one that does would need an event loop."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def make_input(text: str | None, **fields: Any) -> RunAgentInput:
    messages = [] if text is None else [{"id": "u1", "role": "user", "content": text}]
    return RunAgentInput.model_validate(
        {
            "threadId": "t1",
            "runId": "r1",
            "messages": messages,
            "tools": [],
            "context": [],
            "forwardedProps": {},
            **fields,
        }
    )


def drive(
    input: RunAgentInput,
    context: Context | None = None,
    *,
    events: list[Event] | None = None,
    stop_after: int | None = None,
) -> tuple[list[Event], float]:
    """The agent's events, and for how many seconds it would have waited.

    :param events: where they go; for a run that ends in an exception.
    :param stop_after: somebody presses stop when so many events have been seen.
    """
    context = Context() if context is None else context
    seen = [] if events is None else events
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def run() -> None:
        async for event in DemoAgent(sleep).run(input, context):
            seen.append(event)
            if len(seen) == stop_after:
                context.stop_requested = True

    finish(run())
    return seen, sum(waited)


def check_order(events: list[Event]) -> None:
    """Well formed: a run around everything, and whatever starts ends, once."""
    assert events[0] == {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}
    assert events[-1] == {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1"}
    ends = dict(PAIRS.values())
    still_open: set[tuple[str, str]] = set()
    started: set[tuple[str, str]] = set()
    for event in events[1:-1]:
        kind = event["type"]
        if kind in PAIRS:
            end, key = PAIRS[kind]
            assert (end, event[key]) not in started
            started.add((end, event[key]))
            still_open.add((end, event[key]))
        elif kind in ends:
            still_open.remove((kind, event[ends[kind]]))
        elif kind == "TEXT_MESSAGE_CONTENT":
            assert event["delta"]
            assert ("TEXT_MESSAGE_END", event["messageId"]) in still_open
    assert not still_open


def kinds(events: list[Event]) -> list[str]:
    return list(dict.fromkeys(event["type"] for event in events))


def text_of(events: list[Event]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there", "TEXT_MESSAGE_CONTENT"),
        (None, "TEXT_MESSAGE_CONTENT"),
        ("Something LONG", "TEXT_MESSAGE_CONTENT"),
        ("use a tool", "TOOL_CALL_RESULT"),
        ("weather in Zürich?", "TOOL_CALL_RESULT"),
        ("confirm, please", "TEXT_MESSAGE_CONTENT"),
        ("count", "STATE_DELTA"),
        ("change the state", "STATE_SNAPSHOT"),
        ("think", "REASONING_MESSAGE_CONTENT"),
        ("one step", "STEP_FINISHED"),
        ("steps", "STEP_STARTED"),
        ("headers", "TEXT_MESSAGE_CONTENT"),
    ],
)
def test_every_word_gets_a_well_formed_answer_that_names_the_others(
    text: str | None, expected: str
) -> None:
    events, _ = drive(make_input(text))
    check_order(events)
    assert expected in kinds(events)
    assert 'Try one of these words too: "long"' in text_of(events)


def test_the_long_answer_leaves_time_to_reload_and_the_short_one_does_not_bore() -> None:
    assert 20 < drive(make_input("long"))[1] < 45
    assert 1 < drive(make_input("hello"))[1] < 5


def test_the_backend_tool_writes_its_arguments_in_pieces_and_has_a_result() -> None:
    events, _ = drive(make_input("What is the weather in Zürich?"))
    pieces = [event["delta"] for event in events if event["type"] == "TOOL_CALL_ARGS"]
    assert len(pieces) > 2
    assert "".join(pieces) == '{"city": "Zürich", "unit": "celsius"}'
    [result] = [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
    assert '"city": "Zürich"' in result["content"]


def test_a_frontend_tool_is_called_and_left_to_the_client() -> None:
    events, _ = drive(make_input("Please confirm", tools=[CONFIRM]))
    check_order(events)
    assert kinds(events)[-2:] == ["TOOL_CALL_END", "RUN_FINISHED"]
    assert "TOOL_CALL_RESULT" not in kinds(events)
    pieces = [event["delta"] for event in events if event["type"] == "TOOL_CALL_ARGS"]
    assert "".join(pieces) == (
        '{"question": "You wrote \\"Please confirm\\". Shall I go on?", "tone": "kind", "times": 1}'
    )


def test_a_client_that_offers_a_tool_still_gets_other_answers() -> None:
    events, _ = drive(make_input("hello", tools=[CONFIRM]))
    assert "TOOL_CALL_START" not in kinds(events)
    other = {**CONFIRM, "name": "show_map"}
    events, _ = drive(make_input("now show_map", tools=[CONFIRM, other]))
    [call] = [event for event in events if event["type"] == "TOOL_CALL_START"]
    assert call["toolCallName"] == "show_map"


def test_the_follow_up_run_comments_on_the_result() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "confirm", "arguments": "{}"}}
    messages = [
        {"id": "u1", "role": "user", "content": "confirm"},
        {"id": "a1", "role": "assistant", "toolCalls": [call]},
        {"id": "m1", "role": "tool", "toolCallId": "c1", "content": '{"confirmed":true}'},
    ]
    events, _ = drive(make_input(None, messages=messages, tools=[CONFIRM]))
    check_order(events)
    assert '{"confirmed":true}' in text_of(events)
    assert "TOOL_CALL_START" not in kinds(events)


@pytest.mark.parametrize("state", [None, {}, [], {"counter": "x", "items": 1}])
def test_counting_starts_from_any_state(state: Any) -> None:
    events, _ = drive(make_input("count", state=state))
    [snapshot] = [event["snapshot"] for event in events if event["type"] == "STATE_SNAPSHOT"]
    assert snapshot == {"counter": 0, "items": []}


def test_counting_goes_on_from_the_state_of_the_client() -> None:
    state = {"counter": 7, "items": ["item 7"], "mine": True}
    events, _ = drive(make_input("count", state=state))
    [snapshot] = [event["snapshot"] for event in events if event["type"] == "STATE_SNAPSHOT"]
    assert snapshot == state
    deltas = [event["delta"] for event in events if event["type"] == "STATE_DELTA"]
    assert deltas[-1] == [
        {"op": "replace", "path": "/counter", "value": 12},
        {"op": "add", "path": "/items/-", "value": "item 12"},
    ]


def test_headers_are_named_and_their_values_kept() -> None:
    context = Context({"x-tenant": "s3cret", "authorization": "Bearer s3cret"})
    events, _ = drive(make_input("headers"), context)
    assert "authorization, x-tenant" in text_of(events)
    assert "s3cret" not in str(events)


def test_the_demo_fails_in_the_middle_of_a_message() -> None:
    events: list[Event] = []
    with pytest.raises(RuntimeError, match="as you asked"):
        drive(make_input("fail"), events=events)
    assert events[-1]["type"] == "TEXT_MESSAGE_CONTENT"


@pytest.mark.parametrize("text", ["hello", "long", "weather", "think", "steps", "count", "fail"])
@pytest.mark.parametrize("after", [1, 2, 4, 9, 15, 18])
def test_a_stop_is_seen_at_the_next_token(text: str, after: int) -> None:
    whole: list[Event] = []
    with contextlib.suppress(RuntimeError):
        drive(make_input(text), events=whole)
    events, _ = drive(make_input(text), stop_after=after)
    assert events == whole[:after]


def test_ids_come_from_the_run() -> None:
    assert drive(make_input("weather"))[0] == drive(make_input("weather"))[0]


def test_the_text_of_a_message_in_parts_counts() -> None:
    content = [
        {"type": "text", "text": "please"},
        {"type": "image", "source": {"type": "url", "value": "https://example.com/a.png"}},
        {"type": "text", "text": "think"},
    ]
    events, _ = drive(make_input(None, messages=[{"id": "u", "role": "user", "content": content}]))
    assert "REASONING_START" in kinds(events)
