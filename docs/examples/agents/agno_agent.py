"""Agno, by the function behind its own AG-UI interface.

pip install 'sansio-copilot[asyncio]' agno fastapi jsonpatch openai
"""

import asyncio

from agno.agent import Agent
from agno.db.in_memory import InMemoryDb
from agno.models.openai import OpenAIChat
from agno.os.interfaces.agui.router import run_entity
from agno.run import RunContext
from agno.tools import tool

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime


@tool
def set_color(run_context: RunContext, color: str) -> str:
    """Set the color of the page."""
    run_context.session_state["color"] = color
    return "done"


@tool(requires_confirmation=True)
def delete_file(name: str) -> str:
    """Delete a file."""
    return "done"


assistant = Agent(
    model=OpenAIChat(id="gpt-4o-mini"),
    tools=[set_color, delete_file],
    db=InMemoryDb(),  # what a thread has said, and runs that wait for the page
    add_history_to_context=True,
)


# The rest of this file serves the agent above.
def agent(input):
    return run_entity(assistant, input)


asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
