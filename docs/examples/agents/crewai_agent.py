"""CrewAI, by the endpoint of its AG-UI integration, which is called here without a server.

pip install 'sansio-copilot[asyncio]' ag-ui-crewai
"""

import asyncio
import json
from contextlib import aclosing

import litellm
from ag_ui_crewai import (
    CopilotKitState,
    add_crewai_flow_fastapi_endpoint,
    agui_feedback_provider,
    copilotkit_stream,
)
from crewai.flow import Flow, human_feedback, listen, router, start
from fastapi import APIRouter, Request

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime

litellm.disable_aiohttp_transport = True  # a request by way of aiohttp outlives its run


class State(CopilotKitState):
    color: str = ""


def tool(name, argument):
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


class Assistant(Flow[State]):
    @start()
    async def ask_model(self):
        tools = [tool("set_color", "color"), tool("delete_file", "name")]
        asked = await litellm.acompletion(
            model="openai/gpt-4o-mini",
            messages=self.state.messages,
            tools=[*tools, *self.state.copilotkit.actions],
            stream=True,
        )
        async with aclosing(asked):  # or the model may work on when the run is stopped
            message = (await copilotkit_stream(asked)).choices[0].message
        self.state.messages.append(message.model_dump(exclude_none=True))

    @router(ask_model)
    def called(self):
        calls = self.state.messages[-1].get("tool_calls")
        return f"call {calls[0]['function']['name']}" if calls else "nothing"

    @listen("call set_color")
    async def set_color(self):
        call = self.state.messages[-1]["tool_calls"][0]
        self.state.color = json.loads(call["function"]["arguments"])["color"]
        await self.go_on("done")

    @listen("call delete_file")
    @human_feedback(message="Delete the file?", provider=agui_feedback_provider)
    def ask_user(self):
        return self.state.messages[-1]["tool_calls"][0]["function"]["arguments"]

    @listen(ask_user)
    async def delete_file(self, answer):
        await self.go_on("done" if answer.feedback == "true" else "refused")

    async def go_on(self, result):
        call = self.state.messages[-1]["tool_calls"][0]
        result = {"role": "tool", "tool_call_id": call["id"], "content": result}
        self.state.messages.append(result)
        await self.ask_model()


# The rest of this file serves the agent above.
routes = APIRouter()
add_crewai_flow_fastapi_endpoint(routes, Assistant(), emit_interrupt_outcome=True)


async def agent(input):
    response = await routes.routes[0].endpoint(input, Request({"type": "http", "headers": []}))
    async with aclosing(response.body_iterator) as frames:
        async for frame in frames:
            yield json.loads(frame.removeprefix("data: "))


asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
