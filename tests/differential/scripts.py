"""Scripts for agents: AG-UI events of every type, in order and out of order."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

Event = dict[str, Any]

CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
DEEP: Any = "bottom"
for _ in range(60):
    DEEP = {"deeper": [DEEP]}


def simple_script(thread_id: str, run_id: str) -> list[Event]:
    return [started(thread_id, run_id), finished(thread_id, run_id)]


def started(thread_id: str, run_id: str, **fields: Any) -> Event:
    return {"type": "RUN_STARTED", "threadId": thread_id, "runId": run_id, **fields}


def finished(thread_id: str, run_id: str, **fields: Any) -> Event:
    return {"type": "RUN_FINISHED", "threadId": thread_id, "runId": run_id, **fields}


class ScriptWriter:
    """Writes the events of runs; ids are never used twice."""

    def __init__(self, random: Random, prefix: str) -> None:
        self._random = random
        self._prefix = prefix
        self._count = 0

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}-{kind}{self._count}"

    def _deltas(self) -> list[str]:
        words = ("one ", "zwei ", "", "три ", "🚀", "\n", '{"a":', "1}", "\u2028", "<b>")
        return self._random.choices(words, k=self._random.randint(0, 4))

    def script(self, thread_id: str, run_id: str) -> list[Event]:
        """A well-formed run."""
        events = [started(thread_id, run_id)]
        for _ in range(self._random.randint(0, 4)):
            events += self._decorated(self._random.choice(self.PIECES)(self))
        return [*events, finished(thread_id, run_id, **self._random.choice(FINISHES))]

    def woven(self, thread_id: str, run_id: str) -> list[Event]:
        """A well-formed run whose pieces run at the same time."""
        pieces = [self._random.choice(self.WEAVABLE)(self) for _ in range(3)]
        events = [started(thread_id, run_id)]
        while any(pieces):
            events.append(self._random.choice([piece for piece in pieces if piece]).pop(0))
        return [*events, finished(thread_id, run_id)]

    def broken(self, thread_id: str, run_id: str) -> list[Event]:
        """A run in which something is missing, doubled, out of place, or not of this protocol."""
        events = self.script(thread_id, run_id)
        while len(events) < 4:
            events = self.script(thread_id, run_id)
        for _ in range(self._random.randint(1, 2)):
            self._random.choice(self.BREAKAGES)(self, events)
        return events

    def _decorated(self, events: list[Event]) -> list[Event]:
        for event in events:
            if self._random.random() < 0.1:
                event.update(copy.deepcopy(self._random.choice(DECORATIONS)))
        return events

    # Pieces

    def text(self) -> list[Event]:
        id_ = self._id("m")
        start = {"type": "TEXT_MESSAGE_START", "messageId": id_, "role": "assistant"}
        if self._random.random() < 0.3:
            start["role"] = self._random.choice(("user", "system", "developer"))
        if self._random.random() < 0.2:
            del start["role"]
        if self._random.random() < 0.2:
            start["name"] = "ada"
        return [
            start,
            *(
                {"type": "TEXT_MESSAGE_CONTENT", "messageId": id_, "delta": delta}
                for delta in self._deltas()
            ),
            {"type": "TEXT_MESSAGE_END", "messageId": id_},
        ]

    def _text_chunks(self) -> list[Event]:
        first = {"type": "TEXT_MESSAGE_CHUNK", "messageId": self._id("m"), "role": "assistant"}
        rest = [{"type": "TEXT_MESSAGE_CHUNK", "delta": delta} for delta in self._deltas()]
        return [{**first, "delta": "start "}, *rest]

    def tool_call(self) -> list[Event]:
        id_ = self._id("c")
        start: Event = {"type": "TOOL_CALL_START", "toolCallId": id_, "toolCallName": "look_up"}
        if self._random.random() < 0.3:
            start["parentMessageId"] = self._random.choice((self._id("m"), None))
        events: list[Event] = [
            start,
            *(
                {"type": "TOOL_CALL_ARGS", "toolCallId": id_, "delta": delta}
                for delta in self._deltas()
            ),
            {"type": "TOOL_CALL_END", "toolCallId": id_},
        ]
        if self._random.random() < 0.5:
            result = {"type": "TOOL_CALL_RESULT", "toolCallId": id_, "messageId": self._id("t")}
            events.append({**result, "content": "found", "role": "tool"})
        return events

    def _said_and_called(self) -> list[Event]:
        message, call = self.text(), self.tool_call()
        call[0]["parentMessageId"] = message[0]["messageId"]
        message[0]["role"] = "assistant"
        return message + call

    def _tool_chunks(self) -> list[Event]:
        first = {
            "type": "TOOL_CALL_CHUNK",
            "toolCallId": self._id("c"),
            "toolCallName": "look_up",
        }
        if self._random.random() < 0.5:
            first["parentMessageId"] = self._id("m")
        return [
            first,
            *({"type": "TOOL_CALL_CHUNK", "delta": delta} for delta in self._deltas()),
        ]

    def _reasoning(self) -> list[Event]:
        id_ = self._id("z")
        events: list[Event] = [
            {"type": "REASONING_START", "messageId": id_},
            {"type": "REASONING_MESSAGE_START", "messageId": id_, "role": "reasoning"},
            *(
                {"type": "REASONING_MESSAGE_CONTENT", "messageId": id_, "delta": delta}
                for delta in self._deltas()
            ),
            {"type": "REASONING_MESSAGE_END", "messageId": id_},
        ]
        if self._random.random() < 0.4:
            sealed = {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": id_}
            events.append({**sealed, "encryptedValue": "0xff"})
        return [*events, {"type": "REASONING_END", "messageId": id_}]

    def _reasoning_chunks(self) -> list[Event]:
        first = {"type": "REASONING_MESSAGE_CHUNK", "messageId": self._id("z"), "delta": "let "}
        rest = [{"type": "REASONING_MESSAGE_CHUNK", "delta": delta} for delta in self._deltas()]
        return [first, *rest]

    def _thinking(self) -> list[Event]:
        return [
            {"type": "THINKING_START", "title": "plan"},
            {"type": "THINKING_TEXT_MESSAGE_START"},
            {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "hm"},
            {"type": "THINKING_TEXT_MESSAGE_END"},
            {"type": "THINKING_END"},
        ]

    def _state(self) -> list[Event]:
        snapshot = {
            "type": "STATE_SNAPSHOT",
            "snapshot": {"n": self._random.randint(0, 9), "l": []},
        }
        deltas: tuple[list[dict[str, Any]], ...] = (
            [{"op": "replace", "path": "/n", "value": 0.5}],
            [{"op": "add", "path": "/l/-", "value": {"x": None}}],
            [{"op": "add", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/a~1b"}],
            [
                {"op": "copy", "from": "/n", "path": "/m"},
                {"op": "move", "from": "/m", "path": "/o"},
            ],
            [{"op": "test", "path": "/l", "value": []}, {"op": "add", "path": "/p", "value": "🚀"}],
            [],
        )
        # The first delta alone can come after the others have changed the list.
        chosen = self._random.sample(deltas[:1] + deltas[2:], k=2)
        if self._random.random() < 0.5:
            chosen.append(deltas[1])
        return [snapshot, *({"type": "STATE_DELTA", "delta": delta} for delta in chosen)]

    def _odd_snapshot(self) -> list[Event]:
        value = self._random.choice(([1, 2], "text", 0, None, {}, {"deep": DEEP}))
        return [{"type": "STATE_SNAPSHOT", "snapshot": value}]

    def _delta(self) -> list[Event]:
        # The delta applies to every object, because the reference dies of a delta that does not.
        operation = {"op": "add", "path": f"/{self._id('k')}", "value": [None, {"a": 1}]}
        return [{"type": "STATE_DELTA", "delta": [operation]}]

    def _messages(self) -> list[Event]:
        messages = [
            {"id": self._id("u"), "role": "user", "content": "before"},
            {"id": self._id("a"), "role": "assistant", "content": "then", "toolCalls": [CALL]},
            {"id": self._id("t"), "role": "tool", "content": "42", "toolCallId": "c"},
        ]
        return [{"type": "MESSAGES_SNAPSHOT", "messages": messages}]

    def _activity(self) -> list[Event]:
        id_ = self._id("y")
        kind = {"messageId": id_, "activityType": "plan"}
        snapshot: Event = {"type": "ACTIVITY_SNAPSHOT", **kind, "content": {"tasks": ["a"]}}
        patch = [{"op": "add", "path": "/tasks/-", "value": "b"}]
        again: Event = {
            **snapshot,
            "content": {"tasks": []},
            "replace": self._random.random() < 0.5,
        }
        delta: Event = {"type": "ACTIVITY_DELTA", **kind, "patch": patch}
        return self._random.choice(([snapshot], [snapshot, delta], [snapshot, delta, again, delta]))

    def _step(self) -> list[Event]:
        name = self._id("step ")
        inside = self._random.choice((self.text, self.tool_call, self._custom))()
        return [
            {"type": "STEP_STARTED", "stepName": name},
            *inside,
            {"type": "STEP_FINISHED", "stepName": name},
        ]

    def _custom(self) -> list[Event]:
        value = self._random.choice((None, 0, "x", [1], {"a": {"b": None}}))
        return [{"type": "CUSTOM", "name": "note", "value": value}]

    def _raw(self) -> list[Event]:
        return [{"type": "RAW", "event": {"kind": "on_chain_start", "n": [1]}, "source": "chain"}]

    def _subagent(self) -> list[Event]:
        tag = {"subagentRunId": self._id("sub")}
        inside = self._random.choice(
            (self.text, self.tool_call, self._reasoning, self._step, self._custom, self._raw)
        )()
        if self._random.random() < 0.3:
            end: Event = {"type": "SUBAGENT_ERROR", **tag, "message": "gave up", "code": "TIRED"}
        else:
            end = {"type": "SUBAGENT_FINISHED", **tag}
            if self._random.random() < 0.5:
                end["outcome"] = {"type": "suspended", "interruptIds": ["i"]}
        started = {"type": "SUBAGENT_STARTED", **tag, "name": "scout", "description": "looks"}
        return [started, *({**event, **tag} for event in inside), end]

    PIECES = (
        text,
        text,
        _text_chunks,
        _text_chunks,
        tool_call,
        _said_and_called,
        _tool_chunks,
        _reasoning,
        _reasoning_chunks,
        _thinking,
        _state,
        _odd_snapshot,
        _messages,
        _activity,
        _step,
        _custom,
        _raw,
        _subagent,
    )
    WEAVABLE = (text, tool_call, _reasoning, _step, _subagent, _activity, _custom)

    # Faults of a script

    def _drop(self, events: list[Event]) -> None:
        kept = [i for i, event in enumerate(events) if event["type"] != "STATE_SNAPSHOT"]
        del events[self._random.choice(kept)]

    def _double(self, events: list[Event]) -> None:
        position = self._random.randrange(len(events))
        events.insert(position, copy.deepcopy(events[position]))

    def _swap(self, events: list[Event]) -> None:
        places = [i for i, event in enumerate(events) if not event["type"].startswith("STATE")]
        if len(places) > 1:
            one, other = self._random.sample(places, 2)
            events[one], events[other] = events[other], events[one]

    def _cut(self, events: list[Event]) -> None:
        if len(events) > 1:
            del events[self._random.randrange(1, len(events)) :]

    def _fail(self, events: list[Event]) -> None:
        error = {"type": "RUN_ERROR", "message": "no credit left"}
        if self._random.random() < 0.5:
            error["code"] = "QUOTA"
        events.insert(self._random.randrange(len(events) + 1), error)

    def _go_on(self, events: list[Event]) -> None:
        events += self._random.choice(self.PIECES)(self)

    def _run_again(self, events: list[Event]) -> None:
        again = started("other thread", self._id("run"))
        events += [again, *self.text(), {**again, "type": "RUN_FINISHED"}]

    def _stray(self, events: list[Event]) -> None:
        stray = self._random.choice(STRAYS)
        events.insert(self._random.randrange(1, len(events) + 1), copy.deepcopy(stray))

    BREAKAGES = (_drop, _drop, _double, _swap, _cut, _fail, _go_on, _run_again, _stray, _stray)


FINISHES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"result": {"ok": [True, None]}},
    {"result": None},
    {"outcome": {"type": "success"}},
    {"outcome": None},
    {"outcome": {"type": "interrupt", "interrupts": [{"id": "i", "reason": "confirm"}]}},
    {"usage": [{"provider": "p", "model": "m", "inputTokens": 3, "outputTokens": 5}]},
)

DECORATIONS: tuple[dict[str, Any], ...] = (
    {"timestamp": 1700000000000},
    {"timestamp": 1700000000000.5},
    {"rawEvent": {"kind": "x", "n": [None]}},
    {"metadata": {"ag-ui": {"k": 1}, "mine": [None]}},
    {"metadata": {}},
    {"extra": {"kept": True}},
)

STRAYS: tuple[Event, ...] = (
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "never started", "delta": "x"},
    {"type": "TEXT_MESSAGE_END", "messageId": "never started"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "never started", "delta": "x"},
    {"type": "TOOL_CALL_END", "toolCallId": "never started"},
    {"type": "TOOL_CALL_RESULT", "toolCallId": "x", "messageId": "stray result", "content": "y"},
    {"type": "TEXT_MESSAGE_CHUNK", "delta": "whose?"},
    {"type": "TOOL_CALL_CHUNK", "delta": "whose?"},
    {"type": "TOOL_CALL_CHUNK", "toolCallId": "no name", "delta": "x"},
    {"type": "REASONING_MESSAGE_CHUNK", "delta": "whose?"},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "never started", "delta": "x"},
    {"type": "REASONING_END", "messageId": "never started"},
    {"type": "THINKING_END"},
    {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "x"},
    {"type": "STEP_FINISHED", "stepName": "never started"},
    {"type": "ACTIVITY_DELTA", "messageId": "none", "activityType": "plan", "patch": []},
    {"type": "SUBAGENT_FINISHED", "subagentRunId": "never started"},
    {"type": "SUBAGENT_STARTED", "subagentRunId": "s", "name": "s", "parentSubagentRunId": "x"},
    {"type": "RUN_STARTED", "threadId": "again", "runId": "again"},
    {"type": "RUN_FINISHED", "threadId": "early", "runId": "early"},
    {"type": "CUSTOM", "name": "tagged", "value": 1, "subagentRunId": "nobody"},
    {"type": "NO_SUCH_TYPE", "x": 1},
)

OVERLAPS: dict[str, tuple[Event, ...]] = {
    "a message inside of another": (
        {"type": "TEXT_MESSAGE_START", "messageId": "outer", "role": "assistant"},
        {"type": "TEXT_MESSAGE_START", "messageId": "inner", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "inner", "delta": "x"},
        {"type": "TEXT_MESSAGE_END", "messageId": "inner"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "outer", "delta": "y"},
        {"type": "TEXT_MESSAGE_END", "messageId": "outer"},
    ),
    "a snapshot inside of a tool call": (
        {"type": "TOOL_CALL_START", "toolCallId": "outer", "toolCallName": "f"},
        {
            "type": "MESSAGES_SNAPSHOT",
            "messages": [{"id": "before", "role": "user", "content": "hi"}],
        },
        {"type": "TOOL_CALL_END", "toolCallId": "outer"},
    ),
    "an error inside of a message": (
        {"type": "TEXT_MESSAGE_START", "messageId": "open", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "open", "delta": "x"},
        {"type": "RUN_ERROR", "message": "no credit left"},
    ),
}

NULL_TAG: Event = {"type": "CUSTOM", "name": "tagged", "value": 1, "subagentRunId": None}

# These events lack a member that their type requires, or have a wrong value there; the name is that
# of the member.
WRONG_EVENTS: tuple[tuple[str, Event], ...] = (
    ("messageId", {"type": "TEXT_MESSAGE_START"}),
    ("messageId", {"type": "TEXT_MESSAGE_START", "messageId": 5}),
    ("delta", {"type": "THINKING_TEXT_MESSAGE_CONTENT"}),
    ("toolCallName", {"type": "TOOL_CALL_START", "toolCallId": "c"}),
    ("stepName", {"type": "STEP_STARTED"}),
    ("name", {"type": "CUSTOM"}),
    ("messages", {"type": "MESSAGES_SNAPSHOT"}),
    ("content", {"type": "ACTIVITY_SNAPSHOT", "messageId": "y", "activityType": "plan"}),
    ("message", {"type": "RUN_ERROR"}),
)
