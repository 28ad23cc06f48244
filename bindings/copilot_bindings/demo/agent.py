"""An agent that needs no key and exercises everything a front end can show.

Its answer depends on a word in the last user message. Each answer is a plain generator of
``(event, pause)`` pairs, so that the content is separate from the time: one loop waits for the
pauses, looks whether the user has pressed stop, and closes what is still open then. The function
that waits is a parameter, so that the same agent runs on any event loop, and in a test without one.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

from ag_ui.core import RunAgentInput, Tool

from sansio_copilot.events import Event

TimedEvents: TypeAlias = Iterator[tuple[Event, float]]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]

TOKEN_PAUSE = 0.05
"""Seconds between two tokens: slow enough to watch, fast enough to read along."""

LONG_PAUSE = 0.2
LONG_LINES = 30
"""A long answer lasts about half a minute: time to reload the page, and to press stop."""

BEAT = 0.6
"""Seconds between two events that a person should see one after the other."""

HINT = (
    'Try one of these words too: "long", "weather", "confirm", "count", "think", "steps", '
    '"headers" or "fail".'
)


class RunContext(Protocol):
    """The part of an agent's context that the demo agent uses."""

    @property
    def stop_requested(self) -> bool: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class DemoAgent:
    """Streams text, thinks, calls tools, changes state, honours stop, and fails on request.

    :param sleep: waits for a number of seconds; ``asyncio.sleep`` or ``trio.sleep``.
    """

    description = (
        "Needs no key. Streams text, thinks, calls tools, changes state, honours stop, and fails "
        "on request."
    )
    capabilities: ClassVar[Mapping[str, Any]] = {
        "identity": {"name": "Demo agent", "type": "scripted"},
        "transport": {"streaming": True, "resumable": True},
        "tools": {"supported": True, "clientProvided": True},
        "state": {"snapshots": True, "deltas": True},
        "reasoning": {"supported": True, "streaming": True},
        "humanInTheLoop": {"supported": True, "approvals": True},
    }

    def __init__(self, sleep: Sleep) -> None:
        self._sleep = sleep

    async def run(self, input: RunAgentInput, context: RunContext) -> AsyncIterator[Event]:
        """Answer the last message of ``input``.

        A stop ends the answer early. The runtime then closes open messages, as for every agent.
        """
        run = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **run}
        for event, pause in _answer(input, context):
            if context.stop_requested:
                return
            yield event
            if pause:
                await self._sleep(pause)
        yield {"type": "RUN_FINISHED", **run}


def _answer(input: RunAgentInput, context: RunContext) -> TimedEvents:
    """Choose what to do by the last message."""
    last = input.messages[-1] if input.messages else None
    if last is not None and last.role == "tool":
        return _comment(input, _text_of(last.content))
    text = last_user_text(input)
    words = set(re.findall(r"[a-z_]+", text.lower()))
    tool = _offered_tool(input.tools or [], text, words)
    if tool is not None:
        return _call_frontend_tool(input, tool, text)
    for keywords, answer in _ANSWERS:
        if words & keywords:
            return answer(input, context, text)
    return _hello(input, context, text)


def last_user_text(input: RunAgentInput) -> str:
    """The text of the last user message; "" if there is none."""
    for message in reversed(input.messages):
        if message.role == "user":
            return _text_of(message.content)
    return ""


def _text_of(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts (text, pictures,
    ...)."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(text for part in parts if isinstance(text := getattr(part, "text", None), str))


def _say(input: RunAgentInput, name: str, text: str, pause: float = TOKEN_PAUSE) -> TimedEvents:
    """Send a text message, word by word. Its id begins with the run's id, which is unique."""
    message_id = f"{input.run_id}-{name}"
    yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}, 0
    for token in re.findall(r"\s*\S+", text):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": token}, pause
    yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}, 0


