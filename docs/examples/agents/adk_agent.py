"""Google's Agent Development Kit, by its AG-UI integration.

pip install 'sansio-copilot[asyncio]' ag-ui-adk litellm
"""

import asyncio

import litellm
from ag_ui_adk import ADKAgent, AGUIToolset
from google.adk.agents import LlmAgent, RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.models.lite_llm import LiteLlm
from google.adk.sessions import InMemorySessionService
from google.adk.tools import FunctionTool, ToolContext

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime, agui_agent

litellm.disable_aiohttp_transport = True  # a request by way of aiohttp outlives its run


def set_color(color: str, tool_context: ToolContext) -> str:
    """Set the color of the page."""
    tool_context.state["color"] = color
    return "done"


def delete_file(name: str) -> str:
    """Delete a file."""
    return "done"


assistant = LlmAgent(
    name="assistant",
    model=LiteLlm(model="openai/gpt-4o-mini"),
    tools=[set_color, FunctionTool(delete_file, require_confirmation=True), AGUIToolset()],
)
sessions = InMemorySessionService()
settings = {
    "app_name": "app",
    "user_id": "user",
    "run_config_factory": lambda _: RunConfig(streaming_mode=StreamingMode.SSE),
    "emit_interrupt_outcome": True,
}


# The rest of this file serves the agent above.
running = {}


async def run(input):
    running[input.run_id] = adk = ADKAgent(assistant, session_service=sessions, **settings)
    try:
        async for event in adk.run(input):
            yield event
    finally:
        await close(input)


async def close(input):  # also on_stop, since a cancelled adk.run() forgets the task that works on
    if adk := running.pop(input.run_id, None):
        await adk.close()


asyncio.run(serve(CopilotRuntime({"default": agui_agent(run, on_stop=close)}), port=4000))
