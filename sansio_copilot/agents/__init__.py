"""Agents, which an application brings to be run, and the context that they are given."""

from __future__ import annotations

from .agui import AguiAgent, agui_agent
from .attributes import Capabilities
from .interrupts import ResumeRefused, ThreadInterrupts, answers_to_act_on
from .protocols import (
    Agent,
    AgentBase,
    AgentContext,
    AgentEvent,
    AgentFunction,
    AgentObject,
    AgentsFunction,
    Events,
    loop_of,
)
from .text import text_agent

Event = AgentEvent
"""The former name of :data:`AgentEvent`. It has another name now, because
:data:`sansio_copilot.events.Event` is the dict that is made of such an event."""

__all__ = [
    "Agent",
    "AgentBase",
    "AgentContext",
    "AgentEvent",
    "AgentFunction",
    "AgentObject",
    "AgentsFunction",
    "AguiAgent",
    "Capabilities",
    "Events",
    "ResumeRefused",
    "ThreadInterrupts",
    "agui_agent",
    "answers_to_act_on",
    "loop_of",
    "text_agent",
]
