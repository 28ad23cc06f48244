"""A reload shows the same as was shown live: the clients' own folding is the judge."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from support.streams import STARTED, streams

from sansio_copilot import json_codec
from sansio_copilot.events import compact_events, fold_messages
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.sse import frame_data
from sansio_copilot.stores.protocol import Orphan, RunKey
from sansio_copilot.testing import run_input

HERE = Path(__file__).parent
GENERATIONS = ("0.0.59", "1.0.0")
Event = dict[str, Any]


class Clients:
    """Clients of both generations, in one process of Node."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.judged = dict.fromkeys(GENERATIONS, 0)

    def look(self, runs: list[Any], replay: list[Event]) -> dict[str, list[Any]]:
        """Return what a client that was there sees, and one that connects later, by generation."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json_codec.encode({"runs": runs, "replay": replay}) + b"\n")
        stdin.flush()
        answer: dict[str, list[Any]] = json.loads(stdout.readline())
        return answer

    def agree(
        self, runs: list[Any], replay: list[Event], *, is_sent: bool = True
    ) -> list[list[Event]]:
        """See that a reload shows what was live, and is gone on from in the same way.

        :param is_sent: whether a runtime has sent the streams, so that each generation reads them
            live. Another stream may be refused, and shows nothing then.
        :returns: the messages, of each generation that read it.
        """
        shown = []
        for generation, (live, reloaded) in self.look(runs, replay).items():
            if is_sent:
                assert "error" not in live, generation
            if "error" not in live:
                self.judged[generation] += 1
                assert reloaded == live, generation
                shown.append(live["messages"])
        return shown

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """See that what is done meanwhile is not for nothing: each generation reads streams."""
        before = dict(self.judged)
        yield
        judged = {
            generation: count - before[generation] for generation, count in self.judged.items()
        }
        assert all(count > 50 for count in judged.values()), judged


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with subprocess.Popen(
        ["node", "fold.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Clients(process)
        finally:
            process.kill()


def recorded(
    runs: list[list[Event]],
) -> tuple[list[dict[str, Any]], list[Event], list[dict[str, Any]]]:
    """Runs of a thread: what was said and sent live, the replay, and the messages it has."""
    lives, replay, messages, known = [], list[Event](), list[dict[str, Any]](), set[str]()
    state: Any = {}
    for number, said in enumerate(runs):
        question = {"id": f"u{number}", "role": "user", "content": "?"}
        sent = [m for m in messages if m["role"] != "activity"] + [question]
        body = run_input("t", "r", messages=sent, state=state)
        recorder = RunRecorder(RunKey("t", number, "r"), body, known)
        frames = b""
        for event in said:
            frames += recorder.record(event, 0.0)
            if recorder.error is not None:
                break
        last, result = recorder.finish(1.0, error=recorder.error)
        assert result is not None
        lives.append({"said": [question], "events": events_of(frames + last)})
        replay += events_of(result.frames)
        messages = json.loads(result.messages or b"[]")
        known |= result.message_ids
        state = state if result.state is None else json.loads(result.state)
    return lives, replay, messages


def events_of(frames: bytes) -> list[Event]:
    return [json.loads(data) for data in frame_data(frames)]


PROPERTY = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def test_a_reload_shows_the_same_of_any_stream(clients: Clients) -> None:
    @PROPERTY
    @given(streams)
    def agree(stream: list[Event]) -> None:
        runs = [{"said": [], "events": stream}]
        clients.agree(runs, compact_events(stream), is_sent=False)

    with clients.judging():
        agree()


def test_a_reload_shows_the_same_of_another_agents_conversation(clients: Clients) -> None:
    """A tag that disagrees with the message in the run's input ends the run."""
    shown = {"id": "m", "role": "assistant", "content": "said"}
    first = [STARTED, snapshot(QUESTION, shown), FINISHED]
    second = [STARTED, text("START", subagentRunId="s"), text("END"), FINISHED]
    lives, replay, _ = recorded([first, second])
    clients.agree(lives, replay)
    assert "does not match the message 'm' opener's subagent" in lives[1]["events"][-1]["message"]


def test_a_reload_shows_the_same_of_a_state_of_nothing(clients: Clients) -> None:
    """The older generation takes null for no state, and goes on showing the one before it."""
    states = [{"type": "STATE_SNAPSHOT", "snapshot": value} for value in ({"a": 1}, None)]
    lives, replay, _ = recorded([[STARTED, *states, FINISHED]])
    clients.agree(lives, replay)


def test_a_reload_shows_the_same_of_a_state_that_a_wrong_delta_is_about(clients: Clients) -> None:
    wrong = {"type": "STATE_DELTA", "delta": [{"op": "test", "path": "", "value": None}]}
    state = {"type": "STATE_SNAPSHOT", "snapshot": {"a": 1}}
    lives, replay, _ = recorded([[STARTED, state, wrong, FINISHED]])
    clients.agree(lives, replay)


