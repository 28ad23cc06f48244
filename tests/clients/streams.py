"""Streams to be read by the clients: whatever the runtime sends, of everything there is to run.

Each is kept as a client gets it: live, as the one who sent the body sees it, and replayed, as
everybody sees it on each reload.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs
from conformance.agents import FAILING, SHAPES
from conformance.contract import find_server
from conformance.faulty_agents import GARBAGE, ODD
from conformance.process import Server
from differential.generate import conversations
from support.events import TYPES, well_formed
from support.vectors import CONFIGS, load, scripted_agents

from sansio_copilot import CopilotRuntime
from sansio_copilot.testing import Client, run_input

Event = dict[str, Any]
BASE = "/api/copilotkit"
CASES = Path(__file__).parents[1] / "cases" / "streams.json"
STARTED: Event = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED: Event = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


@attrs.frozen
class Stream:
    """A stream that one client was sent.

    :param frames: the body of the response.
    """

    name: str
    frames: bytes = attrs.field(repr=False)


class _Thread:
    """A thread in a runtime of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._client = Client(CopilotRuntime(scripted_agents(), cors=False))

    def run(self, body: Any) -> Iterator[Stream]:
        answer = self._client.post(f"{BASE}/agent/default/run", json=body)
        if answer.status == 200:
            yield Stream(f"{self._name}: live", answer.body)

    def stopped(self, body: Any, after: int) -> Iterator[Stream]:
        """A run that somebody stops after so many events."""
        stream = self._client.stream("POST", f"{BASE}/agent/default/run", json=body)
        for _ in range(after):
            stream.next()
        assert self._client.post(f"{BASE}/agent/default/stop/{body['threadId']}").status == 200
        yield Stream(f"{self._name}: live", stream.finish().body)

    def replay(self, thread_id: str) -> Iterator[Stream]:
        connect = run_input(thread_id, "reader")
        answer = self._client.post(f"{BASE}/agent/default/connect", json=connect)
        assert answer.status == 200
        yield Stream(f"{self._name}: replayed", answer.body)
        for what in ("messages", "events", "state"):
            assert self._client.get(f"{BASE}/threads/{thread_id}/{what}").status == 200


def of_script(name: str, script: Sequence[Any], **props: Any) -> Iterator[Stream]:
    """An agent that yields ``script``, live and replayed."""
    thread = _Thread(name)
    body = run_input("t", "r", forwardedProps={"script": list(script), **props})
    yield from thread.run(body)
    yield from thread.replay("t")


def in_a_run(events: Sequence[Event]) -> list[Event]:
    """``events`` between the start and the end of a run, unless they bring their own."""
    start = [] if events and events[0].get("type") == "RUN_STARTED" else [STARTED]
    ends = {"RUN_FINISHED", "RUN_ERROR"}
    return [*start, *events, *([] if events and events[-1].get("type") in ends else [FINISHED])]


def of_cases() -> Iterator[Stream]:
    cases = json.loads(CASES.read_text("utf-8"))
    for name, events in cases["events"].items():
        yield from of_script(f"case {name}", in_a_run(events))
    for name, fields in cases["bodies"].items():
        thread = _Thread(f"body {name}")
        props = {"script": [STARTED, FINISHED]}
        yield from thread.run(run_input("t", "r", **fields, forwardedProps=props))
        yield from thread.replay("t")


def of_vectors() -> Iterator[Stream]:
    for number, case in enumerate(load("runs.json")):
        thread = _Thread(f"runs.json {number}")
        yield from thread.run(case["body"])
        yield from thread.replay(case["body"]["threadId"])
    for file in ("compact.json", "finalize.json"):
        for number, case in enumerate(load(file)):
            yield from of_script(f"{file} {number}", case["events"])
    for number, case in enumerate(load("http.json")):
        request = case["request"]
        if case["expect"]["headers"].get("content-type") != "text/event-stream":
            continue
        client = Client(CopilotRuntime(scripted_agents(), **CONFIGS[case["config"]]))
        answer = client.request(
            request["method"],
            BASE + request["path"],
            headers=request.get("headers") or {},
            body=request.get("body", ""),
        )
        yield Stream(f"http.json {number}", answer.body)


def of_differential(seed: int = 1) -> Iterator[Stream]:
    """The bodies and scripts that both runtimes are sent in tests/differential."""
    for number, conversation in enumerate(conversations(seed)):
        client = Client(CopilotRuntime(scripted_agents(), cors=False))
        for step in conversation:
            if step.kind != "request" or step.hold is not None or step.configuration != "plain":
                continue
            answer = client.request(
                step.method, step.target, headers=list(step.headers), body=step.body or b""
            )
            if answer.headers.get("content-type") == "text/event-stream":
                yield Stream(f"differential {number}, {step.about}", answer.body)


