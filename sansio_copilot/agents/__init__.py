"""Agents, which an application brings to be run, and the context that they are given."""

from __future__ import annotations

from .agui import AguiAgent, agui_agent
from .attributes import Capabilities
from .interrupts import ResumeRefused, ThreadInterrupts, answers_to_act_on
from .protocols import (
    Agent,
    AgentBase,
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
    "AgentBase",
    "AgentContext",
    "AgentFunction",
    "AgentObject",
    "AgentsFunction",
    "AguiAgent",
    "Capabilities",
    "Event",
    "Events",
    "ResumeRefused",
    "ThreadInterrupts",
    "agui_agent",
    "answers_to_act_on",
    "loop_of",
    "text_agent",
]
