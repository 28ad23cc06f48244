"""Developers and clients are told in plain words of an application's wrong values and calls."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from support.scripts import run_script

from sansio_copilot import CopilotRuntime, text_agent
from sansio_copilot.errors import sole_cause, text_of
from sansio_copilot.testing import Client, ClientResponse, run_input

RUN = "/api/copilotkit/agent/default/run"
STARTED = {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1"}


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sansio_copilot")


def run(events: list[Any], error: BaseException | None = None, **options: Any) -> ClientResponse:
    def agent(input: Any, context: Any) -> Iterator[Any]:
        yield from events
        if error is not None:
            raise error

    client = Client(CopilotRuntime({"default": agent}, **options))
    return client.post(RUN, json=run_input("t1", "r1"))


# --- Agents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [[], [STARTED]])
def test_an_end_without_a_terminal_event_is_logged(
    events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(events).events()[-1]["type"] == "RUN_ERROR"
    assert caplog.messages == [
        "agent 'default' ended without RUN_FINISHED or RUN_ERROR: run 'r1' of thread 't1' ends "
        "with RUN_ERROR"
    ]


def test_an_end_with_a_terminal_event_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    run([STARTED, FINISHED])
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("TEXT_MESSAGE_CONTNET", "TEXT_MESSAGE_CONTENT"),
        ("run_started", "RUN_STARTED"),
        ("ToolCallStart", "TOOL_CALL_START"),
        ("state-delta", "STATE_DELTA"),
    ],
)
def test_an_unknown_type_names_the_agent_and_the_nearest_once(
    unknown: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    run([STARTED, *[{"type": unknown}] * 3, FINISHED])
    assert caplog.messages == [
        f"agent 'default': events of unknown type {unknown!r} are dropped; did it mean {meant!r}?"
    ]


def test_unknown_types_are_told_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    run([STARTED, *[{"type": f"{n}" * 100_000} for n in range(10)], FINISHED])
    assert len(caplog.messages) == 8
    assert all(len(message) < 200 for message in caplog.messages)


class MyAgent:
    def run(self, input: Any, context: Any) -> Iterator[Any]:
        yield from (STARTED, FINISHED)


class Callable_:  # noqa: N801
    def __call__(self, input: Any, context: Any) -> Iterator[Any]:
        yield from (STARTED, FINISHED)


class Events:
    def __init__(self, input: Any, context: Any) -> None:
        self.input = input

    def __iter__(self) -> Iterator[Any]:
        return iter([STARTED, FINISHED])


class Static:
    @staticmethod
    def run(input: Any, context: Any) -> Iterator[Any]:
        yield from (STARTED, FINISHED)


@pytest.mark.parametrize("agent", [MyAgent, Callable_])
def test_a_class_is_no_agent(agent: type) -> None:
    with pytest.raises(
        TypeError, match=rf"'a' is the class {agent.__name__}, .* give .*\(\.\.\.\)"
    ):
        CopilotRuntime({"a": agent})  # type: ignore[dict-item]


@pytest.mark.parametrize("agent", [Events, Static])
def test_a_class_that_makes_events_is_an_agent(agent: type) -> None:
    client = Client(CopilotRuntime({"default": agent}))  # type: ignore[dict-item]
    events = client.post(RUN, json=run_input("t1", "r1")).events()
    assert [event["type"] for event in events] == ["RUN_STARTED", "RUN_FINISHED"]


@text_agent
def spoken(input: Any, context: Any) -> Iterator[str]:
    yield "x"


async def later(input: Any, context: Any) -> AsyncIterator[Any]:
    yield STARTED


@pytest.mark.parametrize("agent", [spoken, later, MyAgent(), MyAgent, Callable_()])
def test_an_agent_is_no_function_of_the_request(agent: Any) -> None:
    with pytest.raises(TypeError, match=r"is an agent: give a mapping, as in \{'default': "):
        CopilotRuntime(agent)


@pytest.mark.parametrize(
    "function", [lambda request: {}, lambda request, more=None: {}, lambda *given: {}, dict]
)
def test_a_function_of_the_request_may_have_more(function: Any) -> None:
    assert CopilotRuntime(function).agents is function


# --- Exception groups --------------------------------------------------------------------------


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("unhandled errors in a TaskGroup", errors)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (group(ValueError("boom")), "boom"),
        (group(group(ValueError("boom"))), "boom"),
        (group(KeyError()), "KeyError"),
        (group(ValueError("one"), group(ValueError("two"), KeyError())), "one; two; KeyError"),
        (group(*[ValueError(str(n)) for n in range(9)]), "0; 1; 2; 3; 4; ..."),
    ],
)
def test_the_client_is_told_the_causes(error: Exception, told: str) -> None:
    assert run([STARTED], error).events()[-1]["message"] == told


def test_the_text_of_the_causes_has_a_bound() -> None:
    assert len(text_of(group(*[ValueError("x" * 100_000)] * 1000))) < 1010


def test_a_deep_group_is_read_to_its_end() -> None:
    error: Exception = ValueError("boom")
    for _ in range(5000):
        error = group(error)
    assert text_of(error) == "boom"
    # The groups are taken apart here, because Python cannot free thousands of nested ones at once.
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]


def test_error_message_is_given_the_exception_or_the_group_of_several() -> None:
    one, two = ValueError("one"), ValueError("two")
    seen: list[Any] = []
    run([], group(one), error_message=lambda agent_id, error: seen.append(error))
    several = group(one, two)
    run([], several, error_message=lambda agent_id, error: seen.append(error))
    assert seen == [one, several]
    assert sole_cause(several) is several


# --- Transcription -----------------------------------------------------------------------------

AUDIO = {"audio": "AAAA", "mimeType": "audio/webm"}


def transcribed(service: Any) -> ClientResponse:
    client = Client(CopilotRuntime({}, transcription=service))
    return client.post("/api/copilotkit/transcribe", json=AUDIO)


@pytest.mark.parametrize("text", [None, 1, b"text", iter(()), {"text": "x"}])
def test_a_service_that_returns_no_text_is_named(text: Any) -> None:
    answer = transcribed(lambda audio: text)
    assert answer.status == 500
    assert answer.json() == {
        "error": "provider_error",
        "message": "The transcription service returned no text",
        "retryable": True,
    }


def test_a_service_whose_task_group_failed_is_named() -> None:
    def service(audio: Any) -> str:
        raise group(ConnectionError("10.0.0.1"))

    assert transcribed(service).json()["error"] == "network_error"


# --- Extras ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("binding", "missing"),
    [
        ("asyncio", "h11"),
        ("trio", "h11"),
        ("trio", "trio"),
        ("sockets", "h11"),
        ("sockets", "anyio"),
        ("wsgi", "anyio"),
    ],
)
def test_a_binding_without_its_extra_names_it(binding: str, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import copilot_bindings.{binding}"
    status, written = run_script(program, options=(), imports=("sansio_copilot",))
    assert status == 1
    assert written.splitlines()[-1] == (
        f"ModuleNotFoundError: copilot_bindings.{binding} needs {missing}: "
        f"pip install 'sansio-copilot[{binding}]'"
    )