@pytest.mark.parametrize("path", ["/__proto__", "/a/__proto__", "/constructor/prototype"])
def test_a_reload_shows_the_same_of_a_prototype(clients: Clients, path: str) -> None:
    """A client applies no patch that leads to one."""
    start = {"type": "STATE_SNAPSHOT", "snapshot": {"a": {}, "constructor": {}}}
    patches = [[{"op": "add", "path": to, "value": {}}] for to in (path, "/b")]
    deltas = [{"type": "STATE_DELTA", "delta": patch} for patch in patches]
    lives, replay, _ = recorded([[STARTED, start, *deltas, FINISHED]])
    clients.agree(lives, replay)


def test_a_reload_shows_the_same_of_what_an_agent_tells_of_its_input(clients: Clients) -> None:
    """An agent behind another runtime leaves out the messages that the other has already."""
    told = {"threadId": "t", "runId": "r", "tools": [], "context": [], "state": {"b": 1}}
    added = {"id": "x", "role": "system", "content": "be kind"}
    start = {**STARTED, "input": {**told, "messages": [added]}}
    lives, replay, _ = recorded([[start, FINISHED], [STARTED, FINISHED], [start, FINISHED]])
    seen = clients.agree(lives, replay)
    shown = [[message["id"] for message in messages] for messages in seen]
    assert shown == [["u0", "x", "u1", "u2"]] * 2
    assert replay[0]["input"]["state"] == {}


@pytest.mark.parametrize("path", ["/list/constructor", "/list/map", "/list/length", "/text/length"])
def test_a_reload_shows_the_same_of_a_member_that_arrays_inherit(
    clients: Clients, path: str
) -> None:
    start = {"type": "STATE_SNAPSHOT", "snapshot": {"list": [], "text": "a"}}
    delta = {"type": "STATE_DELTA", "delta": [{"op": "copy", "from": path, "path": "/b"}]}
    lives, replay, _ = recorded([[STARTED, start, delta, FINISHED]])
    clients.agree(lives, replay)


