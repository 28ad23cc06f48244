"""``agui_agent``: makes an agent of the AG-UI objects that Python frameworks offer.

AG-UI has no protocol for agents in Python. Frameworks have grown a method ``run(input)``, plain or
async, that answers with an iterator of events; some keep the data of a run in the object, and give
it a ``clone()``. The runtime calls an agent with ``(input, context)``, while other runs of the same
agent go on. This module adapts the one to the other.

The number of arguments is found out once, when the agent or the runtime is made
(:mod:`~sansio_copilot.functions`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any, Literal

import attrs
from ag_ui.core import RunAgentInput

from ..calls import Call
from ..functions import check_function, fits, signature_of
from .attributes import (
    Capabilities,
    check_capabilities,
    check_description,
    check_headers,
    valid,
)
from .protocols import Agent, AgentContext, Events, describe_class, loop_of

_CONTEXT = "context"
"""The name by which a second argument with a default is recognised as the context."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def agui_agent(
    agent: Any = None,
    *,
    fresh: Callable[..., Any] | None = None,
    on_stop: Callable[[RunAgentInput], Any] | None = None,
    description: str | None = None,
    capabilities: Capabilities | None = None,
    headers: Mapping[str, str] | None = None,
    loop: Literal["asyncio"] | None = None,
) -> AguiAgent:
    """Make an agent for a runtime of an AG-UI agent.

    :param agent: an object with a method ``run(input)`` or ``run(input, context)``, or a function
        of either; plain or async, or a generator.
    :param fresh: makes the agent of each run, so that runs share nothing: a function of ``agent``
        (``copy.copy``), or of nothing (the agent's class), and then ``agent`` may be left out.
        Otherwise an agent that has a ``clone()`` is cloned, and any other serves all runs.
    :param on_stop: a plain or async function of the input, for an agent whose work goes on in the
        background. It is called when a run ends before its agent has: stopped, superseded,
        abandoned, at the end of the server, or because of what the agent itself did. It has
        :attr:`~sansio_copilot.Limits.hook_seconds`, and its failure is logged.
    :param description: the description of the agent in /info; by default the agent's own. An
        attribute of the agent that is of another type has another meaning, and is left out.
    :param capabilities: the agent's capabilities in /info, likewise.
    :param headers: the headers that the server itself sends to the agent, likewise.
    :param loop: "asyncio" for an agent that needs asyncio: where the binding runs trio, the agent
        runs on an asyncio loop in a thread. By default what the agent itself says.
    :raises TypeError: if ``agent`` cannot be called in one of these ways, or is missing, or if
        another argument is of the wrong type; the text names the agent.
    :raises ValueError: for any other ``loop``.
    """
    if agent is None and fresh is None:
        raise TypeError("agui_agent takes an agent, or fresh= with a function that makes one")
    if agent is not None:
        check_agent("agui_agent", agent)
    name = describe_class(fresh if agent is None else agent)
    _check_options(name, fresh, on_stop, loop)
    if fresh is not None:
        if agent is None and not fits(fresh, 0):
            raise TypeError(
                f"fresh of agent {name!r} takes {signature_of(fresh)}, expected () without an agent"
            )
        make = fresh if agent is None or not fits(fresh, 1) else _of(fresh, agent)
    elif callable(clone := getattr(agent, "clone", None)) and fits(clone, 0):
        make = clone
    else:
        make = None
    description = _said(description, agent, "description", check_description)
    return AguiAgent(
        agent,
        make,
        on_stop,
        "" if description is None else description,
        _said(capabilities, agent, "capabilities", check_capabilities),
        _said(headers, agent, "headers", check_headers),
        loop_of(agent) if loop is None else loop,
        name,
    )


@attrs.define(eq=False)
class AguiAgent:
    """An agent that :func:`agui_agent` has made of an object of another library. The attributes may
    be assigned, and are checked then.

    :ivar description: the description of the agent in /info.
    :ivar capabilities: the agent's capabilities in /info.
    :ivar headers: the headers that the server itself sends to the agent.
    :ivar loop: the event loop that the agent needs.
    """

    _agent: Any
    _fresh: Callable[[], Any] | None
    _on_stop: Callable[[RunAgentInput], Any] | None
    description: str = attrs.field(validator=valid(check_description))
    capabilities: Capabilities | None = attrs.field(validator=valid(check_capabilities))
    headers: Mapping[str, str] | None = attrs.field(validator=valid(check_headers))
    loop: Literal["asyncio"] | None
    __name__: str

    def run(self, input: RunAgentInput, context: AgentContext) -> Events:
        """Run the agent, or a fresh one, and return its answer."""
        agent = self._agent
        if self._fresh is not None:
            agent = self._fresh()
            check_agent(f"what fresh of agent {self.__name__!r} has made", agent)
        run = getattr(agent, "run", None) or agent
        events: Events = run(input, context) if takes_context(run) else run(input)
        return events

    @property
    def aclose(self) -> Any:
        """The method that closes the agent at the end of a server; None if the agent has none."""
        return getattr(self._agent, "aclose", None)

    def stop_call(self, agent_id: str, input: RunAgentInput) -> Call | None:
        """The call that is due when a run is stopped; None if the agent wants none."""
        if self._on_stop is None:
            return None
        return Call(
            self._on_stop,
            (input,),
            name=f"on_stop of agent {agent_id!r}",
            loop=self.loop,
            kind="on_stop of an agent",
        )


