"""The Claude Agent SDK, by its AG-UI integration.

pip install 'sansio-copilot[asyncio]' ag-ui-claude-sdk
"""

import asyncio

from ag_ui_claude_sdk import ClaudeAgentAdapter

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime, agui_agent

# A thread of the page is a session of Claude Code, whose command line the SDK brings along.
adapter = ClaudeAgentAdapter(
    "assistant",
    {"model": "claude-haiku-4-5", "tools": ["Bash"]},
    defer_tools=["Bash"],  # the page is asked before a command is executed
)

# The rest of this file serves the agent above.
working = set()


async def agent(input):
    async for event in adapter.run(input):
        working.add(input.thread_id)
        yield event
    working.discard(input.thread_id)


async def stop(input):
    if input.thread_id in working:  # the adapter interrupts all threads when asked for an unknown
        working.discard(input.thread_id)
        await adapter.interrupt(input.thread_id)


asyncio.run(serve(CopilotRuntime({"default": agui_agent(agent, on_stop=stop)}), port=4000))
