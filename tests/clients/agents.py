"""The agents that the client tests run: each does one thing that a client has to cope with.

An agent that waits does so at a gate, which the test names in `forwardedProps` and opens by running
the gatekeeper. So no test depends on how long anything takes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ag_ui.core import RunAgentInput
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from copilot_bindings.agents import BuiltInAgent

Event = dict[str, Any]


class OnPurposeError(Exception):
    """The error that the agents here raise; in the server's log, any other exception is a bug."""


_gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


def gate(input: RunAgentInput) -> asyncio.Event:
    assert input.forwarded_props is not None
    return _gates[input.forwarded_props["gate"]]


def _started(input: RunAgentInput) -> Event:
    return {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}


def _finished(input: RunAgentInput) -> Event:
    return {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def _text(input: RunAgentInput, *deltas: str) -> Iterator[Event]:
    message_id = f"{input.run_id}-text"
    yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
    for delta in deltas:
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}
    yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}


def _tool_call(input: RunAgentInput, name: str, *deltas: str) -> Iterator[Event]:
    tool_call_id = f"{input.run_id}-call"
    yield {"type": "TOOL_CALL_START", "toolCallId": tool_call_id, "toolCallName": name}
    for delta in deltas:
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": tool_call_id, "delta": delta}
    yield {"type": "TOOL_CALL_END", "toolCallId": tool_call_id}


