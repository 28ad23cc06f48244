"""LangGraph, by way of the package that its AG-UI integration has.

pip install 'sansio-copilot[asyncio]' langgraph 'ag-ui-langgraph[fastapi]' langchain-openai
"""

import asyncio

from ag_ui_langgraph import LangGraphAgent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime


class State(MessagesState):
    tools: list  # the tools of the front end
    color: str


@tool
def set_color(color: str):
    """Set the color of the page."""


@tool
def delete_file(name: str):
    """Delete a file."""


async def ask_model(state: State, config):
    tools = [set_color, delete_file, *state["tools"]]
    # The time limit of a chunk is asyncio.wait_for(), which may swallow a stop before Python 3.12.
    model = ChatOpenAI(model="gpt-4o-mini", stream_chunk_timeout=None).bind_tools(tools)
    answer = await model.ainvoke(state["messages"], config)
    ours = answer.tool_calls and answer.tool_calls[0]["name"] in ("set_color", "delete_file")
    return Command(update={"messages": answer}, goto="call_tool" if ours else "__end__")


async def call_tool(state: State):
    call = state["messages"][-1].tool_calls[0]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
    if call["name"] == "set_color":
        return {"color": call["args"]["color"], "messages": result}
    if not interrupt({"message": f"Delete {call['args']['name']}?", "toolCallId": call["id"]}):
        result["content"] = "refused"
    return {"messages": result}


graph = StateGraph(State).add_node(ask_model).add_node(call_tool)
graph.add_edge(START, "ask_model").add_edge("call_tool", "ask_model")
compiled = graph.compile(checkpointer=InMemorySaver())

# The rest of this file serves the agent above.
agent = LangGraphAgent(name="default", graph=compiled, emit_interrupt_outcome=True)
asyncio.run(serve(CopilotRuntime({"default": agent}), port=4000))
