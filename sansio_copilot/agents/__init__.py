"""Agents, which an application brings to be run, and the context that they are given."""

from __future__ import annotations

from .agui import AguiAgent, agui_agent
from .protocols import (
    Agent,
    AgentContext,
    AgentFunction,
    AgentObject,
    AgentsFunction,
    Event,
    Events,
    loop_of,
)
from .text import text_agent

__all__ = [
    "Agent",
    "AgentContext",
    "AgentFunction",
    "AgentObject",
    "AgentsFunction",
    "AguiAgent",
    "Event",
    "Events",
    "agui_agent",
    "loop_of",
    "text_agent",
]
