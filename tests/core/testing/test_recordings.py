"""Recordings: a run as text, and an agent that does it again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sansio_copilot import AgentContext, CopilotRuntime, agui_agent, text_agent
from sansio_copilot.testing import (
    Client,
    ClientResponse,
    Recording,
    ScriptedAgent,
    assert_valid_stream,
    call_tool,
    fail,
    interrupt,
    record,
    run_input,
    say,
    think,
)


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


def client_of(agent: Any) -> Client:
    return Client(CopilotRuntime({"default": agent}))


def run(agent: Any, thread_id: str = "thread-1", run_id: str = "run-1") -> ClientResponse:
    return client_of(agent).run(run_input(thread_id, run_id, text="hi"))


RICH = ScriptedAgent(
    think("hm"),
    say("Hello"),
    call_tool("clock", result="noon"),
    {
        "type": "MESSAGES_SNAPSHOT",
        "messages": [
            {"id": "run-1-user", "role": "user", "content": "hi"},
            {
                "id": "run-1-2",
                "role": "assistant",
                "content": "Hello",
                "toolCalls": [
                    {
                        "id": "run-1-3",
                        "type": "function",
                        "function": {"name": "clock", "arguments": "{}"},
                    }
                ],
            },
            {"id": "run-1-4", "role": "tool", "toolCallId": "run-1-3", "content": "noon"},
        ],
    },
    {
        "type": "ACTIVITY_SNAPSHOT",
        "messageId": "activity",
        "activityType": "plan",
        "content": {"messageId": "mine", "id": "mine"},
    },
    {"type": "CUSTOM", "name": "n", "value": {"messageId": "mine", "messages": [{"id": "mine"}]}},
    {"type": "STATE_SNAPSHOT", "snapshot": {"toolCallId": "mine"}},
    call_tool("delete"),
    lambda input: interrupt("approval", toolCallId=f"{input.run_id}-5"),
)


def test_a_recording_is_a_line_an_event() -> None:
    answer = run(RICH)
    text = Recording(answer).dumps()
    assert text.count("\n") == len(answer.events())
    assert list(Recording.loads(text).events) == answer.events()
    assert Recording.loads(text.encode()).dumps() == text
    assert Recording.of_stream(answer.body) == Recording(answer)


def test_a_recording_may_be_edited_by_hand() -> None:
    text = '\n  {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}\r\n\n{"type": "X"}'
    assert [event["type"] for event in Recording.loads(text).events] == ["RUN_STARTED", "X"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"type": "X"}\n{"type', "line 2 is not JSON"),
        ("\n[]", "line 2 is not an event"),
        ('{"name": "X"}', "line 1 is not an event"),
    ],
)
def test_a_line_that_is_no_event_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Recording.loads(text)


def test_original_ids_give_the_same_bytes() -> None:
    answer = run(RICH)
    replayed = run(Recording(answer).agent(ids="original"))
    assert replayed.body == answer.body


def test_fresh_ids_are_those_of_the_replay() -> None:
    answer = run(RICH)
    agent = Recording(answer).agent()
    replayed = run(agent, "other", "again")
    assert_valid_stream(replayed)
    assert replayed.text() == answer.text() == "Hello"
    # The runtime adds the input of the run, which is the client's.
    events = [{k: v for k, v in e.items() if k != "input"} for e in replayed.events()]
    assert events[0] == {"type": "RUN_STARTED", "threadId": "other", "runId": "again"}
    assert {key: events[-1][key] for key in ("threadId", "runId")} == {
        "threadId": "other",
        "runId": "again",
    }
    snapshot = next(e["messages"] for e in events if e["type"] == "MESSAGES_SNAPSHOT")
    assert [message["id"] for message in snapshot] == [
        "run-1-user",
        "again-run-1-2",
        "again-run-1-4",
    ]
    assert snapshot[1]["toolCalls"][0]["id"] == "again-run-1-3" == snapshot[2]["toolCallId"]
    started = [e for e in events if e["type"] == "TOOL_CALL_START"]
    assert [e["toolCallId"] for e in started] == ["again-run-1-3", "again-run-1-5"]
    (asked,) = events[-1]["outcome"]["interrupts"]
    assert asked["toolCallId"] == "again-run-1-5"
    assert asked["id"].startswith("again-")
    # Names inside of the application's own values are left as they are, because they are no ids.
    activity = next(e for e in events if e["type"] == "ACTIVITY_SNAPSHOT")
    assert activity["messageId"] == "again-activity"
    assert activity["content"] == {"messageId": "mine", "id": "mine"}
    custom = next(e for e in events if e["type"] == "CUSTOM")
    assert custom["value"] == {"messageId": "mine", "messages": [{"id": "mine"}]}
    assert replayed.state() == {"toolCallId": "mine"}


def test_two_replays_in_one_thread_share_no_id() -> None:
    client = client_of(Recording(run(RICH)).agent())
    first, second = (client.run(run_input("t", run_id)) for run_id in ("a", "b"))
    assert {call.id for call in first.tool_calls()}.isdisjoint(
        call.id for call in second.tool_calls()
    )


def test_each_thread_goes_through_the_runs() -> None:
    agent = ScriptedAgent.in_turns(call_tool("ask"), "yes")
    source = client_of(agent)
    lines = Recording(source.run(run_input("t", "run-1"))).dumps()
    lines += Recording(source.run(run_input("t", "run-2"))).dumps()
    recording = Recording.loads(lines)
    assert len(recording.runs) == 2
    client = client_of(recording.agent())
    texts = [
        client.run(run_input(thread, f"{thread}{number}")).text()
        for number in range(4)
        for thread in ("t", "u")
    ]
    assert texts == ["", "", "yes", "yes"] * 2


def test_an_id_that_goes_on_in_the_next_run_is_the_same_there() -> None:
    result = {"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "content": "1"}
    recording = Recording(
        [
            {"type": "RUN_STARTED", "threadId": "t", "runId": "1"},
            {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "ask"},
            {"type": "TOOL_CALL_END", "toolCallId": "c"},
            {"type": "RUN_FINISHED", "threadId": "t", "runId": "1"},
            {"type": "RUN_STARTED", "threadId": "t", "runId": "2"},
            result,
            {"type": "RUN_FINISHED", "threadId": "t", "runId": "2"},
        ]
    )
    client = client_of(recording.agent())
    (call,) = client.run(run_input("t", "a")).tool_calls()
    answered = client.run(run_input("t", "b")).events()
    assert answered[1]["toolCallId"] == call.id == "a-c"


def test_lists_of_references_are_renamed() -> None:
    recording = Recording(
        [
            {"type": "RUN_STARTED", "threadId": "t", "runId": "1"},
            {"type": "CUSTOM", "name": "n", "interruptIds": ["i"], "toolCalls": None},
            {"type": "RUN_FINISHED", "threadId": "t", "runId": "1"},
        ]
    )
    events = run(recording.agent(), "t", "a").events()
    assert events[1]["interruptIds"] == ["a-i"]


def test_only_a_thousand_threads_are_remembered() -> None:
    script = ScriptedAgent.in_turns("one", "two")
    source = client_of(script)
    lines = "".join(Recording(source.run(run_input("t", r))).dumps() for r in ("1", "2"))
    agent = Recording.loads(lines).agent()
    client = client_of(agent)
    assert client.run(run_input("old", "o1")).text() == "one"
    for number in range(1000):
        client.run(run_input(f"t{number}", f"r{number}"))
    assert client.run(run_input("t0", "again")).text() == "two"
    assert client.run(run_input("old", "o2")).text() == "one"


def test_an_agent_needs_a_recording() -> None:
    with pytest.raises(ValueError, match="the recording has no events"):
        Recording([]).agent()
    with pytest.raises(ValueError, match="ids is 'fresh' or 'original', not 'new'"):
        Recording([{"type": "RUN_STARTED"}]).agent(ids="new")  # type: ignore[arg-type]


# --- Agents whose runs are written down -------------------------------------------------------


@text_agent
def plain(input: Any, context: AgentContext) -> Iterator[str]:
    yield "plain"


@text_agent
async def waiting(input: Any, context: AgentContext) -> AsyncIterator[str]:
    yield "async"


async def listing(input: Any) -> list[Any]:
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    chunk = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "list"}
    return [{"type": "RUN_STARTED", **ids}, chunk, {"type": "RUN_FINISHED", **ids}]


async def nested(input: Any, context: AgentContext) -> Any:
    return waiting.run(input, context)


@pytest.mark.parametrize(
    ("agent", "said"),
    [(plain, "plain"), (waiting, "async"), (listing, "list"), (nested, "async")],
)
def test_the_runs_of_an_agent_are_written_down(agent: Any, said: str) -> None:
    written: list[str] = []
    client = client_of(record(agent, written.append))
    answers = [client.run(run_input("t", run_id)) for run_id in ("a", "b")]
    assert [answer.text() for answer in answers] == [said, said]
    assert len(written) == 2
    replaying = client_of(Recording.loads("".join(written)).agent())
    assert replaying.run(run_input("u", "c")).text() == said


def test_attributes_of_the_recorded_agent_stay() -> None:
    agent = record(ScriptedAgent("hi"), print)
    assert agent.description == "Does what a script says."
    info = client_of(agent).get("/api/copilotkit/info").json()
    assert info["agents"]["default"]["description"] == agent.description
    with pytest.raises(TypeError, match="record"):
        record(7, print)  # type: ignore[arg-type]


def test_an_exception_is_written_as_the_error_that_it_becomes() -> None:
    written: list[str] = []
    answer = run(record(ScriptedAgent("so far", fail(ValueError("a bug"))), written.append))
    assert answer.run_error() == "a bug"
    again = run(Recording.loads(written[0]).agent())
    assert (again.text(), again.run_error()) == ("so far", "a bug")


def test_a_run_that_is_stopped_is_written_as_far_as_it_came() -> None:
    written: list[str] = []
    client = client_of(record(ScriptedAgent("one", "two"), written.append))
    stream = client.begin_run(run_input("t"))
    assert stream.next()["type"] == "RUN_STARTED"
    client.post("/api/copilotkit/agent/default/stop/t")
    assert_valid_stream(stream.finish())
    (text,) = written
    types = [event["type"] for event in Recording.loads(text).events]
    assert types[0] == "RUN_STARTED"
    assert "RUN_FINISHED" not in types


def test_the_events_of_an_agent_that_is_stopped_are_closed() -> None:
    begun: list[Any] = []

    async def agent(input: Any, context: AgentContext) -> Any:
        begun.append(waiting.run(input, context))
        return begun[0]

    client = client_of(record(agent, print))
    stream = client.begin_run(run_input("t"))
    assert stream.next()["type"] == "RUN_STARTED"
    client.post("/api/copilotkit/agent/default/stop/t")
    assert begun[0].ag_frame is None


@pytest.mark.parametrize("is_awaited", [True, False])
def test_the_events_of_a_plain_agent_that_is_stopped_are_closed(*, is_awaited: bool) -> None:
    begun: list[Any] = []

    def begin(input: Any, context: AgentContext) -> Any:
        begun.append(plain.run(input, context))
        return begun[0]

    async def agent(input: Any, context: AgentContext) -> Any:
        return begin(input, context)

    client = client_of(record(agent if is_awaited else begin, print))
    stream = client.begin_run(run_input("t"))
    assert stream.next()["type"] == "RUN_STARTED"
    client.post("/api/copilotkit/agent/default/stop/t")
    assert begun[0].gi_frame is None


def test_an_iterable_that_cannot_be_closed_is_recorded() -> None:
    class Events:
        def __init__(self, input: Any) -> None:
            self.left = [
                {"type": type_, "threadId": input.thread_id, "runId": input.run_id}
                for type_ in ("RUN_FINISHED", "RUN_STARTED")
            ]

        def __aiter__(self) -> Events:
            return self

        async def __anext__(self) -> Any:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    written: list[str] = []
    assert_valid_stream(run(record(lambda input: Events(input), written.append)))
    assert written[0].count("\n") == 2


def test_a_stop_is_told_only_to_an_agent_that_wants_that() -> None:
    stopped: list[Any] = []
    for agent in (plain, agui_agent(listing), agui_agent(listing, on_stop=stopped.append)):
        client = client_of(record(agent, lambda text: None))
        stream = client.begin_run(run_input("t"))
        assert stream.next()["type"] == "RUN_STARTED"
        client.post("/api/copilotkit/agent/default/stop/t")
    assert len(stopped) == 1
