"""Checks of the agents that an application gives, so that it learns of mistakes at once.

An agent that takes no context is wrapped in an agent that does, so that a run calls all agents
alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..functions import fits
from .agui import adapted
from .attributes import check_attributes
from .protocols import Agent, AgentsFunction


def check_given_agents(agents: object) -> dict[str, Agent] | AgentsFunction:
    """Return ``agents``, if a runtime can be made of it: a mapping, or a function that picks them.

    :raises TypeError: if it cannot; the text names what is wrong, such as an attribute of an agent.
    """
    if not isinstance(agents, Mapping):
        return check_agents_function(agents)
    checked = check_agents(agents)
    for agent_id, agent in checked.items():
        check_attributes(f"agent {agent_id!r}", agent)
    return checked


def check_agents_function(function: Any) -> AgentsFunction:
    """Return ``function``, if it may be a function of the request that picks agents.

    :raises TypeError: if it cannot be called with one argument, or is an agent.
    """
    shown = getattr(function, "__name__", type(function).__name__)
    is_agent = callable(function) and fits(function, 2) and not fits(function, 1)
    if is_agent or callable(getattr(function, "run", None)):
        raise TypeError(
            f"agents is a mapping from id to agent or a function of the request, and {shown} is "
            f"an agent: give a mapping, as in {{'default': {shown}}}"
        )
    if not callable(function):
        raise TypeError(
            f"agents is a mapping from id to agent or a function of the request, not {shown}"
        )
    taken: AgentsFunction = function
    return taken


def check_agents(agents: object) -> dict[str, Agent]:
    """Return ``agents``, if it is a mapping that :class:`CopilotRuntime` takes.

    :returns: agents that can be called with ``(input, context)``.
    :raises TypeError: if it is not a mapping from str to agents; the text names the first value
        that is not an agent.
    """
    if not isinstance(agents, Mapping):
        raise TypeError(f"agents is a mapping from id to agent, not {type(agents).__name__}")
    for agent_id in agents:
        if not isinstance(agent_id, str):
            raise TypeError(f"the id of an agent is a str, not {agent_id!r}")
    return {agent_id: adapted(agent_id, agent) for agent_id, agent in agents.items()}
