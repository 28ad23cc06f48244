"""The OpenAI Agents SDK, which has no AG-UI integration: its events are written out here.

pip install 'sansio-copilot[asyncio]' openai-agents
"""

import asyncio

from agents import Agent, FunctionTool, Runner, function_tool

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime


@function_tool
def current_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


assistant = Agent(name="Assistant", model="gpt-4o-mini", tools=[current_weather])


# The rest of this file serves the agent above.
def items(message):
    if message.role == "tool":
        call, output = message.tool_call_id, message.content
        return [{"type": "function_call_output", "call_id": call, "output": output}]
    said = [{"role": message.role, "content": message.content}] if message.content else []
    return said + [
        {"type": "function_call", "call_id": call.id, **call.function.model_dump()}
        for call in getattr(message, "tool_calls", None) or []
    ]


def of_page(tool):
    # A tool that needs an approval is left to whoever has asked for the run.
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=parameters,
        on_invoke_tool=lambda *_: None,
        strict_json_schema=False,
        needs_approval=True,
    )


async def agent(input):
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_STARTED", **ids}
    tools = [*assistant.tools, *map(of_page, input.tools)]
    history = [item for message in input.messages for item in items(message)]
    running = Runner.run_streamed(assistant.clone(tools=tools), history)
    async for event in running.stream_events():
        if event.type == "raw_response_event":
            data = event.data
            if data.type == "response.output_text.delta":
                yield {
                    "type": "TEXT_MESSAGE_CHUNK",
                    "messageId": data.item_id,
                    "delta": data.delta,
                }
            elif data.type == "response.output_item.done" and data.item.type == "function_call":
                called = {"toolCallId": data.item.call_id, "toolCallName": data.item.name}
                yield {"type": "TOOL_CALL_CHUNK", **called, "delta": data.item.arguments}
        elif event.type == "run_item_stream_event" and event.name == "tool_output":
            call_id = event.item.raw_item["call_id"]
            result = {"messageId": f"{call_id}-result", "content": str(event.item.output)}
            yield {"type": "TOOL_CALL_RESULT", "toolCallId": call_id, **result}
    yield {"type": "RUN_FINISHED", **ids}


asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
