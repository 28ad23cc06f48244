"""Agents as the Python world of AG-UI writes them, and what is said of those that are none."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import pytest
from ag_ui.core import RunAgentInput, RunFinishedEvent, RunStartedEvent

from sansio_copilot import AgentContext, CopilotRuntime, Request, agui_agent
from sansio_copilot.agents import loop_of
from sansio_copilot.agents.agui import adapted
from sansio_copilot.testing import Client, NeedsEventLoop, run_input


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
    "make",
    [
        lambda: agui_agent(fresh=Remembers),
        lambda: agui_agent(Remembers(), fresh=copy.deepcopy),
        lambda: agui_agent(Remembers(), fresh=lambda: Remembers()),
        lambda: agui_agent(Clones()),
        lambda: adapted("default", Clones()),
    ],
    ids=["its class", "a copy", "a function", "a clone", "a clone unasked"],
)
def test_each_run_has_an_agent_of_its_own(make: Callable[[], Any]) -> None:
    assert runs_seen(make()) == [["r1"], ["r2"]]


def test_an_agent_that_is_not_made_anew_serves_all_runs() -> None:
    assert runs_seen(agui_agent(Remembers())) == [["r1"], ["r1", "r2"]]
    assert runs_seen(agui_agent(Clones(), fresh=lambda agent: agent)) == [["r1"], ["r1", "r2"]]


def test_the_description_for_the_info_route_comes_from_the_agent_or_is_given() -> None:
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


# --- When a run is stopped ------------------------------------------------------------------------


async def waits(input: RunAgentInput) -> AsyncIterator[Any]:
    yield next(events(input))
    while True:
        yield {"type": "CUSTOM", "name": "more", "value": None}


def stopped(agent: Any) -> Any:
    client = Client(CopilotRuntime({"default": agent}))
    stream = client.stream(
        "POST", "/api/copilotkit/agent/default/run", json=run_input("t", "r", state={"a": 1})
    )
    stream.next()
    client.post("/api/copilotkit/agent/default/stop/t")
    return stream.finish().events()[-1]


def test_the_application_is_told_with_the_input_of_the_run() -> None:
    told: list[Any] = []

    async def on_stop(input: RunAgentInput) -> None:
        told.append((input.run_id, input.state))

    for on in (on_stop, lambda input: told.append((input.run_id, input.state))):
        assert stopped(agui_agent(waits, on_stop=on))["type"] == "RUN_FINISHED"
    assert told == [("r", {"a": 1})] * 2


def test_no_function_is_told_of_a_stop_unless_it_is_given() -> None:
    assert stopped(agui_agent(waits))["type"] == "RUN_FINISHED"


def test_a_failure_of_the_function_for_stops_is_logged_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_stop(input: RunAgentInput) -> None:
        raise OSError("the job is gone")

    assert stopped(agui_agent(waits, on_stop=on_stop))["type"] == "RUN_FINISHED"
    assert "on_stop of agent 'default' failed" in caplog.text
    assert "the job is gone" in caplog.text


def test_a_function_for_stops_that_waits_for_an_event_loop_says_so() -> None:
    async def on_stop(input: RunAgentInput) -> None:
        await asyncio.sleep(1)

    with pytest.raises(NeedsEventLoop):
        stopped(agui_agent(waits, on_stop=on_stop))


def test_the_application_is_not_told_of_a_run_that_ends_by_itself() -> None:
    told: list[Any] = []
    client = Client(CopilotRuntime({"default": agui_agent(events, on_stop=told.append)}))
    client.post("/api/copilotkit/agent/default/run", json=run_input("t", "r"))
    client.close()
    assert told == []


def test_the_end_of_the_server_and_a_broken_rule_stop_a_run_as_well() -> None:
    told: list[str] = []

    def on_stop(input: RunAgentInput) -> None:
        told.append(input.run_id)

    def breaks(input: RunAgentInput) -> Iterator[Any]:
        yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}

    agents = {
        name: agui_agent(agent, on_stop=on_stop)
        for name, agent in {"waits": waits, "breaks": breaks}.items()
    }
    client = Client(CopilotRuntime(agents))
    client.stream("POST", "/api/copilotkit/agent/waits/run", json=run_input("t", "r1")).next()
    client.post("/api/copilotkit/agent/breaks/run", json=run_input("t2", "r2"))
    client.close()
    assert sorted(told) == ["r1", "r2"]


# --- The loop that it needs, and its end --------------------------------------------------------


def test_an_agent_says_which_loop_it_needs_or_is_given_one() -> None:
    class Needs(Async):
        loop = "asyncio"

    assert agui_agent(Needs()).loop == "asyncio"
    assert agui_agent(Async(), loop="asyncio").loop == "asyncio"
    assert agui_agent(Async()).loop is None
    assert loop_of(Needs()) == "asyncio"
    odd: Any = type("Odd", (), {"loop": object()})()
    assert loop_of(odd) is None


def test_a_resource_that_an_agent_has_to_close_is_closed() -> None:
    class Closes(Async):
        def aclose(self) -> str:
            return "closed"

    assert agui_agent(Closes()).aclose() == "closed"
    assert agui_agent(Async()).aclose is None


# --- What is no option ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fresh": 7}, "fresh of agent 'Plain' is a function, not int"),
        ({"fresh": lambda a, b: None}, r"fresh of agent 'Plain' takes \(a, b\), expected \(\) or"),
        ({"on_stop": 7}, "on_stop of agent 'Plain' is a function, not int"),
        ({"on_stop": lambda: None}, r"on_stop of agent 'Plain' takes \(\), expected \(input\)"),
        ({"capabilities": lambda a: {}}, r"capabilities of agent 'Plain' takes \(a\), expected"),
        ({"headers": ["x"]}, "headers of agent 'Plain' is a mapping, not list"),
    ],
)
def test_an_option_of_the_wrong_type_is_named_with_its_agent(options: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"^{said}"):
        agui_agent(Plain(), **options)


def test_an_unknown_loop_is_named_with_its_agent() -> None:
    loop: Any = "trio"
    with pytest.raises(
        ValueError, match=r"^loop of agent 'Plain' is 'asyncio' or None, not 'trio'"
    ):
        agui_agent(Plain(), loop=loop)


def test_a_function_of_an_agent_cannot_make_one_of_nothing() -> None:
    with pytest.raises(TypeError, match=r"takes \(agent\), expected \(\) without an agent"):
        agui_agent(fresh=lambda agent: agent)


def test_a_clone_that_needs_arguments_is_left_alone() -> None:
    class Odd(Plain):
        def clone(self, name: str) -> Any:
            raise AssertionError(name)

    given = RunAgentInput.model_validate(run_input("t", "r"))
    assert agui_agent(Odd()).run(given, AgentContext("default", Request("POST", "/")))


def test_an_object_that_is_made_anew_has_to_be_an_agent() -> None:
    agent: Any = agui_agent(Plain(), fresh=lambda: 7)
    given = RunAgentInput.model_validate(run_input("t", "r"))
    with pytest.raises(TypeError, match="what fresh of agent 'Plain' has made is neither callable"):
        agent.run(given, AgentContext("default", Request("POST", "/")))


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
def test_an_object_that_cannot_be_an_agent_is_named_at_once(agent: Any, said: str) -> None:
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
