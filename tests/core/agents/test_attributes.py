"""The attributes of agents are of the right types, or the application learns of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pytest

from sansio_copilot import AgentBase, CopilotRuntime, agui_agent, text_agent
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
WRONG = [
    ("description", 5, "description of agent 'a' is a str, not int"),
    (
        "capabilities",
        7,
        "capabilities of agent 'a' is a mapping, or a function that returns one, not int",
    ),
    ("headers", ["x"], "headers of agent 'a' is a mapping, not list"),
    ("headers", {"x": 1}, "headers of agent 'a' has only str in it, not int"),
    ("headers", {b"x": "y"}, "headers of agent 'a' has only str in it, not bytes"),
]


class Greeter(AgentBase):
    def run(self, input: Any, context: Any) -> Iterator[dict[str, Any]]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "CUSTOM", "name": "headers", "value": dict(context.headers)}
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


class Framework:
    def run(self, input: Any) -> Iterator[dict[str, Any]]:
        return iter(())


def a(input: Any, context: Any) -> Iterator[str]:
    yield "Hello"


def info(runtime: CopilotRuntime) -> Any:
    answer = Client(runtime).get(f"{BASE}/info")
    assert answer.status == 200
    return answer.json()["agents"]["a"]


@pytest.mark.parametrize("make", [Greeter, lambda: lambda input, context: iter(())])
@pytest.mark.parametrize(("name", "value", "error"), WRONG)
def test_a_runtime_refuses_an_agent_with_an_attribute_of_the_wrong_type(
    make: Callable[[], Any], name: str, value: Any, error: str
) -> None:
    agent = make()
    setattr(agent, name, value)
    with pytest.raises(TypeError, match="^" + error.replace("(", r"\(") + "$"):
        CopilotRuntime({"a": agent})


@pytest.mark.parametrize(("name", "value", "error"), WRONG)
def test_an_attribute_of_an_agent_that_takes_no_context_has_another_meaning(
    name: str, value: Any, error: str
) -> None:
    agent = Framework()
    setattr(agent, name, value)
    runtime = CopilotRuntime({"a": agent})
    assert info(runtime) == {"name": "a", "description": "", "className": "Framework"}
    assert Client(runtime).post(f"{BASE}/agent/a/run", json=run_input("t1")).status == 200


@pytest.mark.parametrize(("name", "value", "error"), WRONG)
def test_an_agent_that_is_picked_for_a_request_fails_no_other_one(
    name: str, value: Any, error: str
) -> None:
    agent = Greeter()
    setattr(agent, name, value)
    runtime = CopilotRuntime(lambda request: {"a": agent, "b": Greeter()})
    assert info(runtime) == {"name": "a", "description": "", "className": "Greeter"}
    client = Client(runtime)
    assert client.post(f"{BASE}/agent/b/run", json=run_input("t1")).status == 200
    status = 500 if name == "headers" else 200
    assert client.post(f"{BASE}/agent/a/run", json=run_input("t2")).status == status


def test_a_property_is_asked_by_the_request_that_needs_it() -> None:
    tokens: list[str] = []

    class Renewing(Greeter):
        @property
        def headers(self) -> dict[str, str]:  # type: ignore[override]
            return {"x-token": tokens.pop()}

    client = Client(CopilotRuntime({"a": Renewing()}))
    for token in ("first", "second"):
        tokens.append(token)
        events = client.post(f"{BASE}/agent/a/run", json=run_input(token)).events()
        assert events[1]["value"] == {"x-token": token}


@pytest.mark.parametrize(("name", "value", "error"), WRONG)
def test_an_attribute_of_the_librarys_own_agents_is_checked_when_it_is_assigned(
    name: str, value: Any, error: str
) -> None:
    agents = (text_agent(a), agui_agent(a))
    for agent in agents:
        with pytest.raises(TypeError, match=error):
            setattr(agent, name, value)
    for agent in agents:
        agent.description, agent.headers = "D", {"x-y": "z"}
        agent.capabilities = lambda: {"b": 1}
        assert info(CopilotRuntime({"a": agent})) == {
            "name": "a",
            "description": "D",
            "className": "a",
            "capabilities": {"b": 1},
        }


@pytest.mark.parametrize(("name", "value", "error"), WRONG)
def test_agui_agent_refuses_an_argument_and_leaves_out_what_is_the_frameworks(
    name: str, value: Any, error: str
) -> None:
    with pytest.raises(TypeError, match=error):
        agui_agent(a, **{name: value})
    agent = Framework()
    setattr(agent, name, value)
    wrapped = agui_agent(agent)
    assert (wrapped.description, wrapped.capabilities, wrapped.headers) == ("", None, None)


def test_a_description_that_was_assigned_later_does_not_reach_a_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Greeter()
    runtime = CopilotRuntime({"a": agent})
    agent.description = 5  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        assert info(runtime)["description"] == ""
    assert caplog.messages == [
        "agent 'a' is shown without a description: description of agent 'a' is a str, not int"
    ]


def test_properties_that_fail_hide_no_other_agent(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Greeter):
        @property
        def description(self) -> str:  # type: ignore[override]
            raise LookupError("no request")

        @cached_property
        def capabilities(self) -> dict[str, Any]:  # type: ignore[override]
            raise LookupError("no request")

    assert info(CopilotRuntime({"a": Failing(), "b": Greeter()})) == {
        "name": "a",
        "description": "",
        "className": "Failing",
    }
    assert caplog.messages == [
        "agent 'a' is shown without a description: no request",
        "agent 'a' failed to report its capabilities",
    ]


def test_headers_that_were_assigned_later_fail_the_run_before_it_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Greeter()
    client = Client(CopilotRuntime({"a": agent}))
    agent.headers = {"x-key": "of the server"}
    events = client.post(f"{BASE}/agent/a/run", json=run_input("t1")).events()
    assert events[1]["value"] == {"x-key": "of the server"}
    agent.headers = ["x"]  # type: ignore[assignment]
    answer = client.post(f"{BASE}/agent/a/run", json=run_input("t2"))
    assert answer.status == 500
    assert "headers of agent 'a' is a mapping, not list" in caplog.text
