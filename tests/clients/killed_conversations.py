"""Conversations in which the process that drives a run is killed behind each event in turn.

    PYTHONPATH=tests python -m clients.killed_conversations --store postgres

A conversation has runs of everything that an agent may say. In each of its copies one run is cut
off behind another event: the agent yields the events before, the client has got them all, and then
the server is killed (``kill -9``). Another server, where somebody follows the thread, adopts the
orphan. Then is checked, with the published clients of both generations:

- the client that was cut off resumes, and a client that connects later shows the same;
- whoever followed the run from the other server has got the same events;
- what the server tells of the thread's messages, state and events is what the clients show;
- the client asks again, and goes on to the end of the conversation.

All copies are cut off by one kill, so that a lease runs out once for all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import h11
from bindings.stores.kills import Server, Spawner
from clients.conversations import BASE, GENERATIONS, Clients, Event, Talk, listed, said
from conformance.client import Client
from soak.databases import DATABASES

from sansio_copilot.events import ChunkExpander
from sansio_copilot.sse import ServerSentEvent
from sansio_copilot.testing import run_input

AGENT = "player"
_AT_ONCE = 100
_numbers = itertools.count()


def delta(*operations: Event) -> Event:
    return {"type": "STATE_DELTA", "delta": list(operations)}


def answer_with_a_tool(r: str) -> list[Event]:
    """A run whose ids are made of ``r``: reasoning, a text, a tool of the server, a state."""
    thought, text, call = f"{r}-thought", f"{r}-text", f"{r}-call"
    return [
        {"type": "STEP_STARTED", "stepName": "look"},
        {"type": "REASONING_START", "messageId": thought},
        {"type": "REASONING_MESSAGE_START", "messageId": thought, "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": thought, "delta": "Where "},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": thought, "delta": "is it?"},
        {"type": "REASONING_MESSAGE_END", "messageId": thought},
        {"type": "REASONING_END", "messageId": thought},
        {"type": "STATE_SNAPSHOT", "snapshot": {"cities": [], "asked": 1}},
        {"type": "TEXT_MESSAGE_START", "messageId": text, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": text, "delta": "Let me "},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": text, "delta": "see \u2028😀."},
        {
            "type": "TOOL_CALL_START",
            "toolCallId": call,
            "toolCallName": "weather",
            "parentMessageId": text,
        },
        {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": '{"city":'},
        {"type": "TEXT_MESSAGE_END", "messageId": text},
        {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": '"Paris"}'},
        {"type": "TOOL_CALL_END", "toolCallId": call},
        {
            "type": "TOOL_CALL_RESULT",
            "messageId": f"{call}ed",
            "toolCallId": call,
            "content": "sunny",
            "role": "tool",
        },
        delta({"op": "add", "path": "/cities/-", "value": {"name": "Paris"}}),
        {"type": "STEP_FINISHED", "stepName": "look"},
    ]


def answer_that_asks(r: str) -> list[Event]:
    """A run with an activity, a subagent, chunks and a call of a front end's tool."""
    plan, hers, text, call = f"{r}-plan", f"{r}-hers", f"{r}-text", f"{r}-call"
    return [
        {
            "type": "ACTIVITY_SNAPSHOT",
            "messageId": plan,
            "activityType": "PLAN",
            "content": {"steps": ["look"]},
        },
        {
            "type": "ACTIVITY_DELTA",
            "messageId": plan,
            "activityType": "PLAN",
            "patch": [{"op": "add", "path": "/steps/-", "value": "tell"}],
        },
        {"type": "CUSTOM", "name": "progress", "value": {"done": 0.5}},
        delta({"op": "add", "path": "/asked", "value": 2}),
        {"type": "SUBAGENT_STARTED", "subagentRunId": f"{r}-sub", "name": "helper"},
        {
            "type": "TEXT_MESSAGE_START",
            "messageId": hers,
            "role": "assistant",
            "subagentRunId": f"{r}-sub",
        },
        {
            "type": "TEXT_MESSAGE_CONTENT",
            "messageId": hers,
            "delta": "Done.",
            "subagentRunId": f"{r}-sub",
        },
        {"type": "TEXT_MESSAGE_END", "messageId": hers, "subagentRunId": f"{r}-sub"},
        {"type": "SUBAGENT_FINISHED", "subagentRunId": f"{r}-sub"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": text, "role": "assistant", "delta": "Shall "},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": text, "delta": "I?"},
        {
            "type": "TOOL_CALL_CHUNK",
            "toolCallId": call,
            "toolCallName": "confirm",
            "parentMessageId": text,
            "delta": '{"sure"',
        },
        {"type": "TOOL_CALL_CHUNK", "toolCallId": call, "delta": ":1}"},
        {"type": "RAW", "event": {"from": "elsewhere"}},
    ]


