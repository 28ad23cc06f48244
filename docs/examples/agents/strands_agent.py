"""Strands Agents of AWS, by their AG-UI integration.

pip install 'sansio-copilot[asyncio]' ag-ui-strands 'strands-agents[openai]'
"""

import asyncio

from ag_ui_strands import StrandsAgent, StrandsAgentConfig, ToolBehavior
from strands import Agent, tool
from strands.models.openai import OpenAIModel

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime


@tool
def set_color(color: str) -> str:
    """Set the color of the page."""
    return "done"


@tool
def delete_file(name: str) -> str:
    """Delete a file."""
    return "done"


assistant = Agent(
    model=OpenAIModel(model_id="gpt-4o-mini"),
    tools=[set_color, delete_file],
    callback_handler=None,
)

# The rest of this file serves the agent above.
behaviors = {
    "set_color": ToolBehavior(state_from_args=lambda call: call.tool_input),
    "delete_file": ToolBehavior(interrupt_on_call=True),
}
config = StrandsAgentConfig(tool_behaviors=behaviors)
agent = StrandsAgent(assistant, name="default", config=config)
asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