def adapted(agent_id: str, agent: Any) -> Agent:
    """Return ``agent``, if it can be called with ``(input, context)``, or an agent made of it.

    :raises TypeError: if it can be called neither so nor with ``(input)``; the text names it.
    """
    run = getattr(agent, "run", None) or agent
    if _takes_two(run) and not isinstance(agent, type):
        two: Agent = agent
        return two
    check_agent(f"agent {agent_id!r}", agent)
    return agent if takes_context(run) else agui_agent(agent)


def check_agent(what: str, agent: Any) -> None:
    """Check that ``agent`` can be called with an input, or with an input and a context.

    :param what: the name of the agent in the error.
    :raises TypeError: if it cannot.
    """
    if isinstance(agent, type) and not _makes_events(agent):
        raise TypeError(
            f"{what} is the class {agent.__name__}, not one made of it: give {agent.__name__}(...)"
        )
    run = getattr(agent, "run", None) or agent
    if not callable(run):
        raise TypeError(f"{what} is neither callable nor has a method run")
    if not fits(run, 1) and not fits(run, 2):
        raise TypeError(f"{what} takes {signature_of(run)}, expected (input) or (input, context)")


def takes_context(function: Any) -> bool:
    """Whether an agent's function is given the context behind its input.

    It is given the context if it requires a second argument. An optional second argument is the
    context only if its name says so, because ``run(input, timeout=30)`` was not written for this
    library.
    """
    if not fits(function, 2):
        return False
    signature = signature_of(function)
    if signature is None:
        return True
    positional = [each for each in signature.parameters.values() if each.kind in _POSITIONAL]
    second = positional[1] if len(positional) > 1 else None
    return second is None or second.default is second.empty or second.name == _CONTEXT


def _takes_two(function: Any) -> bool:
    """Whether a function plainly requires two arguments.

    This quick check comes first, because agents that are picked for each request are checked for
    each request.
    """
    own = 0
    if type(function) is MethodType:
        function, own = function.__func__, 1
    return (
        type(function) is FunctionType
        and function.__code__.co_argcount - own == 2
        and not function.__defaults__
        and not function.__code__.co_kwonlyargcount
        and not hasattr(function, "__wrapped__")
    )


def _check_options(name: str, fresh: object, on_stop: object, loop: object) -> None:
    """Check the options of :func:`agui_agent` that are no attributes of other agents.

    :raises TypeError: if one is of the wrong type.
    :raises ValueError: for an unknown loop.
    """
    check_function(f"fresh of agent {name!r}", fresh)
    if fresh is not None and not fits(fresh, 0) and not fits(fresh, 1):
        signature = signature_of(fresh)
        raise TypeError(f"fresh of agent {name!r} takes {signature}, expected () or (agent)")
    check_function(f"on_stop of agent {name!r}", on_stop)
    if on_stop is not None and not fits(on_stop, 1):
        signature = signature_of(on_stop)
        raise TypeError(f"on_stop of agent {name!r} takes {signature}, expected (input)")
    if loop not in (None, "asyncio"):
        raise ValueError(f"loop of agent {name!r} is 'asyncio' or None, not {loop!r}")


def _of(fresh: Callable[..., Any], agent: Any) -> Callable[[], Any]:
    return lambda: fresh(agent)


def _said(given: Any, agent: object, name: str, check: Callable[[str, object], None]) -> Any:
    """``given``, or else the agent's own attribute; None if that is of another type, because then
    it has another meaning."""
    if given is not None:
        return given
    value = getattr(agent, name, None)
    try:
        check("", value)
    except TypeError:
        return None
    return value


def _makes_events(agent: type) -> bool:
    """Whether calling a class, or its ``run``, gives events, so that the class is an agent."""
    if hasattr(agent, "run"):
        return not inspect.isfunction(inspect.getattr_static(agent, "run"))
    return hasattr(agent, "__iter__") or hasattr(agent, "__aiter__")
