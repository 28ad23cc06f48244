"""The requests that both runtimes are sent: generated, the same ones for the same seed.

A conversation is a list of steps that share a server, and mostly a thread. What is random is how
the parts are put together; each part is listed somewhere, so that every one of them is certain to
be sent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

import attrs
from differential.inputs import USER, bodies
from differential.routes import cross_origin, envelopes, routing, stops
from differential.scripts import (
    NULL_TAG,
    OVERLAPS,
    STRAYS,
    WRONG_EVENTS,
    ScriptWriter,
    finished,
    simple_script,
    started,
)
from differential.steps import BASE, JSON_TYPE, Conversation, Step, encode

from sansio_copilot.events import expand_chunks, fold_messages, verify_events
from sansio_copilot.testing import run_input


def conversations(seed: int = 1) -> list[Conversation]:
    """Everything that is sent, in order."""
    random = Random(seed)
    return [
        [Step("empty store", "plain", "POST", f"{BASE}/threads/clear")],
        *([step] for step in routing(random)),
        *([step] for step in cross_origin(random)),
        *([step] for step in bodies(random)),
        [Step("empty store", "plain", "POST", f"{BASE}/threads/clear")],
        *([step] for step in stops(random)),
        *([step] for step in envelopes(random)),
        *_runs(random),
        *_dialogues(random),
        *_live(random),
        [Step("empty store", "plain", "POST", f"{BASE}/threads/clear")],
        [Step("empty list", "plain", "GET", f"{BASE}/threads")],
    ]


def _run(body: dict[str, Any], about: str, **fields: Any) -> Step:
    agent_id = fields.pop("agent_id", "default")
    target = f"{BASE}/agent/{agent_id}/run"
    return Step(about, "plain", "POST", target, (JSON_TYPE,), encode(body), **fields)


def _look(thread_id: str, about: str) -> Conversation:
    """Everything that can be asked about a thread."""
    connect = encode(run_input(thread_id, "again"))
    thread = f"{BASE}/threads/{thread_id}"
    return [
        Step(f"{about}: replay", "plain", "POST", f"{BASE}/agent/default/connect", (), connect),
        Step(f"{about}: messages", "plain", "GET", f"{thread}/messages"),
        Step(f"{about}: state", "plain", "GET", f"{thread}/state"),
        Step(f"{about}: events", "plain", "GET", f"{thread}/events"),
    ]


def _runs(random: Random) -> Iterator[Conversation]:
    """Runs of every kind, each on a thread of its own, and requests for what it leaves."""
    for number in range(140):
        thread_id = f"run-{number}"
        writer = ScriptWriter(random, thread_id)
        props: dict[str, Any] = {}
        if number < 50:
            about, props["script"] = "run", writer.script(thread_id, "r")
        elif number < 65:
            about, props["script"] = "woven run", writer.woven(thread_id, "r")
        elif number < 120:
            about, props["script"] = "broken run", writer.broken(thread_id, "r")
        else:
            about, props["script"] = "failing run", writer.script(thread_id, "r")
            del props["script"][random.randrange(len(props["script"]) + 1) :]
            props["fail"] = random.choice(("the model is out of reach", "", "🚀"))
        body = run_input(thread_id, "r", messages=[USER], forwardedProps=props)
        yield [_run(body, about), *_look(thread_id, about)]
        if number % 7 == 0:
            target = f"{BASE}/agent/research-agent/suggest"
            step = Step(f"suggest, {about}", "plain", "POST", target, (JSON_TYPE,), encode(body))
            yield [attrs.evolve(step, about="suggest that fails") if "fail" in props else step]
    for position, stray in enumerate(STRAYS):
        thread_id = f"stray-{position}"
        script = [started(thread_id, "r"), stray, finished(thread_id, "r")]
        body = run_input(thread_id, "r", forwardedProps={"script": script})
        yield [_run(body, "stray"), *_look(thread_id, "stray")]
        script = [stray]
        thread_id = f"only-{position}"
        body = run_input(thread_id, "r", forwardedProps={"script": script})
        yield [_run(body, "stray"), *_look(thread_id, "stray")]
    for position, (about, events) in enumerate(OVERLAPS.items()):
        thread_id = f"overlap-{position}"
        script = [started(thread_id, "r"), *events, finished(thread_id, "r")]
        body = run_input(thread_id, "r", forwardedProps={"script": script})
        yield [_run(body, about), *_look(thread_id, about)]
    script = [started("null-tag", "r"), NULL_TAG, finished("null-tag", "r")]
    body = run_input("null-tag", "r", forwardedProps={"script": script})
    yield [_run(body, "null tag"), *_look("null-tag", "null tag")]
    for position, (field, event) in enumerate(WRONG_EVENTS):
        thread_id = f"wrong-{position}"
        script = [started(thread_id, "r"), event, finished(thread_id, "r")]
        body = run_input(thread_id, "r", forwardedProps={"script": script})
        yield [_run(body, f"wrong event: {field}")]
    thread_id = "two-runs"
    first = simple_script(thread_id, "one")
    script = [*first, started(thread_id, "two"), *ScriptWriter(random, thread_id).text()[:-1]]
    body = run_input(thread_id, "r", forwardedProps={"script": script})
    yield [_run(body, "two runs"), *_look(thread_id, "two runs")]
    yield from _states()


def _states() -> Iterator[Conversation]:
    """A state that the client sends, and what a run makes of it."""
    delta = {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/b", "value": 2}]}
    snapshot = {"type": "STATE_SNAPSHOT", "snapshot": {"c": 3}}
    cases: tuple[tuple[dict[str, Any], list[dict[str, Any]]], ...] = (
        ({"a": 1}, []),
        ({"a": 1}, [snapshot, delta]),
        ({"a": 1}, [delta, snapshot]),
        ({}, [delta, delta]),
        ({}, [snapshot, {**snapshot, "snapshot": None}]),
        ({"a": 1}, [delta]),
    )
    for position, (given, events) in enumerate(cases):
        thread_id = f"state-{position}"
        about = "state without snapshot" if given and events == [delta] else "state"
        script = [started(thread_id, "r"), *events, finished(thread_id, "r")]
        body = run_input(thread_id, "r", state=given, forwardedProps={"script": script})
        yield [_run(body, about), *_look(thread_id, about)]


def _dialogues(random: Random) -> Iterator[Conversation]:
    """Several runs on a thread, each sent what a client has by then."""
    for number in range(25):
        thread_id = f"dialogue-{number}"
        writer = ScriptWriter(random, thread_id)
        messages: list[dict[str, Any]] = []
        steps: Conversation = []
        for turn in range(random.randint(2, 3)):
            run_id = f"r{turn}"
            messages = [*messages, {"id": f"{thread_id}-u{turn}", "role": "user", "content": "go"}]
            script = writer.script(thread_id, run_id)
            body = run_input(
                thread_id, run_id, messages=messages, forwardedProps={"script": script}
            )
            agent_id = random.choice(("default", "default", "research-agent"))
            steps.append(_run(body, "dialogue", agent_id=agent_id))
            messages = fold_messages(verify_events(expand_chunks(copy.deepcopy(script))), messages)
            if random.random() < 0.4:
                steps += _look(thread_id, "dialogue")
        steps += _look(thread_id, "dialogue")
        steps += [
            Step("list", "plain", "GET", f"{BASE}/threads?agentId=research-agent"),
            Step("list", "plain", "GET", f"{BASE}/threads"),
            Step("stop", "plain", "POST", f"{BASE}/agent/default/stop/{thread_id}"),
        ]
        if random.random() < 0.2:
            steps.append(Step("clear", "plain", "POST", f"{BASE}/threads/clear"))
            steps += _look(thread_id, "cleared")
        yield steps


def _live(random: Random) -> Iterator[Conversation]:
    """Requests that can be made about a run while it waits."""
    for number in range(8):
        thread_id = f"live-{number}"
        writer = ScriptWriter(random, thread_id)
        script = [started(thread_id, "r"), *writer.text()[:-1], *writer.tool_call()[:1]]
        if number == 0:
            script = []
        if number == 1:
            script = [started(thread_id, "r")]
        props = {"script": script, "wait": True}
        body = run_input(thread_id, "r", messages=[USER], forwardedProps=props)
        stop = f"{BASE}/agent/default/stop/{thread_id}"
        steps = [_run(body, "live", hold=len(script))]
        if number % 2:
            other = run_input(thread_id, "s")
            steps.append(_run(other, "busy thread"))
        wrong = encode({"runId": "another"})
        connect = encode(run_input(thread_id, "reader"))
        steps += [
            Step(
                "live: replay",
                "plain",
                "POST",
                f"{BASE}/agent/default/connect",
                (JSON_TYPE,),
                connect,
                hold=len(script),
            ),
            Step("live: messages", "plain", "GET", f"{BASE}/threads/{thread_id}/messages"),
            Step("stop another", "plain", "POST", stop, (JSON_TYPE,), wrong),
            Step("stop", "plain", "POST", stop, (JSON_TYPE,), encode({"runId": "r"})),
            Step("stopped", "plain", kind="finish"),
            Step("stopped: replay", "plain", kind="finish"),
            Step("stop again", "plain", "POST", stop),
        ]
        about = "stopped at once" if not script else "stopped"
        yield steps + _look(thread_id, about)
        again = run_input(
            thread_id, "r2", forwardedProps={"script": simple_script(thread_id, "r2")}
        )
        yield [_run(again, about), *_look(thread_id, about)]