def last_answer(r: str) -> list[Event]:
    """A run of an older agent, which thinks and says something."""
    text = f"{r}-text"
    return [
        {"type": "THINKING_START", "title": "so"},
        {"type": "THINKING_TEXT_MESSAGE_START"},
        {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "hm"},
        {"type": "THINKING_TEXT_MESSAGE_END"},
        {"type": "THINKING_END"},
        delta({"op": "remove", "path": "/asked"}),
        delta({"op": "remove", "path": "/no/such/place"}),
        {"type": "TEXT_MESSAGE_START", "messageId": text, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": text, "delta": "It is sunny."},
        {"type": "TEXT_MESSAGE_END", "messageId": text},
    ]


ANSWERS = (answer_with_a_tool, answer_that_asks, last_answer)


def script_of(answer: int, thread: str, run: str) -> list[Event]:
    """The whole run in which the agent gives that answer; the second ends with a question."""
    ids = {"threadId": thread, "runId": run}
    finished: Event = {"type": "RUN_FINISHED", **ids}
    if ANSWERS[answer] is answer_that_asks:
        asked = {"id": f"{run}-interrupt", "reason": "confirm", "message": "Sure?"}
        finished["outcome"] = {"type": "interrupt", "interrupts": [asked]}
    return [{"type": "RUN_STARTED", **ids}, *ANSWERS[answer](run), finished]


@attrs.frozen
class Place:
    """A place where a run is cut off: behind so many events of that answer."""

    answer: int
    events: int


def places() -> Iterator[Place]:
    """Every place of the conversation; before the first event and behind the last one as well."""
    for answer in range(len(ANSWERS)):
        for events in range(len(script_of(answer, "t", "r")) + 1):
            yield Place(answer, events)


def open_stream(port: int, operation: str, body: Event, last_event_id: str = "") -> Client:
    """Ask for a stream, and receive its head."""
    client = Client(port, BASE, {})
    headers = {"content-type": "application/json"}
    if last_event_id:
        headers["last-event-id"] = last_event_id
    client.send("POST", f"/agent/{AGENT}/{operation}", json.dumps(body).encode(), headers)
    client.receive_head()
    assert client.status == 200, client.status
    return client


def rest_of(client: Client) -> list[ServerSentEvent]:
    """The events of a stream up to its well-formed end."""
    with client:
        return list(iter(client.next_frame, None))


def data_of(frames: list[ServerSentEvent]) -> list[str]:
    return [one.data for one in frames]


def whole(frames: Iterable[ServerSentEvent]) -> bytes:
    return "".join(f"id: {one.id}\ndata: {one.data}\n\n" for one in frames).encode()


@attrs.define(eq=False)
class KilledConversation(Talk):
    """A copy of the conversation.

    :param plan: where its runs are cut off, one time after the other.
    :ivar cuts: those of them that are still to come.
    :ivar live: the stream of the run that is to be cut off.
    :ivar seen: what the client has got of that run.
    :ivar follower: somebody else, who follows that run from the server that is not killed.
    """

    survivor: Server = attrs.field(kw_only=True)
    plan: list[Place] = attrs.field(kw_only=True)
    cuts: list[Place] = attrs.field(init=False)
    live: Client = attrs.field(init=False)
    seen: list[ServerSentEvent] = attrs.field(init=False)
    follower: Client = attrs.field(init=False)
    _answer: int = attrs.field(init=False, default=0)
    _last_id: str = attrs.field(init=False, default="")

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.cuts = [*self.plan]

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Meanwhile, an error tells which conversation it is about."""
        try:
            yield
        except Exception as error:
            error.add_note(f"client {self.generation}, cut off at {self.plan}")
            raise

    def served(self, what: str, body: Event) -> bytes:
        return whole(rest_of(open_stream(self.survivor.port, what, body)))

    def told(self, what: str) -> Any:
        with Client(self.survivor.port, BASE, {}) as client:
            answer = client.request("GET", f"/threads/{self.thread}/{what}")
        assert answer.status == 200, answer.body
        return answer.json()[what]

    def hold(self, until: int) -> None:
        """Hold the whole runs before that answer."""
        while self._answer < until:
            body = self.ask()
            script = script_of(self._answer, self.thread, body["runId"])
            body["forwardedProps"] = {"script": script, "waits": False}
            self._take(rest_of(open_stream(self.survivor.port, "run", body)))
            self._answer += 1

    def begin(self, victim: Server) -> None:
        """Hold what comes before the next cut, and begin the run that is to be cut off."""
        place = self.cuts[0]
        self.hold(place.answer)
        body = self.ask()
        script = script_of(place.answer, self.thread, body["runId"])[: place.events]
        body["forwardedProps"] = {"script": script, "waits": True}
        self.live = open_stream(victim.port, "run", body)
        expander = ChunkExpander()
        self.seen = []
        for event in script:
            for sent in expander.feed(event):
                # An event of the type RAW is for the log of a framework, and is not sent.
                if sent["type"] != "RAW":
                    frame = self.live.next_frame()
                    assert frame is not None
                    self.seen.append(frame)
        reader = run_input(self.thread, "follower")
        self.follower = open_stream(self.survivor.port, "connect", reader)

    def resume(self) -> None:
        """See what has become of the run whose server was killed."""
        place = self.cuts.pop(0)
        with self.live, contextlib.suppress(ConnectionResetError, h11.RemoteProtocolError):
            assert self.live.next_frame() is None, place
            # A stream that has ended ended with its run, while the agent still cleaned up.
            assert json.loads(self.seen[-1].data)["type"] == "RUN_FINISHED", place
        last_id = self.seen[-1].id if self.seen else self._last_id
        reader = run_input(self.thread, "resumed")
        resumed = rest_of(open_stream(self.survivor.port, "connect", reader, last_id))
        followed = rest_of(self.follower)
        frames = self.seen + resumed
        # The data is compared without the ids, because a client that has seen no event yet comes
        # without one, and may get the run as it is replayed.
        assert data_of(followed)[-len(frames) :] == data_of(frames), place
        self._take(frames)
        self.see_that_a_reload_shows_the_same()

    def _take(self, frames: list[ServerSentEvent]) -> None:
        self._last_id = frames[-1].id
        self.take(whole(frames))

    def compare(self, messages: list[Event], state: Any) -> None:
        # Clients begin with an empty state, the server with none.
        assert (state or {}) == self.shown["state"]
        shown = map(said, listed(self.kept_messages()))
        assert list(shown) == list(map(said, listed(messages)))


def hold_all(where: str, plans: Iterable[tuple[str, list[Place]]]) -> int:
    """Hold a conversation for each plan at once; returns how many there were.

    :param where: the store, as the spawner takes it.
    :param plans: of each conversation the client's generation, and where it is cut off, one time
        after the other.
    """
    with contextlib.closing(Spawner(where)) as servers, contextlib.closing(Clients()) as clients:
        survivor = servers.start()
        conversations = [
            KilledConversation(
                clients, generation, thread=f"t{next(_numbers)}", survivor=survivor, plan=plan
            )
            for generation, plan in plans
        ]
        going_on = conversations
        while going_on := [one for one in going_on if one.cuts]:
            victim = servers.start()
            for conversation in going_on:
                conversation.begin(victim)
            servers.kill(victim)
            for conversation in going_on:
                with conversation.named():
                    conversation.resume()
        for conversation in conversations:
            with conversation.named():
                conversation.hold(len(ANSWERS))
                conversation.see_that_a_reload_shows_the_same()
    return len(conversations)


def cut_off_twice() -> Iterator[tuple[str, list[Place]]]:
    """Yield a plan of each place, with each in the next run, in which the client asks again.

    The generations take turns along both places, so that each meets every place as either of them.
    """
    for first, second in itertools.product(places(), places()):
        if first.answer == second.answer:
            yield GENERATIONS[(first.events + second.events) % 2], [first, second]


def main() -> None:
    """Cut each run off at each pair of places, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    kept = [name for name in DATABASES if name != "memory"]
    parser.add_argument("--store", choices=kept, default="sqlite")
    options = parser.parse_args()
    plans = list(cut_off_twice())
    with contextlib.closing(DATABASES[options.store]()) as database:
        held = sum(
            hold_all(database.where, plans[begin : begin + _AT_ONCE])
            for begin in range(0, len(plans), _AT_ONCE)
        )
    sys.stdout.write(f"{options.store}: {held} conversations were cut off twice, and are whole\n")


if __name__ == "__main__":
    main()
