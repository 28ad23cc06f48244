"""Models of the event machines, so simple that they can be believed: lists, and no index.

Everything is worked out from all events so far, whenever somebody asks.
"""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch

Event = dict[str, Any]

NOBODY = object()
"""The owner of what is not there, and the state before there is one."""


def last_run(events: list[Event]) -> list[Event]:
    starts = [at for at, event in enumerate(events) if event["type"] == "RUN_STARTED"]
    return events[starts[-1] :] if starts else events


def is_running(events: list[Event]) -> bool:
    ends = ("RUN_FINISHED", "RUN_ERROR")
    return bool(events) and not any(event["type"] in ends for event in last_run(events))


def still_open(events: list[Event], opens: str, closes: str, field: str) -> list[Any]:
    """Return what the last run has opened and not closed: (id, tag), in that order."""
    found: list[Any] = []
    for event in last_run(events):
        if event["type"] == opens:
            found.append((event[field], event.get("subagentRunId")))
        elif event["type"] == closes:
            found = [one for one in found if one[0] != event[field]]
    return found


def open_ids(events: list[Event], kind: str) -> list[str]:
    """The open messages (``TEXT_MESSAGE``, ``REASONING_MESSAGE``) or tool calls (``TOOL_CALL``)."""
    field = "toolCallId" if kind == "TOOL_CALL" else "messageId"
    return [one[0] for one in still_open(events, f"{kind}_START", f"{kind}_END", field)]


def open_steps(events: list[Event]) -> list[tuple[str, Any]]:
    steps: list[tuple[str, Any]] = []
    for event in last_run(events):
        step = (event.get("stepName", ""), event.get("subagentRunId"))
        if event["type"] == "STEP_STARTED":
            steps.append(step)
        elif event["type"] == "STEP_FINISHED":
            steps.remove(step)
    return steps


def owner(events: list[Event], noun: str, entity_id: str | None) -> Any:
    """Whose a message or call is: its first producer's, or that of who made it anew."""
    found: Any = NOBODY
    run = last_run(events)
    for at, event in enumerate(run):
        tag = event.get("subagentRunId")
        match event["type"], noun:
            case ("TEXT_MESSAGE_START", "message") | ("REASONING_MESSAGE_START", "thought"):
                named, anew = event["messageId"], False
            case "TOOL_CALL_RESULT", "message":
                named, anew = event["messageId"], True
            case "TOOL_CALL_START", "call":
                named, anew = event["toolCallId"], False
                inherited = owner(run[:at], "message", event.get("parentMessageId"))
                tag = inherited if tag is None and inherited is not NOBODY else tag
            case _:
                continue
        if named == entity_id and (anew or found is NOBODY):
            found = tag
    return found


def agrees(events: list[Event], event: Event, noun: str, entity_id: str) -> bool:
    """The sender of ``event`` says nothing of itself, or owns the entity of the event."""
    tag = event.get("subagentRunId")
    return tag is None or owner(events, noun, entity_id) in (tag, NOBODY)


def may_follow(events: list[Event], event: Event) -> bool:
    """Return whether ``event`` is in order behind ``events``, which are."""
    type_, tag = event["type"], event.get("subagentRunId")
    if type_ == "RUN_STARTED":
        return not is_running(events)
    if not is_running(events):
        errored = bool(events) and last_run(events)[-1]["type"] == "RUN_ERROR"
        return type_ == "RUN_ERROR" and not errored
    messages, calls = open_ids(events, "TEXT_MESSAGE"), open_ids(events, "TOOL_CALL")
    kind, _, what = type_.rpartition("_")
    if kind == "TEXT_MESSAGE":
        is_open = event["messageId"] in messages
        return is_open is (what != "START") and agrees(events, event, "message", event["messageId"])
    thoughts = open_ids(events, "REASONING_MESSAGE")
    if kind == "REASONING_MESSAGE":
        is_open = event["messageId"] in thoughts
        return is_open is (what != "START") and agrees(events, event, "thought", event["messageId"])
    if kind == "TOOL_CALL" and what != "RESULT":
        call_id = event["toolCallId"]
        is_open = call_id in calls
        if is_open is (what == "START") or not agrees(events, event, "call", call_id):
            return False
        parent = owner(events, "message", event.get("parentMessageId"))
        if what != "START" or parent is NOBODY:
            return True
        # A call belongs to the message that carries it.
        known = owner(events, "call", call_id)
        return tag == parent if tag is not None else known in (parent, NOBODY)
    if kind == "STEP":
        return ((event["stepName"], tag) in open_steps(events)) is (what == "FINISHED")
    subagents = [e for e in last_run(events) if e["type"].startswith("SUBAGENT_")]
    if type_ == "SUBAGENT_STARTED":
        return all(e["subagentRunId"] != tag for e in subagents)
    if type_ in ("SUBAGENT_FINISHED", "SUBAGENT_ERROR"):
        return [e["type"] for e in subagents if e["subagentRunId"] == tag] == ["SUBAGENT_STARTED"]
    if type_ == "RUN_FINISHED":
        ended = [e for e in subagents if e["type"] != "SUBAGENT_STARTED"]
        still = messages or thoughts or calls or open_steps(events)
        return not still and len(ended) * 2 == len(subagents)
    return True


