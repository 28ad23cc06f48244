"""The agents that the pages talk to; those of the client tests, and what a page shows beside them.

They are plain AG-UI agents, so that the reference runtime can be put in front of them as well.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ag_ui.core import RunAgentInput
from clients import agents as common
from clients.agents import Event

MARKDOWN = """\
# A title

Some **bold** and `code`, and [a link](https://example.com/).

| city | weather |
| --- | --- |
| Köln | sunny |

1. one
2. two

```python
print("hello")
```
"""


def _events(input: RunAgentInput, *events: Event) -> Iterator[Event]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield from events
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def _text(input: RunAgentInput, *deltas: str) -> list[Event]:
    message_id = f"{input.run_id}-text"
    return [
        {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"},
        *(
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}
            for delta in deltas
        ),
        {"type": "TEXT_MESSAGE_END", "messageId": message_id},
    ]


def _call(input: RunAgentInput, name: str, arguments: dict[str, Any], number: int = 0) -> Any:
    """A call whose arguments arrive in two pieces."""
    call_id, text = f"{input.run_id}-call-{number}", json.dumps(arguments, ensure_ascii=False)
    parent = {"parentMessageId": f"{input.run_id}-calls"}
    middle = len(text) // 2
    return [
        {"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": name, **parent},
        {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": text[:middle]},
        {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": text[middle:]},
        {"type": "TOOL_CALL_END", "toolCallId": call_id},
    ]


def _result(input: RunAgentInput, content: str, number: int = 0) -> Event:
    call_id = f"{input.run_id}-call-{number}"
    return {
        "type": "TOOL_CALL_RESULT",
        "messageId": f"{call_id}-result",
        "toolCallId": call_id,
        "content": content,
        "role": "tool",
    }


def _last_results(input: RunAgentInput) -> list[str]:
    """Return what the page has answered since the agent spoke last."""
    results: list[str] = []
    for message in reversed(input.messages):
        if message.role != "tool":
            break
        results.insert(0, str(message.content))
    return results


def markdown(input: RunAgentInput, context: Any) -> Iterator[Event]:
    yield from _events(input, *_text(input, *(MARKDOWN[i : i + 7] for i in range(0, 200, 7))))


def weather(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Calls a tool of the page, and with its result answers the user."""
    if results := _last_results(input):
        yield from _events(input, *_text(input, f"It is {results[0]}."))
    else:
        yield from _events(input, *_call(input, "get_weather", {"city": "Köln"}))


def two_tools(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Calls two tools of the page at once."""
    if results := _last_results(input):
        yield from _events(input, *_text(input, f"Done: {' and '.join(results)}."))
    else:
        first = _call(input, "get_weather", {"city": "Köln"}, 0)
        yield from _events(input, *first, *_call(input, "switch_light", {"to": "on"}, 1))


def confirms(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Asks the user by a tool of the page."""
    if results := _last_results(input):
        yield from _events(input, *_text(input, f"You said {results[0]}."))
    else:
        yield from _events(input, *_call(input, "confirm", {"question": "Really delete?"}))


def searches(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Calls tools of its own, which the page only shows."""
    yield from _events(
        input,
        *_call(input, "search", {"query": "sans-I/O"}, 0),
        _result(input, "three hits", 0),
        *_call(input, "count", {"of": "hits"}, 1),
        _result(input, "3", 1),
        *_text(input, "I found three."),
    )


def interrupts(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Ends its run with a question, and goes on with the answer to it."""
    if input.resume:
        entry = input.resume[0]
        answer = "approved" if entry.status == "resolved" else "cancelled"
        yield from _events(input, *_text(input, f"It was {answer}: {json.dumps(entry.payload)}."))
        return
    *begun, finished = _events(input, *_text(input, "One moment."))
    yield from begun
    asked = {"id": f"{input.run_id}-ask", "reason": "approval", "message": "Pay 10 euros?"}
    yield {**finished, "outcome": {"type": "interrupt", "interrupts": [asked]}}


def asks(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Interrupts as LangGraph's agents did, by an event of their own."""
    props = input.forwarded_props or {}
    if command := props.get("command"):
        yield from _events(input, *_text(input, f"You answered {command['resume']}."))
    else:
        yield from _events(
            input, {"type": "CUSTOM", "name": "on_interrupt", "value": "Which colour?"}
        )


def plans(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Shows an activity, and changes it."""
    plan = {"messageId": f"{input.run_id}-plan", "activityType": "plan"}
    yield from _events(
        input,
        {"type": "ACTIVITY_SNAPSHOT", **plan, "content": {"steps": ["look"]}, "replace": True},
        {
            "type": "ACTIVITY_DELTA",
            **plan,
            "patch": [
                {"op": "add", "path": "/steps/-", "value": "think"},
                {"op": "add", "path": "/done", "value": True},
            ],
        },
        *_text(input, "That is the plan."),
    )


def paints(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Shows a surface of its own (A2UI), and goes on when its button is pressed."""
    action = (input.forwarded_props or {}).get("a2uiAction")
    if action is not None:
        pressed = action["userAction"]["name"]
        yield from _events(input, *_text(input, f"You pressed {pressed}."))
        return
    surface, version = f"{input.run_id}-surface", {"version": "v0.9"}
    catalog = "https://a2ui.org/specification/v0_9/basic_catalog.json"
    components = [
        {"id": "root", "component": "Column", "children": ["price", "buy"]},
        {"id": "price", "component": "Text", "text": "It costs 10 euros"},
        {
            "id": "buy",
            "component": "Button",
            "child": "label",
            "action": {"event": {"name": "buy", "context": {}}},
        },
        {"id": "label", "component": "Text", "text": "Buy it"},
    ]
    operations = [
        {**version, "createSurface": {"surfaceId": surface, "catalogId": catalog}},
        {**version, "updateComponents": {"surfaceId": surface, "components": components}},
    ]
    yield from _events(
        input,
        {
            "type": "ACTIVITY_SNAPSHOT",
            "messageId": surface,
            "activityType": "a2ui-surface",
            "content": {"a2ui_operations": operations},
            "replace": True,
        },
        *_text(input, "That is the offer."),
    )


def sees(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Says what the parts of the last message are."""
    content = input.messages[-1].content
    parts: list[Any] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    )
    seen = []
    for part in parts:
        data = part if isinstance(part, dict) else part.model_dump(by_alias=True)
        source = data.get("source") or {}
        seen.append(f"{data['type']}:{data.get('text') or source.get('mimeType')}")
    yield from _events(input, *_text(input, f"I see {', '.join(seen)}"))


def remembers(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Counts the messages that it was given: is anything sent twice, or lost?"""
    said = [str(message.content) for message in input.messages if message.role == "user"]
    yield from _events(input, *_text(input, f"You said: {' / '.join(said)}"))


async def pauses(input: RunAgentInput, context: Any) -> AsyncIterator[Event]:
    """Waits at a gate in the middle of what `at` says, a thought or a call, unless it is open."""
    props: Any = input.forwarded_props
    thought = {"messageId": f"{input.run_id}-thought"}
    thinks = [
        {"type": "REASONING_START", **thought},
        {"type": "REASONING_MESSAGE_START", **thought, "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", **thought, "delta": "let me think"},
        {"type": "REASONING_MESSAGE_CONTENT", **thought, "delta": " about it"},
        {"type": "REASONING_MESSAGE_END", **thought},
        {"type": "REASONING_END", **thought},
    ]
    calls = [*_call(input, "search", {"query": "sans-I/O"}), _result(input, "three hits")]
    middle = {"thought": "REASONING_MESSAGE_CONTENT", "call": "TOOL_CALL_ARGS"}[props["at"]]
    for event in _events(input, *thinks, *calls, *_text(input, "here it is")):
        yield event
        if event["type"] == middle:
            await common.gate(input).wait()


def snaps(input: RunAgentInput, context: Any) -> Iterator[Event]:
    """Ends with a snapshot of the conversation, as LangGraph's agents do."""
    messages = [message.model_dump(by_alias=True, exclude_none=True) for message in input.messages]
    answer = {"id": f"{input.run_id}-text", "role": "assistant", "content": "streamed"}
    yield from _events(
        input,
        *_text(input, "str", "eamed"),
        {"type": "MESSAGES_SNAPSHOT", "messages": [*messages, answer]},
    )


AGENTS: dict[str, Any] = {
    **common.AGENTS,
    "default": common.AGENTS["suggester"],
    "markdown": markdown,
    "weather": weather,
    "two_tools": two_tools,
    "confirms": confirms,
    "searches": searches,
    "interrupts": interrupts,
    "asks": asks,
    "plans": plans,
    "paints": paints,
    "sees": sees,
    "remembers": remembers,
    "pauses": pauses,
    "snaps": snaps,
}
