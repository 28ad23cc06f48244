"""LlamaIndex, by the workflow of its AG-UI integration.

pip install 'sansio-copilot[asyncio]' llama-index-protocols-ag-ui llama-index-llms-openai fastapi
"""

import asyncio

from ag_ui.core import BaseEvent
from llama_index.core.workflow import Context
from llama_index.llms.openai import OpenAI
from llama_index.protocols.ag_ui.agent import AGUIChatWorkflow

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime


async def set_color(ctx: Context, color: str) -> str:
    """Set the color of the page."""
    await ctx.store.set("state", {"color": color})
    return "done"


def show_card(city: str) -> str:
    """Show a card. The page has this tool; the workflow wants to know it here."""
    return ""


def workflow():
    llm = OpenAI(model="gpt-4o-mini")
    return AGUIChatWorkflow(llm=llm, backend_tools=[set_color], frontend_tools=[show_card])


# The rest of this file serves the agent above.
async def agent(input):
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_STARTED", **ids}
    running = workflow().run(input_data=input)
    try:
        async for event in running.stream_events():
            if isinstance(event, BaseEvent):
                yield event
        await running
    finally:
        await running.cancel_run()
    yield {"type": "RUN_FINISHED", **ids}


asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
