"""A test asks a response what was said, called, and set, and whether a client reads it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from ag_ui.core import EventType, RunFinishedEvent, RunStartedEvent
from support.sse_frames import format_frame

from sansio_copilot import CopilotRuntime, Headers, json_codec
from sansio_copilot.testing import (
    Client,
    ClientResponse,
    ScriptedAgent,
    ToolCall,
    assert_valid_stream,
    call_tool,
    fail,
    patch_state,
    run_input,
    say,
    set_state,
)

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


def response(*events: Any, kind: str = "text/event-stream; charset=utf-8") -> ClientResponse:
    body = b"".join(format_frame(json_codec.encode(event)) for event in events)
    return ClientResponse(200, Headers({"content-type": kind}), body)


def run_of(*script: Any, **fields: Any) -> ClientResponse:
    return Client(CopilotRuntime({"default": ScriptedAgent(*script)})).run(run_input(**fields))


def test_the_text_of_a_response_is_joined() -> None:
    answer = run_of(say("Hel", "lo"), say(), "again", text="hi")
    assert answer.text() == "Hello\nagain"
    assert [message["role"] for message in answer.messages()] == ["assistant"] * 3


def test_text_of_the_input_is_not_text_of_the_response() -> None:
    earlier = [
        {"id": "1", "role": "user", "content": "hi"},
        {"id": "2", "role": "assistant", "content": "Hello"},
    ]
    answer = run_of("again", messages=earlier, text="and now?")
    assert answer.text() == "again"
    client = Client(CopilotRuntime({"default": ScriptedAgent("one")}))
    first = client.run(run_input("t", "r1", text="hi"))
    client.run(run_input("t", "r2", messages=first.messages(), text="more"))
    path = "/api/copilotkit/agent/default/connect"
    assert client.post(path, json=run_input("t", "x")).text() == "one\none"


@pytest.mark.parametrize("mode", ["multi-route", "single-route"])
def test_a_snapshot_may_repeat_the_conversation(mode: Any) -> None:
    """Agents with a memory of their own send all of it; the runtime knows most of it already."""
    snapshot: dict[str, Any] = {
        "type": "MESSAGES_SNAPSHOT",
        "messages": [
            {"id": "1", "role": "user", "content": "hi"},
            {"id": "2", "role": "assistant", "content": "Hello"},
            {"id": "3", "role": "user", "content": "and now?"},
            {"id": "4", "role": "assistant", "content": "again"},
        ],
    }
    agent = ScriptedAgent(say("again", message_id="4"), snapshot)
    client = Client(CopilotRuntime({"default": agent}, mode=mode))
    answer = client.run(run_input("t", "r1", messages=snapshot["messages"][:3]))
    assert answer.text() == "again"
    again = client.run(run_input("t", "r2", messages=snapshot["messages"][:3]))
    assert again.text() == "again"


@pytest.mark.parametrize("request_", [b"", b"{", b"[]", b'{"messages": [1, {"id": 2}]}'])
def test_the_text_is_known_whatever_the_request_was(request_: bytes) -> None:
    answer = attrs.evolve(run_of("hi"), request=request_)
    assert answer.text() == "hi"


def test_a_response_tells_its_tool_calls_with_their_arguments() -> None:
    answer = run_of(
        call_tool("weather", {"city": "Paris"}, call_id="c1"),
        call_tool("clock", result={"hour": 12}),
        {"type": "TOOL_CALL_START", "toolCallId": "c3", "toolCallName": "odd"},
        {"type": "TOOL_CALL_ARGS", "toolCallId": "c3", "delta": "{"},
        {"type": "TOOL_CALL_END", "toolCallId": "c3"},
    )
    assert answer.tool_calls() == [
        ToolCall("c1", "weather", {"city": "Paris"}),
        ToolCall("run-1-1", "clock", {}),
        ToolCall("c3", "odd", "{"),
    ]
    assert answer.text() == ""


def test_the_state_of_a_response_is_folded() -> None:
    add = {"op": "replace", "path": "/n", "value": 2}
    assert run_of(set_state({"n": 1}), patch_state(add)).state() == {"n": 2}
    assert run_of("nothing").state() is None


def test_the_error_of_the_run_is_told() -> None:
    assert run_of("so far", fail("the model is out")).run_error() == "the model is out"
    assert run_of("all well").run_error() is None


@pytest.mark.parametrize("ask", ["text", "messages", "tool_calls", "state", "run_error"])
def test_a_response_that_is_no_stream_is_told(ask: str) -> None:
    client = Client(CopilotRuntime({}))
    with pytest.raises(AssertionError, match=r"no stream, but 404 application/json: .*not found"):
        getattr(client.run(run_input()), ask)()
    with pytest.raises(AssertionError, match="event 1 is not valid: TEXT_MESSAGE_END needs"):
        getattr(response(STARTED, {"type": "TEXT_MESSAGE_END"}), ask)()
    broken = ClientResponse(200, Headers({"content-type": "text/event-stream"}), b"data: {\n\n")
    with pytest.raises(AssertionError, match="an event of the stream is not JSON"):
        getattr(broken, ask)()


class TestValidStreams:
    def test_a_response_may_be_a_valid_stream(self) -> None:
        assert_valid_stream(run_of("hello", fail("no")))
        assert_valid_stream(response(STARTED, FINISHED))

    def test_the_events_of_an_agent_may_be_a_valid_stream(self) -> None:
        chunk = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "Hi"}
        assert_valid_stream(
            [
                RunStartedEvent(type=EventType.RUN_STARTED, thread_id="t", run_id="r"),
                chunk,
                {"type": "STEP_STARTED", "stepName": "s"},
                {"type": "STEP_FINISHED", "stepName": "s"},
                RunFinishedEvent(type=EventType.RUN_FINISHED, thread_id="t", run_id="r"),
            ]
        )

    def test_several_runs_may_be_a_valid_stream(self) -> None:
        assert_valid_stream([STARTED, FINISHED, STARTED, FINISHED])

    @pytest.mark.parametrize(
        ("events", "why"),
        [
            ([], "the stream has no events"),
            ([FINISHED], "event 0 is not valid: First event must be 'RUN_STARTED'"),
            ([STARTED], "the stream ends with RUN_STARTED, before the end of its run"),
            ([STARTED, {"type": "HELLO"}, FINISHED], "event 1 is not valid: its type is not"),
            ([STARTED, FINISHED, FINISHED], "event 2 is not valid: Cannot send .*RUN_FINISHED"),
            ([STARTED, {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m"}], "event 1 .*'delta'"),
            (
                [STARTED, {"type": "TEXT_MESSAGE_START", "messageId": "m"}, FINISHED],
                "event 2 is not valid: Cannot send 'RUN_FINISHED' while text messages are still",
            ),
            ([STARTED, "RUN_FINISHED"], "event 1 is not valid: The agent yielded str"),
            ([{"type": "RUN_STARTED"}, FINISHED], "event 0 is not valid: RUN_STARTED needs"),
        ],
    )
    def test_a_stream_that_no_client_reads_is_not_valid(self, events: list[Any], why: str) -> None:
        with pytest.raises(AssertionError, match=why):
            assert_valid_stream(events)

    def test_a_response_that_is_no_stream_is_not_a_valid_one(self) -> None:
        with pytest.raises(AssertionError, match="no stream, but 404"):
            assert_valid_stream(Client(CopilotRuntime({})).run(run_input()))


class TestInputs:
    def test_an_input_has_the_text_of_the_user(self) -> None:
        said = run_input(text="hi", messages=[{"id": "s", "role": "system", "content": "Be."}])
        assert [message["content"] for message in said["messages"]] == ["Be.", "hi"]
        assert (said["threadId"], said["runId"]) == ("thread-1", "run-1")
        assert said["messages"][1] == {"id": "run-1-user", "role": "user", "content": "hi"}

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"base_path": "/"},
            {"base_path": None},
            {"base_path": "/ai/", "mode": "both"},
            {"base_path": "/ai", "mode": "single-route"},
            {"base_path": "/", "mode": "single-route"},
        ],
    )
    @pytest.mark.parametrize("agent_id", ["default", "a/b c%"])
    def test_a_run_finds_its_agent(self, agent_id: str, options: dict[str, Any]) -> None:
        client = Client(CopilotRuntime({agent_id: ScriptedAgent("yes")}, **options))
        assert client.run(run_input(), agent_id).text() == "yes"
        assert client.run(run_input(), "other").status == 404

    def test_a_run_is_read_event_by_event(self) -> None:
        client = Client(CopilotRuntime({"default": ScriptedAgent("yes")}))
        stream = client.begin_run(run_input(), headers={"x-a": "b"})
        assert stream.next()["type"] == "RUN_STARTED"
        assert stream.finish().text() == "yes"