def of_fault_agents() -> Iterator[Stream]:
    """The streams are made by a server, since most of these agents wait for an event loop."""
    server = Server(find_server("asyncio_server"))
    try:
        server.wait_ready()
        alone = ("yields-nothing", "of-another-thread", "goes-on-after-its-end", "ends-twice")
        runs: list[tuple[str, str, dict[str, Any]]] = [
            (name, name, {}) for name in (*SHAPES, *FAILING, *alone, "text", "mirror")
        ]
        for agent in ("yields-what", "yields-what-plain"):
            runs += [(f"{agent} {what}", agent, {"what": what}) for what in (*GARBAGE, *ODD)]
        for name, agent, props in runs:
            live = server.run("run", name, agent=agent, forwardedProps=props)
            yield Stream(f"fault {name}: live", live.body)
            yield Stream(f"fault {name}: replayed", server.run("connect", name).body)
        problems = server.end()
        assert not problems, problems
    finally:
        server.kill()
        server.close_log()


# The run has everything open that can be open when somebody stops it.
LONG: list[Event] = [
    STARTED,
    {"type": "STEP_STARTED", "stepName": "s"},
    {"type": "REASONING_START", "messageId": "span"},
    {"type": "REASONING_MESSAGE_START", "messageId": "z", "role": "reasoning"},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "z", "delta": "hm"},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "hi"},
    {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f", "parentMessageId": "m"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{"},
    {"type": "SUBAGENT_STARTED", "subagentRunId": "s1", "name": "n"},
    {"type": "REASONING_MESSAGE_START", "messageId": "z1", "subagentRunId": "s1"},
    {"type": "REASONING_START", "messageId": "z1", "subagentRunId": "s1"},
    {"type": "THINKING_START", "title": "so"},
    {"type": "THINKING_TEXT_MESSAGE_START"},
    {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "x"},
]


def of_stops() -> Iterator[Stream]:
    for after in range(len(LONG)):
        thread = _Thread(f"stopped after {after}")
        body = run_input("t", "r", forwardedProps={"script": LONG})
        yield from thread.stopped(body, after)
        yield from thread.replay("t")
        again = run_input("t", "r2", forwardedProps={"script": [{**STARTED, "runId": "r2"}]})
        yield from thread.run(again)
        yield from thread.replay("t")


# -- mutations -----------------------------------------------------------------------------

WRONG: tuple[Any, ...] = (None, "x", "", 7, 1.5, True, [], {}, [None], {"x": None}, float("nan"))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield each member and element of ``value``, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from _places(item, (*path, key))


def mutated(event: Event, path: tuple[Any, ...], change: Any) -> Event:
    """``event`` with something else at ``path``, or nothing, or more beside it."""
    changed = copy.deepcopy(event)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    if change is ...:
        del holder[path[-1]]
    elif change == "extra":
        if isinstance(holder, dict):
            # The members are unknown ones, and names of members that other types have.
            more = {"extra": {"x": 1}, "messageId": [1], "toolCallId": 1, "subagentRunId": {}}
            holder.update({name: value for name, value in more.items() if name not in holder})
        else:
            holder.append({"x": 1})
    else:
        holder[path[-1]] = change
    return changed


def around(event: Event) -> list[Event]:
    """A run in which ``event`` may come."""
    before: list[Event] = [
        {"type": "SUBAGENT_STARTED", "subagentRunId": "x", "name": "n"},
        {"type": "TEXT_MESSAGE_START", "messageId": "x", "role": "assistant"},
        {"type": "TOOL_CALL_START", "toolCallId": "x", "toolCallName": "f"},
        {"type": "REASONING_START", "messageId": "x"},
        {"type": "REASONING_MESSAGE_START", "messageId": "x", "role": "reasoning"},
        {"type": "STEP_STARTED", "stepName": "x"},
    ]
    type_ = event["type"]
    if type_ == "RUN_STARTED":
        return [event, FINISHED]
    if type_ in ("RUN_FINISHED", "RUN_ERROR"):
        return [STARTED, event]
    opens = [one for one in before if type_.rpartition("_")[0] == one["type"].rpartition("_")[0]]
    return [STARTED, *([] if type_.endswith(("_START", "_STARTED")) else opens), event]


def of_mutations(seed: int, count: int) -> Iterator[Stream]:
    """Events that are wrong in one or two places, of every type and in every place."""
    random = Random(seed)
    places = [
        (type_, path)
        for type_ in TYPES
        for path in _places(well_formed(type_, whole=True))
        if path != ("type",)
    ]
    changes = (..., "extra", *WRONG)
    singles = [(type_, [(path, change)]) for type_, path in places for change in changes]
    chosen = singles if count >= len(singles) else random.sample(singles, count)
    for number, (type_, edits) in enumerate(chosen):
        event = well_formed(type_, whole=True)
        if "subagentRunId" in event and not type_.startswith("SUBAGENT"):
            del event["subagentRunId"]
        for path, change in edits:
            try:
                event = mutated(event, path, change)
            except (KeyError, IndexError, TypeError):
                continue
        yield from of_script(f"mutation {number} {type_} {edits}", around(event))
