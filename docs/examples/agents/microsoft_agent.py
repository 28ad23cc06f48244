"""The Microsoft Agent Framework, by its AG-UI integration.

pip install 'sansio-copilot[asyncio]' agent-framework-ag-ui agent-framework-openai
"""

import asyncio

from agent_framework import Agent, Content, tool
from agent_framework.openai import OpenAIChatCompletionClient
from agent_framework_ag_ui import AgentFrameworkAgent, state_update

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime


@tool
def set_color(color: str) -> Content:
    """Set the color of the page."""
    return state_update("done", state={"color": color})


@tool(approval_mode="always_require")
def delete_file(name: str) -> str:
    """Delete a file."""
    return "done"


assistant = Agent(
    client=OpenAIChatCompletionClient(model="gpt-4o-mini"),
    tools=[set_color, delete_file],
)

# The rest of this file serves the agent above.
framework = AgentFrameworkAgent(assistant, require_confirmation=False)


def agent(input):
    return framework.run(input.model_dump(by_alias=True, exclude_none=True))


asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