class Echo:
    """Says the last message, one code point a delta: none may be cut or joined on its way."""

    description = "Repeats the last message."
    capabilities = {"transport": {"streaming": True}}  # noqa: RUF012 - what an author would write

    async def run(self, input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
        yield _started(input)
        for event in _text(input, *(input.messages[-1].content or ())):
            yield event
        yield _finished(input)


class Weather:
    """Calls a tool of the page; with the page's answer it answers the user."""

    description = "Asks the browser for the weather."

    async def capabilities(self) -> dict[str, Any]:
        return {"tools": {"supported": True, "clientProvided": True}}

    async def run(self, input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
        yield _started(input)
        last = input.messages[-1]
        if last.role == "tool":
            events = _text(input, f"It is {last.content}.")
        else:
            events = _tool_call(input, "get_weather", '{"city": "', 'Köln"}')
        for event in events:
            yield event
        yield _finished(input)


class Shy:
    """Fails when asked for its capabilities, which must not hide the other agents."""

    description = "Cannot say what it can do."

    def capabilities(self) -> dict[str, Any]:
        raise OnPurposeError("rather not")

    async def run(self, input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
        yield _started(input)
        yield _finished(input)


def counter(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Counts on from the state that the client sends. A plain generator, as several here."""
    count = (input.state or {}).get("count", 0)
    yield _started(input)
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"count": count, "steps": []}}
    replace = {"op": "replace", "path": "/count", "value": count + 1}
    append = {"op": "add", "path": "/steps/-", "value": "counted"}
    yield {"type": "STATE_DELTA", "delta": [replace]}
    yield {"type": "STATE_DELTA", "delta": [append]}
    yield _finished(input)


async def patient(input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
    """Stops in the middle of its message until the gate opens."""
    start, beginning, rest, end = _text(input, "the beginning", ", the rest")
    yield _started(input)
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"phase": "waiting"}}
    yield start
    yield beginning
    await gate(input).wait()
    yield rest
    yield end
    done = {"op": "replace", "path": "/phase", "value": "done"}
    yield {"type": "STATE_DELTA", "delta": [done]}
    yield _finished(input)


async def lingers(input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
    """Has finished its run, and cleans up until the gate opens."""
    yield _started(input)
    yield _finished(input)
    await gate(input).wait()


async def gatekeeper(input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
    yield _started(input)
    gate(input).set()
    yield _finished(input)


async def mirror(input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
    """Shows the client what reached the agent."""
    headers = {name.lower(): value for name, value in context.headers.items()}
    snapshot = {
        "tools": [tool.model_dump(by_alias=True, exclude_none=True) for tool in input.tools or ()],
        "context": [
            item.model_dump(by_alias=True, exclude_none=True) for item in input.context or ()
        ],
        "forwardedProps": input.forwarded_props,
        "headers": {n: headers[n] for n in ("authorization", "x-tenant") if n in headers},
    }
    yield _started(input)
    yield {"type": "STATE_SNAPSHOT", "snapshot": snapshot}
    yield {**_finished(input), "result": "mirrored"}


async def fails(input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
    start, delta, _ = _text(input, "so far")
    yield _started(input)
    yield start
    yield delta
    raise OnPurposeError("the model is out of reach")


def refuses(input: RunAgentInput, context: Any) -> Iterator[Event]:
    yield _started(input)
    yield {"type": "RUN_ERROR", "message": "no credit left", "code": "QUOTA"}


def thinker(input: RunAgentInput, context: Any) -> Iterator[Event]:
    thought = {"messageId": f"{input.run_id}-thought"}
    yield _started(input)
    yield {"type": "REASONING_START", **thought}
    yield {"type": "REASONING_MESSAGE_START", **thought, "role": "reasoning"}
    yield {"type": "REASONING_MESSAGE_CONTENT", **thought, "delta": "six times "}
    yield {"type": "REASONING_MESSAGE_CONTENT", **thought, "delta": "seven"}
    yield {"type": "REASONING_MESSAGE_END", **thought}
    yield {"type": "REASONING_END", **thought}
    yield from _text(input, "42")
    yield _finished(input)


def chunks(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Leaves it to the runtime where a message starts and ends."""
    message_id, call_id = f"{input.run_id}-text", f"{input.run_id}-call"
    yield _started(input)
    yield {
        "type": "REASONING_MESSAGE_CHUNK",
        "messageId": f"{input.run_id}-thought",
        "delta": "let me ",
    }
    yield {"type": "REASONING_MESSAGE_CHUNK", "delta": "look"}
    yield {
        "type": "TEXT_MESSAGE_CHUNK",
        "messageId": message_id,
        "role": "assistant",
        "delta": "looking",
    }
    yield {"type": "TEXT_MESSAGE_CHUNK", "delta": " it up"}
    yield {
        "type": "TOOL_CALL_CHUNK",
        "toolCallId": call_id,
        "toolCallName": "look_up",
        "parentMessageId": message_id,
        "delta": '{"q":',
    }
    yield {"type": "TOOL_CALL_CHUNK", "delta": '"x"}'}
    yield _finished(input)


def halves(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Cuts an emoji where UTF-16 does, as models behind a JavaScript API happen to."""
    yield _started(input)
    yield from _text(input, "\ud83d", "\ude80")
    yield _finished(input)


def suggester(input: RunAgentInput, context: Any) -> Iterator[Event]:
    first, second = '{"suggestions": [{"title": "More",', ' "message": "Tell me more"}]}'
    yield _started(input)
    yield from _tool_call(input, "copilotkitSuggest", first, second)
    yield _finished(input)


# --- A model's agent ------------------------------------------------------------------------------

_aborted: list[str] = []


async def _model(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
    """A model that does what the user says in its last message."""
    last = messages[-1].parts[-1]
    if last.part_kind == "tool-return":
        yield f"The tool said: {last.content}"
        return
    said = str(last.content)
    if said.startswith("call "):
        _, name, arguments = said.split(" ", 2)
        # A conversation may have the same call twice, which needs an id of its own.
        number = f"call-{len(messages)}"
        yield {0: DeltaToolCall(name=name, json_args=arguments, tool_call_id=number)}
    elif said == "wait":
        yield "the beginning"
        try:
            await asyncio.Event().wait()
        finally:
            _aborted.append(said)
    else:
        yield f"{said}, {len(_aborted)} aborted"


def _delete_file(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


def _multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


built_in = BuiltInAgent(
    FunctionModel(stream_function=_model), tools=[_multiply], tools_to_approve=[_delete_file]
)


AGENTS = {
    "built-in": built_in,
    "echo": Echo(),
    "weather": Weather(),
    "shy": Shy(),
    "counter": counter,
    "patient": patient,
    "Geduld & Größe": patient,
    "lingers": lingers,
    "gatekeeper": gatekeeper,
    "mirror": mirror,
    "fails": fails,
    "refuses": refuses,
    "thinker": thinker,
    "chunks": chunks,
    "halves": halves,
    "suggester": suggester,
}
