"""Pydantic AI, which the extra ``model`` installs.

pip install 'sansio-copilot[asyncio,model]'
"""

import asyncio

from ag_ui.core import EventType, StateSnapshotEvent
from pydantic_ai import Agent, DeferredToolRequests, ToolReturn

from copilot_bindings.agents import pydantic_ai_agent
from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime

assistant = Agent("openai-chat:gpt-4o-mini", output_type=[str, DeferredToolRequests])


@assistant.tool_plain
def set_color(color: str) -> ToolReturn:
    """Set the color of the page."""
    event = StateSnapshotEvent(type=EventType.STATE_SNAPSHOT, snapshot={"color": color})
    return ToolReturn("done", metadata=[event])


@assistant.tool_plain(requires_approval=True)
def delete_file(name: str) -> str:
    """Delete a file."""
    return "done"


# The rest of this file serves the agent above.
agent = pydantic_ai_agent(assistant)
asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
