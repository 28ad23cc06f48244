"""Agents as the Python world of AG-UI writes them, and what is said of those that are none."""

from __future__ import annotations

import copy
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import pytest
from ag_ui.core import RunAgentInput, RunFinishedEvent, RunStartedEvent

from sansio_copilot import AgentContext, CopilotRuntime, Request, agui_agent
from sansio_copilot.agents.agui import adapted
from sansio_copilot.testing import Client, run_input


def events(input: RunAgentInput) -> Iterator[Any]:
    ids: dict[str, Any] = {"thread_id": input.thread_id, "run_id": input.run_id}
    yield RunStartedEvent(**ids)
    yield RunFinishedEvent(**ids)


class Plain:
    def run(self, input: RunAgentInput) -> Iterator[Any]:
        return events(input)


class Async:
    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        for event in events(input):
            yield event


class Returns:
    async def run(self, input: RunAgentInput) -> Iterator[Any]:
        return events(input)


class WithContext:
    def run(self, input: RunAgentInput, context: AgentContext) -> Iterator[Any]:
        assert isinstance(context, AgentContext)
        return events(input)


class WithOptions:
    def run(self, input: RunAgentInput, timeout: float = 30.0, *, deps: Any = None) -> Any:
        assert (timeout, deps) == (30.0, None)
        return events(input)


class WithOptionalContext:
    def run(self, input: RunAgentInput, context: AgentContext | None = None) -> Any:
        assert isinstance(context, AgentContext)
        return events(input)


class TakesAll:
    def run(self, *args: Any) -> Any:
        assert isinstance(args[1], AgentContext)
        return events(args[0])


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@logged
def decorated(input: RunAgentInput) -> Iterator[Any]:
    return events(input)


AGENTS: dict[str, Any] = {
    "a plain method": Plain(),
    "an async method": Async(),
    "a method to be awaited": Returns(),
    "a method that takes the context": WithContext(),
    "a method with options of its own": WithOptions(),
    "a method that can do without the context": WithOptionalContext(),
    "a method that takes whatever comes": TakesAll(),
    "a function": events,
    "a bound method": Plain().run,
    "a function that is decorated": decorated,
    "a partial": functools.partial(lambda kind, input: events(input), "kind"),
    "a class that is an iterable": type(
        "Iterates",
        (),
        {
            "__init__": lambda self, input: setattr(self, "input", input),
            "__iter__": lambda self: events(self.input),
        },
    ),
}


@pytest.mark.parametrize("make", [agui_agent, lambda agent: agent], ids=["made", "as it is"])
@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_an_agent_runs_with_as_many_arguments_as_it_takes(
    agent: Any, make: Callable[[Any], Any]
) -> None:
    runtime = CopilotRuntime({"default": make(agent)})
    answer = Client(runtime).post("/api/copilotkit/agent/default/run", json=run_input("t", "r"))
    assert [event["type"] for event in answer.events()] == ["RUN_STARTED", "RUN_FINISHED"]


def test_an_agent_of_a_function_of_the_request_may_take_the_input_alone() -> None:
    runtime = CopilotRuntime(lambda request: {"default": Plain()})
    answer = Client(runtime).post("/api/copilotkit/agent/default/run", json=run_input("t", "r"))
    assert [event["type"] for event in answer.events()] == ["RUN_STARTED", "RUN_FINISHED"]


# --- A fresh one for each run ---------------------------------------------------------------------


@attrs.define
class Remembers:
    """Keeps what belongs to a run in itself, as some frameworks do."""

    description: str = "Remembers"
    capabilities: Any = None
    headers: dict[str, str] = attrs.field(factory=dict)
    runs: list[str] = attrs.field(factory=list)

    def run(self, input: RunAgentInput) -> Iterator[Any]:
        self.runs.append(input.run_id)
        yield {"type": "CUSTOM", "name": "runs", "value": list(self.runs)}


class Clones(Remembers):
    def clone(self) -> Clones:
        return Clones()


def runs_seen(agent: Any) -> list[list[str]]:
    seen = []
    for run_id in ("r1", "r2"):
        given = RunAgentInput.model_validate(run_input("t", run_id))
        (event,) = agent.run(given, AgentContext("default", Request("POST", "/")))
        seen.append(event["value"])
    return seen


@pytest.mark.parametrize(
    "agent",
    [
        agui_agent(fresh=Remembers),
        agui_agent(Remembers(), fresh=copy.deepcopy),
        agui_agent(Remembers(), fresh=lambda: Remembers()),
        agui_agent(Clones()),
        adapted("default", Clones()),
    ],
    ids=["its class", "a copy", "a function", "a clone", "a clone unasked"],
)
def test_each_run_has_an_agent_of_its_own(agent: Any) -> None:
    assert runs_seen(agent) == [["r1"], ["r2"]]


def test_an_agent_that_is_not_made_anew_serves_all_runs() -> None:
    assert runs_seen(agui_agent(Remembers())) == [["r1"], ["r1", "r2"]]
    assert runs_seen(agui_agent(Clones(), fresh=lambda agent: agent)) == [["r1"], ["r1", "r2"]]


def test_what_the_info_route_says_comes_from_the_agent_or_is_given() -> None:
    own = agui_agent(Remembers(capabilities={"a": 1}, headers={"x": "y"}))
    assert (own.description, own.capabilities, own.headers) == ("Remembers", {"a": 1}, {"x": "y"})
    assert own.__name__ == "Remembers"
    given = agui_agent(
        events, fresh=lambda: events, description="D", capabilities={"b": 2}, headers={"k": "v"}
    )
    assert (given.description, given.capabilities, given.headers) == ("D", {"b": 2}, {"k": "v"})
    assert given.__name__ == "events"
    made = agui_agent(fresh=Remembers)
    assert (made.description, made.__name__) == ("", "Remembers")
    assert agui_agent(Remembers(description=7)).description == ""  # type: ignore[arg-type]


# --- What is no agent -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (Plain, "is the class Plain, not one made of it: give Plain(...)"),
        (7, "is neither callable nor has a method run"),
        (lambda: None, r"takes \(\), expected \(input\) or \(input, context\)"),
        (lambda a, b, c: None, r"takes \(a, b, c\), expected"),
        (lambda input, *, context: None, r"takes \(input, \*, context\), expected"),
    ],
)
def test_what_cannot_be_an_agent_is_named_at_once(agent: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"^agui_agent {said}"):
        agui_agent(agent)
    with pytest.raises(TypeError, match=f"^agent 'helper' {said}"):
        CopilotRuntime({"helper": agent})


def test_an_agent_or_a_way_to_make_one_is_needed() -> None:
    with pytest.raises(TypeError, match="takes an agent, or fresh="):
        agui_agent()


def test_a_function_that_does_not_tell_its_signature_is_taken_at_its_word() -> None:
    class Silent:
        __signature__ = "none"

        def __call__(self, *args: Any) -> Iterator[Any]:
            assert isinstance(args[1], AgentContext)
            return events(args[0])

    silent = Silent()
    assert adapted("default", silent) is silent
    answer = Client(CopilotRuntime({"default": agui_agent(silent)})).post(
        "/api/copilotkit/agent/default/run", json=run_input("t", "r")
    )
    assert len(answer.events()) == 2
