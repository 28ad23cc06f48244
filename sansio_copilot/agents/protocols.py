"""Agents: the types that an application fulfils, and how an agent is called."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import attrs
from ag_ui.core import BaseEvent, EventType, RunAgentInput

from .. import json_codec
from ..errors import text_of
from ..events import EventError
from ..events.types import RAW
from ..http.messages import Request
from ..users import User
from .attributes import Capabilities
from .disclosure import RAW_MEMBERS, without_raw
from .interrupts import ThreadInterrupts

#: An event as an agent yields it, which the runtime turns into an :data:`~..events.Event`.
AgentEvent: TypeAlias = BaseEvent | Mapping[str, Any]
Events: TypeAlias = Iterable[AgentEvent] | AsyncIterable[AgentEvent]


@attrs.define
class AgentContext:
    """The second argument of an agent, beside its input.

    :param agent_id: the id under which the agent is registered.
    :param request: the HTTP request that started the run, without its body, which is the input.
    :param headers: the headers forwarded from the request, merged with the agent's own.
    :param stop_requested: turns true when the run ends before its agent has, whatever ends it: a
        stop, a failure, the server's end. An async agent is cancelled as well; a plain one cannot
        be cancelled, and looks here between two pieces of work.
    :param user: the user who has started the run; None where the application knows no users.
    :param interrupts: the interrupts that the thread waits for, so that an agent acts once on each
        answer in ``input.resume``; None if that is not known, in a context made by hand.
    """

    agent_id: str
    request: Request
    headers: Mapping[str, str] = attrs.field(factory=dict)
    stop_requested: bool = False
    user: User | None = None
    interrupts: ThreadInterrupts | None = None


class AgentFunction(Protocol):
    """A function that is an agent; usually a generator, plain or async."""

    def __call__(
        self, input: RunAgentInput, context: AgentContext, /
    ) -> Events | Awaitable[Events]:
        """Answer ``input`` with events."""
        ...


class AgentObject(Protocol):
    """An object that is an agent. Its method is called for each run, also while others go on."""

    def run(self, input: RunAgentInput, context: AgentContext, /) -> Events | Awaitable[Events]:
        """Answer ``input`` with events."""
        ...


class InputFunction(Protocol):
    """A function that is an agent and asks for nothing but the input, as AG-UI's are in Python."""

    def __call__(self, input: RunAgentInput, /) -> Events | Awaitable[Events]:
        """Answer ``input`` with events."""
        ...


class InputObject(Protocol):
    """An object that is an agent and asks for nothing but the input."""

    def run(self, input: RunAgentInput, /) -> Events | Awaitable[Events]:
        """Answer ``input`` with events."""
        ...


class AgentBase(AgentObject, Protocol):
    """A base for classes of agents, with which a type checker checks their attributes.

    No agent needs it, because the attributes are optional. See :data:`Agent` for their meaning.
    """

    description: str = ""
    capabilities: Capabilities | None = None
    headers: Mapping[str, str] | None = None
    loop: Literal["asyncio"] | None = None


Agent: TypeAlias = AgentFunction | AgentObject | InputFunction | InputObject
"""A function or object that answers a run with an iterator or an async iterator of events.

It may have attributes: ``description`` (str), ``capabilities``
(:data:`~sansio_copilot.agents.Capabilities`), ``headers`` (a mapping, of the headers that the
server itself sends to that agent), ``loop`` ("asyncio", for an agent that needs asyncio whatever
the binding uses), and ``aclose`` (called when a server ends). :func:`~sansio_copilot.agui_agent`
gives any agent these.
"""
Agents: TypeAlias = Mapping[str, Agent]
AgentsFunction: TypeAlias = Callable[[Request], Agents | Awaitable[Agents]]


def call_agent(agent: Agent, input: RunAgentInput, context: AgentContext) -> Any:
    """Call ``agent``, or its method ``run`` if it has one.

    :returns: its iterator of events, plain or async, or an awaitable of one.
    """
    run: Any = getattr(agent, "run", None) or agent
    return run(input, context)


def loop_of(agent: object) -> Literal["asyncio"] | None:
    """The event loop that an agent says it needs; None if it says nothing."""
    loop = getattr(agent, "loop", None)
    return "asyncio" if isinstance(loop, str) and loop == "asyncio" else None


def event_dict(event: object, *, raw: bool = True) -> dict[str, Any] | None:
    """An event as a dict of its JSON shape.

    The dict shares nothing with the event, because an agent may go on changing it. It holds values
    of JSON's types only: a datetime has become its text.

    :param raw: whether to keep the data that a framework added, which may not even be JSON.
    :returns: None if the event consists of such data only, and they are not kept.
    :raises EventError: if it is neither an ``ag_ui.core`` event nor a mapping, or cannot be written
        as such a dict.
    """
    try:
        taken: BaseEvent | dict[str, Any] | None
        if type(event) is dict or isinstance(event, BaseEvent):
            taken = event
        elif isinstance(event, Mapping):
            taken = dict(event)
        else:
            raise EventError(
                f"The agent yielded {type(event).__name__}, expected an ag_ui.core event or a "
                "dict of its JSON shape"
            )
        if isinstance(taken, dict):
            has_raw = taken.get("type") == RAW or not RAW_MEMBERS.isdisjoint(taken)
        else:
            has_raw = taken.type == RAW or taken.raw_event is not None
        if has_raw and not raw and (taken := without_raw(taken)) is None:
            return None
        if isinstance(taken, dict):
            own: dict[str, Any]
            try:
                own = json_codec.to_builtins_usual(taken)
            except TypeError:
                own = json_codec.to_builtins(taken)
            return own
        fields = _own_fields(taken)
        return taken.model_dump(mode="json", by_alias=True) if fields is None else fields
    except EventError:
        raise
    except RecursionError:
        raise EventError(
            "The agent yielded an event that is nested too deeply, or contains itself"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Exceptions of any class may come, because an event may hold anything, and a model may have
        # code of its own. No SystemExit of that code ends more than the run.
        raise EventError(
            f"The agent yielded an event that is not JSON: {text_of(error)}"
        ) from error


_Plan: TypeAlias = tuple[tuple[str, str, bool], ...]
# Each class is mapped to its fields: attribute, name in JSON, whether it is left out if it is None.
_PLANS: dict[type[BaseEvent], _Plan] = {}
_PLAIN = frozenset({str, int, bool})


def _own_fields(event: BaseEvent) -> dict[str, Any] | None:
    """The dict that ``event`` dumps to, if its class is AG-UI's own and its values are JSON's own.

    The models' own way takes ten times as long, because it calls Python code to omit None.
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
        # The class is an application's, which may dump in a way of its own.
        return None
    plan = _PLANS[kind] = tuple(
        (attribute, field.alias or attribute, not field.is_required() and field.default is None)
        for attribute, field in kind.model_fields.items()
    )
    return plan


def describe_class(agent: object) -> str:
    """The ``className`` of an agent in /info: the class of an object, or the name of a function."""
    name = getattr(agent, "__name__", None)
    return name if isinstance(name, str) else type(agent).__name__
