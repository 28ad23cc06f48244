"""Tests of the objects that may be an agent, and of the values that it may yield."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict, UserDict
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from ag_ui.core import (
    EventType,
    RunFinishedEvent,
    RunStartedEvent,
    StateSnapshotEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    UserMessage,
)

from sansio_copilot import CopilotRuntime, text_agent
from sansio_copilot.agents.checks import check_agents
from sansio_copilot.agents.protocols import describe_class, event_dict
from sansio_copilot.events import EventError
from sansio_copilot.testing import Client, ClientResponse, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


def run(agent: Any) -> ClientResponse:
    return Client(CopilotRuntime({"default": agent})).post(RUN, json=run_input("t1", "r1"))


def types(answer: ClientResponse) -> list[str]:
    return [event["type"] for event in answer.events()]


IDS = {"threadId": "t1", "runId": "r1"}
STARTED = {"type": "RUN_STARTED", **IDS}
FINISHED = {"type": "RUN_FINISHED", **IDS}
WHOLE = ["RUN_STARTED", "RUN_FINISHED"]


# --- What may be an agent ----------------------------------------------------------------------


def generator(input: Any, context: Any) -> Iterator[Any]:
    yield STARTED
    yield FINISHED


async def async_generator(input: Any, context: Any) -> AsyncIterator[Any]:
    yield STARTED
    yield FINISHED


def returns_a_list(input: Any, context: Any) -> list[Any]:
    return [STARTED, FINISHED]


async def returns_a_list_later(input: Any, context: Any) -> list[Any]:
    return [STARTED, FINISHED]


async def returns_an_iterator_later(input: Any, context: Any) -> Iterator[Any]:
    return generator(input, context)


async def returns_an_async_iterator_later(input: Any, context: Any) -> AsyncIterator[Any]:
    return async_generator(input, context)


class HasRun:
    def run(self, input: Any, context: Any) -> Iterator[Any]:
        return generator(input, context)


class HasAsyncRun:
    async def run(self, input: Any, context: Any) -> AsyncIterator[Any]:
        yield STARTED
        yield FINISHED


class IsCallable:
    def __call__(self, input: Any, context: Any) -> Iterator[Any]:
        return generator(input, context)


class HasBoth:
    """``run`` comes first."""

    def run(self, input: Any, context: Any) -> Iterator[Any]:
        return generator(input, context)

    def __call__(self, *args: Any) -> Any:
        raise AssertionError("not called")


class OwnIterator:
    """An async iterator that is no generator, and has nothing to close."""

    def __init__(self) -> None:
        self._events = iter([STARTED, FINISHED])

    def __aiter__(self) -> OwnIterator:
        return self

    async def __anext__(self) -> Any:
        for event in self._events:
            return event
        raise StopAsyncIteration


@pytest.mark.parametrize(
    "agent",
    [
        generator,
        async_generator,
        returns_a_list,
        returns_a_list_later,
        returns_an_iterator_later,
        returns_an_async_iterator_later,
        HasRun(),
        HasAsyncRun(),
        IsCallable(),
        HasBoth(),
        lambda input, context: OwnIterator(),
    ],
    ids=describe_class,
)
def test_an_agent_is_a_function_or_an_object_with_run(agent: Any) -> None:
    assert types(run(agent)) == WHOLE


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        ([], "agents is a mapping from id to agent, not list"),
        ({1: generator}, "the id of an agent is a str, not 1"),
        ({"a": generator, "b": 5}, "agent 'b' is neither callable nor has a method run"),
        ({"a": None}, "agent 'a' is neither callable nor has a method run"),
    ],
)
def test_an_object_that_is_no_mapping_of_agents_is_refused(agents: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_agents(agents)


@pytest.mark.parametrize("returned", [None, 5, object()])
def test_an_agent_that_returns_no_events_ends_with_an_error(returned: Any) -> None:
    (event,) = run(lambda input, context: returned).events()
    assert event["type"] == "RUN_ERROR"
    assert "not iterable" in event["message"]


def test_an_agent_that_fails_before_its_first_event_ends_with_its_error_alone() -> None:
    def agent(input: Any, context: Any) -> Iterator[Any]:
        raise LookupError("no model")

    (event,) = run(agent).events()
    assert (event["type"], event["message"]) == ("RUN_ERROR", "no model")


def test_the_class_of_an_agent_is_no_agent() -> None:
    assert describe_class(HasRun()) == "HasRun"
    assert describe_class(generator) == "generator"
    agent = HasRun()
    agent.__name__ = 5  # type: ignore[attr-defined]
    assert describe_class(agent) == "HasRun"


# --- What it may yield -------------------------------------------------------------------------

SAID = [
    STARTED,
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "hi"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    {"type": "STATE_SNAPSHOT", "snapshot": {"a": None}},
    FINISHED,
]
MODELS = [
    RunStartedEvent(type=EventType.RUN_STARTED, thread_id="t1", run_id="r1"),
    TextMessageStartEvent(type=EventType.TEXT_MESSAGE_START, message_id="m", role="assistant"),
    TextMessageContentEvent(type=EventType.TEXT_MESSAGE_CONTENT, message_id="m", delta="hi"),
    TextMessageEndEvent(type=EventType.TEXT_MESSAGE_END, message_id="m"),
    StateSnapshotEvent(type=EventType.STATE_SNAPSHOT, snapshot={"a": None}),
    RunFinishedEvent(type=EventType.RUN_FINISHED, thread_id="t1", run_id="r1"),
]


@pytest.mark.parametrize(
    "events",
    [
        SAID,
        MODELS,
        [MappingProxyType(event) for event in SAID],  # type: ignore[arg-type]
        [OrderedDict(event) for event in SAID],  # type: ignore[call-overload]
    ],
    ids=["dicts", "models", "mappings", "subclasses of dict"],
)
def test_an_event_is_a_model_or_a_mapping_of_its_json_shape(events: list[Any]) -> None:
    first, *rest = run(lambda input, context: events).events()
    assert first.items() >= STARTED.items()
    assert rest == SAID[1:]


@pytest.mark.parametrize("event", [None, "RUN_STARTED", 5, ["RUN_STARTED"], object()])
def test_a_value_that_is_no_event_ends_the_run(event: Any) -> None:
    last = run(lambda input, context: [STARTED, event]).events()[-1]
    assert last["type"] == "RUN_ERROR"
    assert f"The agent yielded {type(event).__name__}, expected an ag_ui.core" in last["message"]


def test_an_event_that_contains_itself_ends_the_run() -> None:
    value: dict[str, Any] = {}
    value["value"] = value
    event = {"type": "CUSTOM", "name": "x", **value}
    for yielded in (event, MappingProxyType(event)):
        last = run(lambda input, context, yielded=yielded: [STARTED, yielded])
        assert "nested too deeply, or contains itself" in last.events()[-1]["message"]


@pytest.mark.parametrize("value", [threading.Lock(), NotImplemented, iter([])])
def test_an_event_that_is_not_json_ends_the_run(value: Any) -> None:
    event = {"type": "CUSTOM", "name": "x", "value": value}
    answer = run(lambda input, context: [STARTED, event])
    assert types(answer) == ["RUN_STARTED", "RUN_ERROR"]


def test_a_mapping_that_fails_ends_the_run() -> None:
    class Broken(OrderedDict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise LookupError("gone")

        keys = __iter__  # type: ignore[assignment]

    answer = run(lambda input, context: [STARTED, Broken()])
    assert answer.events()[-1]["message"] == "The agent yielded an event that is not JSON: gone"


def test_changes_of_an_agent_to_an_event_afterwards_reach_nobody() -> None:
    snapshot = {"n": 1}
    event = {"type": "STATE_SNAPSHOT", "snapshot": snapshot}
    taken = event_dict(event)
    event["type"] = "?"
    snapshot["n"] = 2
    assert taken == {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}}


class Color(Enum):
    RED = "red"


def test_the_dict_of_an_event_holds_what_json_has() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    value = {
        1: (noon, Color.RED, Decimal("1.5"), b"\0", {3}, UserMessage(id="u", content="hi")),
        UUID(int=1): {True: None},
    }
    taken = event_dict({"type": "CUSTOM", "name": "x", "value": value})
    assert json.loads(json.dumps(taken)) == {
        "type": "CUSTOM",
        "name": "x",
        "value": {
            "1": [
                "2026-01-01T12:00:00Z",
                "red",
                "1.5",
                "AA==",
                [3],
                {"id": "u", "role": "user", "content": "hi"},
            ],
            str(UUID(int=1)): {"1": None},
        },
    }


def test_event_dict_says_what_it_was_given() -> None:
    with pytest.raises(EventError, match="The agent yielded int"):
        event_dict(5)


# --- text_agent --------------------------------------------------------------------------------


def plain_text(pieces: list[Any]) -> Any:
    @text_agent
    def speak(input: Any, context: Any) -> Iterator[str]:
        """Says what it was told."""
        yield from pieces

    return speak


def async_text(pieces: list[Any]) -> Any:
    @text_agent
    async def speak(input: Any, context: Any) -> AsyncIterator[str]:
        """Says what it was told."""
        for piece in pieces:
            yield piece

    return speak


@pytest.fixture(params=[plain_text, async_text], ids=["plain", "async"])
def speaker(request: pytest.FixtureRequest) -> Callable[[list[Any]], Any]:
    made: Callable[[list[Any]], Any] = request.param
    return made


class TestTextAgent:
    def test_each_piece_is_a_delta_of_one_message(self, speaker: Callable[..., Any]) -> None:
        _, *rest = run(speaker(["Hello ", "", "world"])).events()
        assert rest == [
            {"type": "TEXT_MESSAGE_START", "messageId": "r1-text", "role": "assistant"},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "r1-text", "delta": "Hello "},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "r1-text", "delta": "world"},
            {"type": "TEXT_MESSAGE_END", "messageId": "r1-text"},
            FINISHED,
        ]

    def test_a_text_agent_that_says_nothing_has_a_whole_run(
        self, speaker: Callable[..., Any]
    ) -> None:
        assert types(run(speaker([]))) == WHOLE
        assert types(run(speaker(["", ""]))) == WHOLE

    def test_two_runs_of_a_thread_have_messages_of_their_own(
        self, speaker: Callable[..., Any]
    ) -> None:
        client = Client(CopilotRuntime({"default": speaker(["x"])}))
        answers = [client.post(RUN, json=run_input("t1", run_id)) for run_id in ("r1", "r2")]
        ids = [answer.events()[1]["messageId"] for answer in answers]
        assert ids == ["r1-text", "r2-text"]

    def test_a_piece_that_is_no_text_ends_the_run_with_an_error(
        self, speaker: Callable[..., Any]
    ) -> None:
        last = run(speaker(["one", 2])).events()[-1]
        assert (last["type"], last["message"]) == (
            "RUN_ERROR",
            "a text agent yields str, got int",
        )

    def test_a_text_agent_describes_itself(self, speaker: Callable[..., Any]) -> None:
        agent = speaker([])
        info = Client(CopilotRuntime({"a": agent})).get(f"{BASE}/info").json()
        assert info["agents"]["a"] == {
            "name": "a",
            "description": "Says what it was told.",
            "className": "speak",
        }

    def test_a_callable_that_has_neither_a_docstring_nor_a_name_may_be_a_text_agent(self) -> None:
        class Speak:
            def __call__(self, input: Any, context: Any) -> Iterator[str]:
                return iter(["x"])

        Speak.__doc__ = None
        agent = text_agent(Speak())
        assert describe_class(agent) == "text_agent"
        assert agent.description == ""
        assert types(run(agent))[-1] == "RUN_FINISHED"

    def test_attributes_may_be_assigned(self, speaker: Callable[..., Any]) -> None:
        agent = speaker([])
        agent.description = "Mine."
        agent.capabilities = {"tools": {"supported": False}}
        described = Client(CopilotRuntime({"a": agent})).get(f"{BASE}/info").json()["agents"]["a"]
        assert described["description"] == "Mine."
        assert described["capabilities"] == {"tools": {"supported": False}}

    def test_the_function_is_given_the_input_and_the_context(self) -> None:
        @text_agent
        def echo(input: Any, context: Any) -> Iterator[str]:
            yield json.dumps([input.run_id, context.agent_id])

        assert run(echo).events()[2]["delta"] == '["r1", "default"]'

    @pytest.mark.parametrize("kind", ["plain", "async"])
    def test_a_stop_closes_the_function(self, kind: str) -> None:
        closed: list[str] = []

        def plain(input: Any, context: Any) -> Iterator[str]:
            try:
                yield "x"
                yield "y"
            finally:
                closed.append("plain")

        async def later(input: Any, context: Any) -> AsyncIterator[str]:
            try:
                yield "x"
                yield "y"
            finally:
                closed.append("async")

        agent = text_agent(plain) if kind == "plain" else text_agent(later)
        client = Client(CopilotRuntime({"default": agent}))
        stream = client.stream("POST", RUN, json=run_input("t1"))
        while stream.next()["type"] != "TEXT_MESSAGE_CONTENT":
            pass
        client.post(f"{BASE}/agent/default/stop/t1")
        assert closed == [kind]
        assert [event["type"] for event in stream] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]

    def test_any_iterator_of_text_will_do(self) -> None:
        class Letters:
            def __init__(self) -> None:
                self.left = ["a", "b"]

            def __aiter__(self) -> Letters:
                return self

            async def __anext__(self) -> str:
                if not self.left:
                    raise StopAsyncIteration
                return self.left.pop(0)

        for pieces in (iter(["a", "b"]), Letters()):
            kept: Any = pieces

            def speak(input: Any, context: Any, kept: Any = kept) -> Any:
                return kept

            agent = text_agent(speak)
            assert [event.get("delta") for event in run(agent).events()][2:4] == ["a", "b"]

    def test_a_function_that_returns_its_text_is_told_to_yield_it(self) -> None:
        async def returns(input: Any, context: Any) -> Any:
            return "Hello"

        [event] = run(text_agent(returns)).events()  # type: ignore[arg-type]
        assert event["message"] == "returns returns its text; a text agent yields it"


@pytest.mark.parametrize(
    ("raised", "expected"), [(SystemExit, EventError), (KeyboardInterrupt, KeyboardInterrupt)]
)
def test_a_mapping_that_exits_when_it_is_read_is_no_event(
    raised: type[BaseException], expected: type[BaseException]
) -> None:
    class Exits(UserDict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise raised

    with pytest.raises(expected):
        event_dict(Exits(type="CUSTOM", name="n", value=1))
