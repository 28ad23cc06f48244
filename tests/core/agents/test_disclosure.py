"""Readers of a run are told what the client sent, and nothing that is meant for the server."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from ag_ui.core import (
    EventType,
    RawEvent,
    RunErrorEvent,
    RunFinishedEvent,
    RunStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
)

from sansio_copilot import CopilotRuntime
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
RUN, CONNECT, SUGGEST = (f"{BASE}/agent/a/{what}" for what in ("run", "connect", "suggest"))
SECRET = "the system prompt"
STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


def client(agent: Any, **options: Any) -> Client:
    return Client(CopilotRuntime({"a": agent}, **options))


def says(*events: Any) -> Any:
    def agent(input: Any, context: Any) -> Iterator[Any]:
        yield from events

    return agent


# --- The input ---------------------------------------------------------------------------------


def test_changes_of_an_agent_to_its_input_reach_nobody() -> None:
    given = run_input("t", "r")
    given |= {
        "messages": [
            {"id": "1", "role": "user", "content": [{"type": "text", "text": "hello"}]},
            {
                "id": "2",
                "role": "assistant",
                "toolCalls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        ],
        "state": {"steps": [{"name": "first"}], "nested": {"a": 1}},
        "tools": [{"name": "f", "description": "", "parameters": {"type": "object", "p": {}}}],
        "context": [{"description": "d", "value": "v"}],
        "forwardedProps": {"deep": {"list": [1]}},
    }

    def agent(input: Any, context: Any) -> Iterator[Any]:
        # ag-ui-langgraph changes its input like this on a resume, and worse.
        input.state["messages"] = [object()]
        input.state["steps"][0]["secret"] = SECRET
        input.state["nested"].clear()
        input.forwarded_props["deep"]["list"].append(SECRET)
        input.tools[0].parameters["p"]["secret"] = SECRET
        input.tools.append(SECRET)
        input.messages[0].content[0].text = SECRET
        input.messages[1].tool_calls[0].function.arguments = SECRET
        input.messages.clear()
        input.context[0].value = SECRET
        yield STARTED
        input.state["steps"].append(object())
        yield FINISHED

    server = client(agent)
    live = server.post(RUN, json=given)
    assert [event["type"] for event in live.events()] == ["RUN_STARTED", "RUN_FINISHED"]
    for answer in (live, server.post(CONNECT, json=run_input("t"))):
        assert SECRET not in answer.body.decode()
        echo = answer.events()[0]["input"]
        for member in ("messages", "state", "tools", "context", "forwardedProps"):
            assert echo[member] == given[member], member


# --- What a framework adds ---------------------------------------------------------------------


RAW = {"type": "RAW", "event": {"prompt": SECRET}, "source": "langgraph"}
DICTS = [
    RAW,
    {**STARTED, "rawEvent": {"prompt": SECRET}},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant", "rawEvent": None},
    *(
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x", "rawEvent": [SECRET]}
        for _ in range(3)
    ),
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "y", "raw_event": SECRET},
    RAW,
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "z"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m", "rawEvent": SECRET},
    {**FINISHED, "rawEvent": {"prompt": SECRET}},
    RAW,
]
MODELS = [
    RawEvent(type=EventType.RAW, event={"prompt": SECRET}),
    RunStartedEvent(
        type=EventType.RUN_STARTED, thread_id="t", run_id="r", raw_event={"prompt": SECRET}
    ),
    TextMessageStartEvent(
        type=EventType.TEXT_MESSAGE_START, message_id="m", role="assistant", raw_event=[SECRET]
    ),
    *(
        TextMessageContentEvent(
            type=EventType.TEXT_MESSAGE_CONTENT,
            message_id="m",
            delta=delta,
            # The raw event cannot be written as JSON, as with LangChain's own messages.
            raw_event={"prompt": SECRET, "message": object()},
        )
        for delta in "xxxyz"
    ),
    TextMessageEndEvent(type=EventType.TEXT_MESSAGE_END, message_id="m", raw_event=SECRET),
    RunFinishedEvent(
        type=EventType.RUN_FINISHED, thread_id="t", run_id="r", raw_event={"prompt": SECRET}
    ),
]


@pytest.mark.parametrize("events", [DICTS, MODELS], ids=["dicts", "models"])
@pytest.mark.parametrize("path", [RUN, SUGGEST])
def test_raw_events_that_a_framework_adds_are_dropped(events: list[Any], path: str) -> None:
    server = client(says(*events))
    live = server.post(path, json=run_input("t", "r"))
    assert [event["type"] for event in live.events()] == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        *["TEXT_MESSAGE_CONTENT"] * 5,
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert "".join(event.get("delta", "") for event in live.events()) == "xxxyz"
    replay = server.post(CONNECT, json=run_input("t"))
    for answer in (live, replay):
        assert SECRET not in answer.body.decode()
        assert "raw" not in answer.body.decode().lower()


def test_raw_events_are_kept_if_the_application_wants_them() -> None:
    # RUN_STARTED has to come first then, and the names of members are those of AG-UI.
    kept = [event for event in DICTS[1:-1] if "raw_event" not in event]  # type: ignore[operator]
    server = client(says(*kept), raw_events=True)
    live = server.post(RUN, json=run_input("t", "r")).events()
    assert [event.get("rawEvent") for event in live if event["type"] == "RUN_STARTED"] == [
        {"prompt": SECRET}
    ]
    contents = [event for event in live if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert [event.get("rawEvent") for event in contents[:3]] == [[SECRET]] * 3
    assert [event for event in live if event["type"] == "RAW"] == [RAW]
    assert RAW in server.post(CONNECT, json=run_input("t")).events()


def test_models_keep_raw_events_as_well() -> None:
    events = [MODELS[1], MODELS[0], MODELS[2], MODELS[-2], MODELS[-1]]
    live = client(says(*events), raw_events=True).post(RUN, json=run_input("t", "r")).events()
    assert live[0]["rawEvent"] == {"prompt": SECRET}
    assert live[1]["event"] == {"prompt": SECRET}


def test_an_agent_does_not_see_its_own_events_change() -> None:
    event = {**STARTED, "rawEvent": {"a": 1}}
    model = MODELS[1].model_copy()
    client(says(event)).post(RUN, json=run_input("t", "r"))
    client(says(model)).post(RUN, json=run_input("t", "r"))
    assert event["rawEvent"] == {"a": 1}
    assert model.raw_event == {"prompt": SECRET}


# --- What went wrong ---------------------------------------------------------------------------


def fails(input: Any, context: Any) -> Iterator[Any]:
    yield STARTED
    raise RuntimeError(SECRET)


def fails_at_once(input: Any, context: Any) -> Iterator[Any]:
    raise RuntimeError(SECRET)


YIELDED = {"type": "RUN_ERROR", "message": SECRET, "code": "E1"}
FAILURES = {
    "raises": fails,
    "raises at once": fails_at_once,
    "yields": says(STARTED, YIELDED),
    "yields a model": says(STARTED, RunErrorEvent(type=EventType.RUN_ERROR, message=SECRET)),
    "breaks a rule": says(STARTED, {"type": "TEXT_MESSAGE_END", "messageId": SECRET}),
}


@pytest.mark.parametrize("agent", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("path", [RUN, SUGGEST])
def test_the_application_says_what_clients_are_told(
    agent: Any, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Any] = []

    def error_message(agent_id: str | None, problem: Any) -> str:
        asked.append((agent_id, problem))
        return "Please try again"

    server = client(agent, error_message=error_message)
    live = server.post(path, json=run_input("t", "r"))
    [failure] = [event for event in live.events() if event["type"] == "RUN_ERROR"]
    assert failure["message"] == "Please try again"
    for answer in (live, server.post(CONNECT, json=run_input("t"))):
        assert SECRET not in answer.body.decode()
    [(agent_id, problem)] = asked
    assert agent_id == "a"
    assert SECRET in (problem["message"] if isinstance(problem, dict) else str(problem))
    assert SECRET in caplog.text


@pytest.mark.parametrize("agent", FAILURES.values(), ids=FAILURES)
def test_the_application_may_leave_an_error_as_it_is(agent: Any) -> None:
    for options in ({}, {"error_message": lambda agent_id, problem: None}):
        answer = client(agent, **options).post(RUN, json=run_input("t", "r"))
        assert SECRET in answer.events()[-1]["message"]


def _raise(agent_id: Any, problem: Any) -> str:
    raise ValueError("a bug")


def _exit(agent_id: Any, problem: Any) -> str:
    raise SystemExit("a bug")


@pytest.mark.parametrize(
    ("function", "logged"),
    [
        (_raise, "error_message failed: a bug"),
        (_exit, "error_message failed: what was called raised SystemExit"),
        (lambda agent_id, problem: 5, "error_message returned int, expected str or None"),
    ],
)
@pytest.mark.parametrize("agent", [fails, says(STARTED, YIELDED)])
def test_a_function_that_fails_hides_all(
    agent: Any, function: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "sansio_copilot")
    answer = client(agent, error_message=function).post(RUN, json=run_input("t", "r"))
    assert answer.events()[-1]["message"] == "Something went wrong"
    assert logged in caplog.text


def test_the_rest_of_an_error_event_stays() -> None:
    answer = client(says(STARTED, YIELDED), error_message=lambda *problem: "no").post(
        RUN, json=run_input("t", "r")
    )
    assert answer.events()[-1] == {"type": "RUN_ERROR", "message": "no", "code": "E1"}


def test_a_transcription_service_is_no_exception() -> None:
    def service(audio: Any) -> str:
        raise RuntimeError(SECRET)

    asked: list[Any] = []

    def error_message(agent_id: str | None, problem: Any) -> str:
        asked.append(agent_id)
        return "Please type"

    body = {"audio": "AAAA", "mimeType": "audio/webm"}
    path = f"{BASE}/transcribe"
    told = client(fails, transcription=service).post(path, json=body)
    assert told.json()["message"] == SECRET
    hidden = client(fails, transcription=service, error_message=error_message)
    answer = hidden.post(path, json=body)
    assert (answer.status, answer.json()["message"]) == (told.status, "Please type")
    assert asked == [None]


def test_the_function_for_error_messages_is_plain() -> None:
    async def waits(agent_id: Any, problem: Any) -> str:
        raise AssertionError

    class Waits:
        async def __call__(self, agent_id: Any, problem: Any) -> str:
            raise AssertionError

    for function in (waits, Waits()):
        with pytest.raises(TypeError, match="error_message cannot be an async function"):
            client(fails, error_message=function)
    with pytest.raises(TypeError, match="error_message is a function, not str"):
        client(fails, error_message="no")


def test_the_json_of_the_input_is_as_it_was_sent() -> None:
    """The echo is the body's own JSON, to the byte of each value."""
    given = run_input("t", "r") | {"state": {"big": 2**60, "float": 1.0, "text": "\u2028"}}
    answer = client(says(STARTED, FINISHED)).post(RUN, json=given)
    assert json.dumps(answer.events()[0]["input"]["state"]) == json.dumps(given["state"])