def state_after(events: list[Event]) -> Any:
    state: Any = NOBODY
    for event in events:
        if event["type"] == "STATE_SNAPSHOT":
            state = copy.deepcopy(event["snapshot"])
        elif event["type"] == "STATE_DELTA":
            state = patched({} if state is NOBODY else state, event["delta"], state)
    return None if state is NOBODY else state


def kept_deltas(events: list[Event]) -> tuple[list[Event], int]:
    """Return the deltas that a replay has, and how many of them do not apply.

    They are those that do not apply, and those behind one, up to the next snapshot.
    """
    kept, skipped, is_sure = list[Event](), 0, True
    for at, event in enumerate(events):
        if event["type"] == "STATE_SNAPSHOT":
            is_sure = True
        elif event["type"] == "STATE_DELTA":
            before = state_after(events[:at])
            known = any(one["type"] == "STATE_SNAPSHOT" for one in events[:at])
            document = {} if before is None and not known else before
            if patched(document, event["delta"], NOBODY) is NOBODY:
                skipped += 1
                is_sure = False
            if not is_sure:
                kept.append(event)
    return kept, skipped


def patched(document: Any, patch: Any, otherwise: Any) -> Any:
    try:
        return jsonpatch.apply_patch(copy.deepcopy(document), copy.deepcopy(patch))
    except Exception:
        return otherwise


def conversation_after(events: list[Event]) -> list[Event]:
    """The messages; each looked for from the beginning, and whole at any time."""
    messages: list[Event] = []

    def message(message_id: Any) -> Event | None:
        return next((m for m in messages if m["id"] == message_id), None)

    def carrier(call_id: str) -> Event | None:
        calling = (m for m in messages if any(c["id"] == call_id for c in m.get("toolCalls", ())))
        return next(calling, None)

    def add(at: int, event: Event, **fields: Any) -> Event:
        new = {key: value for key, value in fields.items() if value is not None}
        if event.get("subagentRunId") is not None:
            new["subagentRunId"] = event["subagentRunId"]
        messages.insert(at, new)
        return new

    def note(target: Event, event: Event) -> None:
        if event.get("metadata") is not None:
            target["metadata"] = {**target.get("metadata", {}), **copy.deepcopy(event["metadata"])}

    for event in copy.deepcopy(events):
        type_, message_id, call_id = event["type"], event.get("messageId"), event.get("toolCallId")
        found, end = message(message_id), len(messages)
        if type_ in ("TEXT_MESSAGE_START", "REASONING_MESSAGE_START"):
            role = "reasoning" if type_.startswith("R") else event.get("role", "assistant")
            if found is None:
                found = add(end, event, id=message_id, role=role, content="")
            note(found, event)
        elif type_ in ("TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT") and found is not None:
            found["content"] = found.get("content", "") + event["delta"]
            note(found, event)
        elif type_ in ("TEXT_MESSAGE_END", "REASONING_MESSAGE_END") and found is not None:
            note(found, event)
        elif type_ == "TOOL_CALL_START":
            holder = carrier(str(call_id))
            if holder is None:
                parent_id = event.get("parentMessageId")
                parent = message(parent_id)
                if parent is None or parent["role"] != "assistant":
                    new_id = parent_id if parent_id and parent is None else call_id
                    parent = add(end, event, id=new_id, role="assistant")
                parent.setdefault("toolCalls", []).append(
                    {"id": call_id, "type": "function", "function": {"name": "", "arguments": ""}}
                )
                holder = parent
            call = next(c for c in holder["toolCalls"] if c["id"] == call_id)
            call["function"]["name"] = event["toolCallName"]
            note(call, event)
        elif type_ in ("TOOL_CALL_ARGS", "TOOL_CALL_END"):
            holder = carrier(str(call_id))
            assert holder is not None
            call = next(c for c in holder["toolCalls"] if c["id"] == call_id)
            call["function"]["arguments"] += event.get("delta", "")
            note(call, event)
        elif type_ == "TOOL_CALL_RESULT":
            holder = carrier(str(call_id))
            at = end
            if holder is not None:
                # The result goes behind the call, and behind the results that are there already.
                at = next(i for i, m in enumerate(messages) if m is holder) + 1
                while at < end and messages[at]["role"] == "tool":
                    at += 1
            result = {"id": message_id, "toolCallId": call_id, "role": "tool"}
            note(add(at, event, **result, content=event["content"]), event)
        elif type_ == "ACTIVITY_SNAPSHOT":
            if found is None:
                found = add(end, event, id=message_id, role="activity")
            elif event.get("replace") is not False:
                found.pop("subagentRunId", None)
                if event.get("subagentRunId") is not None:
                    found["subagentRunId"] = event["subagentRunId"]
            if event.get("replace") is not False or "content" not in found:
                found.update(activityType=event["activityType"], content=event["content"])
            note(found, event)
        elif type_ == "ACTIVITY_DELTA" and found is not None:
            note(found, event)
            content = patched(found["content"], event["patch"], NOBODY)
            if content is not NOBODY:
                found.update(activityType=event["activityType"], content=content)
    return messages