def test_a_reload_shows_the_same_of_a_state_that_is_removed(clients: Clients) -> None:
    state = {"type": "STATE_SNAPSHOT", "snapshot": {"a": []}}
    removed = {"type": "STATE_DELTA", "delta": [{"op": "remove", "path": ""}]}
    added = {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a/-", "value": 1}]}
    lives, replay, _ = recorded([[STARTED, state, removed, added, FINISHED]])
    clients.agree(lives, replay)


@pytest.mark.parametrize("name", ["constructor", "toString", "hasOwnProperty", "__lookupGetter__"])
@pytest.mark.parametrize("op", ["copy", "move", "replace", "remove"])
@pytest.mark.parametrize("of", ["state", "activity"])
def test_a_reload_shows_the_same_of_a_member_that_objects_inherit(
    clients: Clients, of: str, op: str, name: str
) -> None:
    """A client takes the function, and can neither copy nor send it."""
    path = f"/{name}" if op in ("replace", "remove") else "/a"
    patch = [{"op": op, "from": f"/{name}", "path": path, "value": 1}]
    delta = {"type": "STATE_DELTA", "delta": patch}
    start = {"type": "STATE_SNAPSHOT", "snapshot": {"b": 1}}
    if of == "activity":
        activity = {"messageId": "m", "activityType": "a"}
        delta = {"type": "ACTIVITY_DELTA", **activity, "patch": patch}
        start = {"type": "ACTIVITY_SNAPSHOT", **activity, "content": {"b": 1}}
    lives, replay, _ = recorded([[STARTED, start, delta, FINISHED]])
    clients.agree(lives, replay)
    assert f"there is no '{name}'" in lives[0]["events"][-1]["message"]


def test_a_reload_shows_the_same_of_documents_that_are_moved_into_themselves(
    clients: Clients,
) -> None:
    """A client makes a document that contains itself, and hangs."""
    patch = [{"op": "move", "from": "", "path": "/a"}]
    activity = {"messageId": "m", "activityType": "a"}
    runs: list[list[Event]] = [
        [{"type": "ACTIVITY_SNAPSHOT", **activity, "content": {"b": 1}}, FINISHED],
        # The server does not know the activities of earlier runs.
        [{"type": "ACTIVITY_DELTA", **activity, "patch": patch}, FINISHED],
        [{"type": "STATE_DELTA", "delta": patch}, FINISHED],
    ]
    lives, replay, _ = recorded([[STARTED, *run] for run in runs])
    clients.agree(lives, replay)
    ends = [live["events"][-1]["type"] for live in lives]
    assert ends == ["RUN_FINISHED", "RUN_ERROR", "RUN_ERROR"]


def test_a_reload_shows_the_same_of_runs_that_have_lost_their_owners(clients: Clients) -> None:
    """A client that follows them is sent one end behind the other, some without an event before."""
    live, replay = list[Event](), list[Event]()
    for number, stored in enumerate((True, False, False, True, False)):
        key = RunKey("t", number, f"r{number}")
        question = {"id": f"u{number}", "role": "user", "content": "?"}
        owner = RunRecorder(key, run_input("t", key.run_id, messages=[question]))
        frames = owner.record(STARTED, 0.0) if stored else b""
        last, result = RunRecorder.adopt(Orphan(key, "agent", frames)).finish(1.0, error="died")
        assert result is not None
        live += events_of(frames + last)
        replay += events_of(result.frames)
    seen = clients.agree([{"said": [], "events": live}], replay)
    assert [[message["id"] for message in messages] for messages in seen] == [["u0", "u3"]] * 2


@pytest.mark.parametrize("said", [[], [{"type": "RUN_ERROR", "message": "no"}]])
def test_a_reload_shows_the_same_of_runs_that_have_no_start(
    clients: Clients, said: list[Event]
) -> None:
    """Behind one RUN_ERROR a client refuses another one, until a run has started."""
    lives, replay, _ = recorded([[STARTED, {"type": "RUN_ERROR", "message": "no"}], said, said])
    seen = clients.agree(lives, replay)
    assert [[message["id"] for message in shown] for shown in seen] == [["u0", "u1", "u2"]] * 2


def text(what: str, message_id: str = "m", **fields: Any) -> Event:
    role = {"role": "assistant"} if what == "START" else {}
    return {"type": f"TEXT_MESSAGE_{what}", "messageId": message_id, **role, **fields}


def call(what: str, call_id: str = "c", **fields: Any) -> Event:
    name = {"toolCallName": "f"} if what == "START" else {}
    return {"type": f"TOOL_CALL_{what}", "toolCallId": call_id, **name, **fields}


def subagent(what: str, name: str) -> Event:
    return {"type": f"SUBAGENT_{what}", "subagentRunId": name, "name": name}


def snapshot(*messages: Event) -> Event:
    return {"type": "MESSAGES_SNAPSHOT", "messages": list(messages)}


FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
QUESTION = {"id": "u0", "role": "user", "content": "?"}
SO_FAR = {"id": "m", "role": "assistant", "content": "one "}
FUNCTION = {"name": "f", "arguments": '{"a"'}
CALLING = {"id": "c", "type": "function", "function": FUNCTION}
OVERLAPS = {
    "a snapshot inside of a text": [
        text("START"),
        text("CONTENT", delta="one "),
        snapshot(QUESTION, SO_FAR),
        text("CONTENT", delta="two"),
        text("END"),
    ],
    "a snapshot inside of a tool call": [
        call("START", parentMessageId="m"),
        call("ARGS", delta='{"a"'),
        snapshot(QUESTION, {"id": "m", "role": "assistant", "toolCalls": [CALLING]}),
        call("ARGS", delta=":1}"),
        call("END"),
    ],
    "two subagents": [
        subagent("STARTED", "s"),
        subagent("STARTED", "t"),
        text("START", "first", subagentRunId="s"),
        text("START", "second", subagentRunId="t"),
        text("CONTENT", "second", delta="b"),
        text("CONTENT", "first", delta="a"),
        text("END", "second"),
        subagent("FINISHED", "t"),
        text("END", "first"),
        subagent("FINISHED", "s"),
    ],
    "a call inside of a text": [
        text("START"),
        call("START"),
        text("CONTENT", delta="a"),
        call("END"),
        call("RESULT", messageId="r", content="done"),
        text("CONTENT", delta="b"),
        text("END"),
    ],
    "a text that is open when the run fails": [
        text("START", "first"),
        text("START", "second"),
        text("CONTENT", "first", delta="a"),
        {"type": "RUN_ERROR", "message": "no"},
    ],
}
SHOWN = {
    "a snapshot inside of a text": [("m", "one two")],
    "a snapshot inside of a tool call": [("m", '{"a":1}')],
    "two subagents": [("first", "a"), ("second", "b")],
    "a call inside of a text": [("m", "ab"), ("c", ""), ("r", "done")],
    "a text that is open when the run fails": [("first", "a"), ("second", "")],
}


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_reload_shows_the_same_of_messages_that_overlap(clients: Clients, overlap: str) -> None:
    ended = overlap.endswith("fails")
    events = [STARTED, *OVERLAPS[overlap], *([] if ended else [FINISHED])]
    lives, replay, messages = recorded([events])
    seen = clients.agree(lives, replay)
    assert len(seen) == len(GENERATIONS)
    for shown in (*seen, messages, fold_messages(replay)):
        assert [said(message) for message in shown[1:]] == SHOWN[overlap]


def said(message: Event) -> tuple[str, str]:
    calls = message.get("toolCalls", [])
    return message["id"], message.get("content", "".join(c["function"]["arguments"] for c in calls))
