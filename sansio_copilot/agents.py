"""Agents: what the application brings, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
from ag_ui.core import BaseEvent, EventType, RunAgentInput

from .errors import text_of
from .events import EventError
from .events._values import copy_json
from .http import Request

Event: TypeAlias = BaseEvent | Mapping[str, Any]
Events: TypeAlias = Iterator[Event] | AsyncIterator[Event]
Agent: TypeAlias = Any
"""A callable ``(input, context)``, or an object with such a method ``run``, that returns an
iterator or an async iterator of events. Optional attributes: ``description`` (str),
``capabilities`` (a mapping, or a plain or async function that returns one), ``headers`` (a
mapping: what the server itself sends to that agent)."""
AgentsFunction: TypeAlias = Callable[
    [Request], "Mapping[str, Agent] | Awaitable[Mapping[str, Agent]]"
]


@attrs.define
class AgentContext:
    """What an agent is told beside its input.

    :param agent_id: the id under which the agent is registered.
    :param request: the HTTP request that started the run.
    :param headers: the headers forwarded from the request, merged with the agent's own.
    :param stop_requested: turns true when the run is stopped. An async agent is cancelled as well;
        a plain one, which cannot be, looks here between two pieces of work.
    """

    agent_id: str
    request: Request
    headers: Mapping[str, str] = attrs.field(factory=dict)
    stop_requested: bool = False


def call_agent(agent: Agent, input: RunAgentInput, context: AgentContext) -> Any:
    """Call ``agent``; returns its iterator of events, plain or async, or an awaitable of one.

    A ``run`` method comes before calling the object itself.
    """
    run = getattr(agent, "run", None) or agent
    return run(input, context)


# What may be null by itself: any JSON value, and a tag that the verifier refuses in so many words.
_NULLABLE_FIELDS = frozenset({"value", "event", "snapshot", "result", "rawEvent", "subagentRunId"})


def event_dict(event: object) -> dict[str, Any]:
    """An event as a dict of its JSON shape.

    The dict is the caller's: an agent may go on to change what it yielded. Optional fields that
    are None are left out, because a client's schema refuses them as null.

    :raises EventError: if it is neither an ``ag_ui.core`` event nor a mapping, or one that cannot
        be written as such a dict.
    """
    try:
        if type(event) is dict:
            own: dict[str, Any] = copy_json(event)
            if None in own.values():
                return {
                    key: value
                    for key, value in own.items()
                    if value is not None or key in _NULLABLE_FIELDS
                }
            return own
        if isinstance(event, BaseEvent):
            plain = _plain_fields(event)
            return event.model_dump(mode="json", by_alias=True) if plain is None else plain
        if isinstance(event, Mapping):
            return event_dict(dict(event))
    except EventError:
        raise
    except RecursionError:
        raise EventError(
            "The agent yielded an event that is nested too deeply, or contains itself"
        ) from None
    except Exception as error:
        # Of any class: an event may hold anything, and a model may have code of its own.
        raise EventError(
            f"The agent yielded an event that is not JSON: {text_of(error)}"
        ) from error
    raise EventError(
        f"The agent yielded {type(event).__name__}, expected an ag_ui.core event or a dict of its "
        "JSON shape"
    )


_Plan: TypeAlias = tuple[tuple[str, str, bool], ...]
# class -> its fields: attribute, name in JSON, whether it is left out when it is None.
_PLANS: dict[type[BaseEvent], _Plan] = {}
_PLAIN = frozenset({str, int, bool})


def _plain_fields(event: BaseEvent) -> dict[str, Any] | None:
    """What ``event`` dumps to, if it is one of AG-UI's own that holds plain values only.

    The models' own way takes ten times as long, since it calls Python code to omit what is None.
    """
    plan = _PLANS.get(type(event)) or _plan(type(event))
    if plan is None or event.__pydantic_extra__:
        return None
    values = event.__dict__
    fields: dict[str, Any] = {}
    for attribute, name, omittable in plan:
        value = values.get(attribute)
        if value is None and omittable:
            continue
        kind = type(value)
        if kind in _PLAIN:
            fields[name] = value
        elif kind is EventType:
            fields[name] = value.value  # type: ignore[union-attr]
        else:
            return None
    return fields


def _plan(kind: type[BaseEvent]) -> _Plan | None:
    if kind.__module__ != BaseEvent.__module__:
        # It may have a way of its own.
        return None
    plan = _PLANS[kind] = tuple(
        (attribute, field.alias or attribute, not field.is_required() and field.default is None)
        for attribute, field in kind.model_fields.items()
    )
    return plan


def describe_class(agent: Agent) -> str:
    """The ``className`` of an agent in /info: of an object its class, of a function its name."""
    name = getattr(agent, "__name__", None)
    return name if isinstance(name, str) else type(agent).__name__


@attrs.define
class _TextAgent:
    """An agent made of a function that yields text. The attributes may be assigned."""

    function: Callable[[RunAgentInput, AgentContext], Any]
    description: str = ""
    capabilities: Any = None
    headers: Mapping[str, str] | None = None
    __name__: str = attrs.field(default="text_agent", init=False)

    def __attrs_post_init__(self) -> None:
        self.__name__ = getattr(self.function, "__name__", "text_agent")
        self.description = inspect.getdoc(self.function) or ""

    def run(self, input: RunAgentInput, context: AgentContext) -> Events:
        pieces = self.function(input, context)
        if inspect.iscoroutine(pieces):
            pieces.close()
            raise TypeError(f"{self.__name__} returns its text; a text agent yields it")
        if hasattr(pieces, "__aiter__"):
            return self._events_async(input, pieces)
        return self._events(input, pieces)

    def _events(self, input: RunAgentInput, pieces: Iterator[str]) -> Iterator[Event]:
        message = _TextMessage(input)
        try:
            yield message.begin()
            for piece in pieces:
                yield from message.add(piece)
            yield from message.end()
        finally:
            # A stop closes this generator only; the function's own has to be told.
            if hasattr(pieces, "close"):
                pieces.close()

    async def _events_async(
        self, input: RunAgentInput, pieces: AsyncIterator[str]
    ) -> AsyncIterator[Event]:
        message = _TextMessage(input)
        try:
            yield message.begin()
            async for piece in pieces:
                for event in message.add(piece):
                    yield event
            for event in message.end():
                yield event
        finally:
            if hasattr(pieces, "aclose"):
                await pieces.aclose()


@attrs.define
class _TextMessage:
    """The events around one text message, for both loops above."""

    input: RunAgentInput
    started: bool = False

    @property
    def _run(self) -> dict[str, str]:
        return {"threadId": self.input.thread_id, "runId": self.input.run_id}

    @property
    def _id(self) -> str:
        # Ids are handed in: the client made the run's id unique, so this is unique too.
        return f"{self.input.run_id}-text"

    def begin(self) -> Event:
        return {"type": "RUN_STARTED", **self._run}

    def add(self, piece: str) -> list[Event]:
        if not isinstance(piece, str):
            raise TypeError(f"a text agent yields str, got {type(piece).__name__}")
        if not piece:
            return []
        events: list[Event] = []
        if not self.started:
            self.started = True
            events.append(
                {"type": "TEXT_MESSAGE_START", "messageId": self._id, "role": "assistant"}
            )
        events.append({"type": "TEXT_MESSAGE_CONTENT", "messageId": self._id, "delta": piece})
        return events

    def end(self) -> list[Event]:
        events: list[Event] = [{"type": "RUN_FINISHED", **self._run}]
        if self.started:
            events.insert(0, {"type": "TEXT_MESSAGE_END", "messageId": self._id})
        return events


def text_agent(
    function: Callable[[RunAgentInput, AgentContext], Iterator[str] | AsyncIterator[str]],
) -> _TextAgent:
    """Turn a generator of ``str``, plain or async, into an agent that answers with one message.

    The function is called as an agent is, with ``(input, context)``. Each non-empty string is one
    text delta. The docstring becomes the agent's ``description``, which may be assigned to, as
    may ``capabilities`` and ``headers``. Usable as a decorator.
    """
    return _TextAgent(function)


def check_agents(agents: object) -> Mapping[str, Agent]:
    """``agents``, if it is what :class:`CopilotRuntime` takes as a mapping.

    :raises TypeError: if it is not a mapping from str to agents; it names the first that is not.
    """
    if not isinstance(agents, Mapping):
        raise TypeError(f"agents is a mapping from id to agent, not {type(agents).__name__}")
    for agent_id, agent in agents.items():
        if not isinstance(agent_id, str):
            raise TypeError(f"the id of an agent is a str, not {agent_id!r}")
        if not callable(agent) and not callable(getattr(agent, "run", None)):
            raise TypeError(f"agent {agent_id!r} is neither callable nor has a method run")
    return agents