def _hello(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    heard = f'You said "{text}". ' if text else ""
    yield from _say(
        input,
        "text",
        f"{heard}I am the demo agent: I need no key, and I make up every word, one at a time, so "
        f"that you can watch the events arrive. {HINT}",
    )


def _long(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    lines = [f"Line {number} of {LONG_LINES}." for number in range(1, LONG_LINES + 1)]
    lines[0] += " Reload the page, disconnect, or press stop."
    yield from _say(input, "text", "\n".join([*lines, f"That was all. {HINT}"]), LONG_PAUSE)


def _weather(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    """A tool that the server runs: its result is part of the stream."""
    found = re.search(r"\bin\s+([^\W\d_][\w'-]*)", text, re.IGNORECASE)
    city = found[1] if found else "Berlin"
    call_id = f"{input.run_id}-call"
    # The number is derived from the city's name, so that the same question gets the same answer.
    degrees = 5 + len(city) * 3 % 25
    yield from _say(input, "before", f"Let me look up the weather in {city}.")
    yield from _tool_call(input, call_id, "get_weather", {"city": city, "unit": "celsius"})
    result = {"city": city, "degrees": degrees, "sky": "made up, with sunny spells"}
    yield _tool_result(input.run_id, call_id, json.dumps(result, ensure_ascii=False)), BEAT
    yield from _say(
        input, "after", f"It is {degrees} °C in {city}, and the sky is {result['sky']}. {HINT}"
    )


def _no_tool_offered(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    yield from _say(
        input,
        "text",
        "I would ask you to confirm something now, but this client offered no tool to ask with: "
        f"it sends those as `tools`. {HINT}",
    )


def _call_frontend_tool(input: RunAgentInput, tool: Tool, text: str) -> TimedEvents:
    """A tool that the client runs: the run ends without a result, the client's next run has it."""
    yield from _say(input, "before", f"This needs your side: I am calling its tool {tool.name!r}.")
    arguments = _example_arguments(tool, f'You wrote "{text}". Shall I go on?')
    yield from _tool_call(input, f"{input.run_id}-call", tool.name, arguments)


def _comment(input: RunAgentInput, result: str) -> TimedEvents:
    """The follow-up run, which the client starts when its tool has a result."""
    yield from _say(
        input, "text", f"Thank you, your tool answered {result}. I take note of it. {HINT}"
    )


def _count(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    """State that goes on from what the client sent: once whole, then as patches."""
    state = dict(input.state) if isinstance(input.state, Mapping) else {}
    before, items = state.get("counter"), state.get("items")
    counter = before if isinstance(before, int) else 0
    items = list(items) if isinstance(items, list) else []
    snapshot = {**state, "counter": counter, "items": items}
    yield {"type": "STATE_SNAPSHOT", "snapshot": snapshot}, BEAT
    for _ in range(5):
        counter += 1
        delta = [
            {"op": "replace", "path": "/counter", "value": counter},
            {"op": "add", "path": "/items/-", "value": f"item {counter}"},
        ]
        yield {"type": "STATE_DELTA", "delta": delta}, BEAT
    yield from _say(
        input,
        "text",
        f"I counted to {counter} in the state that we share. Ask again and I go on from there. "
        f"{HINT}",
    )


def _think(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    message_id = f"{input.run_id}-reasoning"
    thoughts = (
        "Somebody asks me to think. I have no model, so I cannot. But I can stream reasoning "
        "events, and they look just like thoughts. That should do."
    )
    yield {"type": "REASONING_START", "messageId": message_id}, 0
    yield {"type": "REASONING_MESSAGE_START", "messageId": message_id, "role": "reasoning"}, 0
    for token in re.findall(r"\s*\S+", thoughts):
        content = {"type": "REASONING_MESSAGE_CONTENT", "messageId": message_id, "delta": token}
        yield content, TOKEN_PAUSE
    yield {"type": "REASONING_MESSAGE_END", "messageId": message_id}, 0
    yield {"type": "REASONING_END", "messageId": message_id}, BEAT
    yield from _say(input, "text", f"I thought about it, and the answer is yes. {HINT}")


def _steps(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    for name, sentence in (
        ("plan", "First I plan what to do."),
        ("work", "Then I do it, which takes a moment."),
        ("check", "Last I check that it was done."),
    ):
        yield {"type": "STEP_STARTED", "stepName": name}, BEAT
        yield from _say(input, name, sentence)
        yield {"type": "STEP_FINISHED", "stepName": name}, BEAT
    yield from _say(input, "text", f"All three steps are finished. {HINT}")


def _headers(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    # Only names are shown, because a value may be a secret, and the answer is stored with the
    # thread.
    names = ", ".join(sorted(context.headers))
    heard = f"These headers reached me: {names}." if names else "No header reached me."
    yield from _say(input, "text", f"{heard} I name them only, I never repeat a value. {HINT}")


def _fail(input: RunAgentInput, context: RunContext, text: str) -> TimedEvents:
    yield from _say(input, "before", f"Watch closely. {HINT}")
    for event, pause in _say(input, "text", "In the middle of this sentence I am going to"):
        if event["type"] == "TEXT_MESSAGE_END":
            raise RuntimeError("The demo agent failed, as you asked it to")
        yield event, pause


_ANSWERS: tuple[
    tuple[frozenset[str], Callable[[RunAgentInput, RunContext, str], TimedEvents]], ...
] = (
    (frozenset({"fail", "error", "crash"}), _fail),
    (frozenset({"confirm"}), _no_tool_offered),
    (frozenset({"long"}), _long),
    (frozenset({"tool", "weather"}), _weather),
    (frozenset({"count", "state"}), _count),
    (frozenset({"think"}), _think),
    (frozenset({"step", "steps"}), _steps),
    (frozenset({"header", "headers"}), _headers),
)


def _offered_tool(tools: list[Tool], text: str, words: set[str]) -> Tool | None:
    """The frontend tool to call: one that the text names, or for "confirm" the first there is.

    The agent does not call every tool that is offered, because a client offers all its tools with
    each run, and would never get another answer.
    """
    for tool in tools:
        if re.search(rf"(?<!\w){re.escape(tool.name)}(?!\w)", text, re.IGNORECASE):
            return tool
    return tools[0] if tools and "confirm" in words else None


def _example_arguments(tool: Tool, question: str) -> dict[str, Any]:
    """Arguments that fit the tool's JSON schema well enough to call it."""
    schema = tool.parameters if isinstance(tool.parameters, Mapping) else {}
    properties = schema.get("properties")
    examples: dict[str, Any] = {
        "string": question, "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}
    }  # fmt: skip
    arguments: dict[str, Any] = {}
    for name, given in (properties if isinstance(properties, Mapping) else {}).items():
        property_schema = given if isinstance(given, Mapping) else {}
        choices = property_schema.get("enum")
        kind = str(property_schema.get("type"))
        arguments[name] = (
            choices[0] if isinstance(choices, list) and choices else examples.get(kind)
        )
    return arguments


def _tool_call(
    input: RunAgentInput, call_id: str, name: str, arguments: Mapping[str, Any]
) -> TimedEvents:
    """A call whose arguments arrive in pieces, as a model writes them."""
    yield (
        {
            "type": "TOOL_CALL_START",
            "toolCallId": call_id,
            "toolCallName": name,
            "parentMessageId": f"{input.run_id}-before",
        },
        BEAT / 2,
    )
    for piece in re.findall(r".{1,6}", json.dumps(arguments, ensure_ascii=False), re.DOTALL):
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": piece}, TOKEN_PAUSE
    yield {"type": "TOOL_CALL_END", "toolCallId": call_id}, BEAT


def _tool_result(run_id: str, call_id: str, content: str) -> Event:
    return {
        "type": "TOOL_CALL_RESULT",
        "messageId": f"{run_id}-result",
        "toolCallId": call_id,
        "role": "tool",
        "content": content,
    }
