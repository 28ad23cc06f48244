"""Conversations with a runtime, held by the published clients: what they show live and later.

A client of each generation starts runs, one after the other, with the bodies that it makes of what
it was shown. After each run another client of its generation connects. That one has to show the
same; and what the server tells of the thread has to agree with it.
"""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from sansio_copilot import CopilotRuntime, json_codec
from sansio_copilot.sse import frame_data
from sansio_copilot.testing import Client

HERE = Path(__file__).parent
GENERATIONS = ("0.0.59", "1.0.0")
BASE = "/api/copilotkit"
Event = dict[str, Any]
_PATIENCE = 15
"""Seconds after which a client that says nothing hangs."""


def listed(messages: list[Event]) -> list[Event]:
    """Return the messages without the parts that GET /threads/:id/messages does not have.

    A body has no activities, and so nor have the messages behind it; and they are what the agent
    itself has said, without the results that the runtime gives to calls which its end left open.
    """
    return [m for m in messages if m["role"] != "activity" and not m["id"].endswith("-result")]


def said(message: Event) -> tuple[Any, ...]:
    """What a client shows of a message, whatever its generation."""
    calls = message.get("toolCalls", [])
    functions = [call.get("function", {}) for call in calls]
    arguments = [
        call.get("args", function.get("arguments"))
        for call, function in zip(calls, functions, strict=True)
    ]
    return message["id"], message["role"], message.get("content"), arguments


class Failed(Exception):
    """The error of an agent."""


class Clients:
    """Clients of both generations, in one process of Node."""

    def __init__(self) -> None:
        self._process = self._begin()

    @staticmethod
    def _begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["node", "converse.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def make(self, name: str, generation: str, thread: str = "t") -> None:
        """Make a client that knows nothing yet."""
        self._tell({"make": name, "generation": generation, "thread": thread})

    def ask(self, command: Event) -> Event:
        """Have a client ask for a stream; returns the body of its request.

        Until it is answered, others may ask and be answered.
        """
        self._tell(command)
        told = self._told()
        assert "body" in told, told
        body: Event = told["body"]
        return body

    def answer(self, name: str, frames: bytes) -> Event:
        """Answer the request of a client; returns what it shows then."""
        self._tell({"answer": name, "status": 200, "frames": frames.decode("utf-8")})
        return self._told()

    def _tell(self, value: Any) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json_codec.encode(value) + b"\n")
        stdin.flush()

    def _told(self) -> Event:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], _PATIENCE)[0]:
            # All clients are in the one process, so that another one is begun.
            self.close()
            self._process = self._begin()
            raise AssertionError("a client hangs")
        told: Event = json.loads(stdout.readline())
        return told


@attrs.define(eq=False)
class Talk:
    """A thread of a runtime, which a client of one generation talks to.

    :param is_compared: whether a reload has to show the same, and not only something.
    :ivar shown: what that client shows.
    """

    clients: Clients
    generation: str
    is_compared: bool = attrs.field(default=True, kw_only=True)
    thread: str = attrs.field(default="t", kw_only=True)
    shown: Event = attrs.field(
        init=False, factory=lambda: {"messages": [], "state": {}, "interrupts": []}
    )
    _runs: int = attrs.field(init=False, default=0)
    _unkept: set[str] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self.clients.make(self._name, self.generation, self.thread)

    @property
    def _name(self) -> str:
        """The client's name."""
        return f"{self.thread} {self.generation}"

    def served(self, what: str, body: Event) -> bytes:
        """Ask the runtime for a stream; returns its frames."""
        raise NotImplementedError

    def told(self, what: str) -> Any:
        """What the runtime tells of the thread's messages, state or events."""
        raise NotImplementedError

    def ask(self) -> Event:
        """Have the client ask something; returns the body of its request."""
        question = f"question {self._runs}"
        asked: Event = {"run": self._name, "runId": f"r{self._runs}"}
        asked["said"] = [{"id": question, "role": "user", "content": "?"}]
        # Client 1.0.0 goes on with a thread that has asked something only if it is answered.
        if waiting := self.shown["interrupts"]:
            asked["resume"] = [{"interruptId": one["id"], "status": "resolved"} for one in waiting]
        self._runs += 1
        self._unkept.add(question)
        return self.clients.ask(asked)

    def take(self, frames: bytes) -> None:
        """Have the client read the answer to what it has asked."""
        self.shown = self.clients.answer(self._name, frames)
        assert "error" not in self.shown, self.shown["error"]
        # A run that ends before its agent has sent an event is kept without its question, or not at
        # all, as in the reference. Its question comes with the next run that has an event.
        if any("input" in json.loads(data) for data in frame_data(frames)):
            self._unkept.clear()

    def kept_messages(self) -> list[Event]:
        """The messages that the client shows and the runtime keeps."""
        return [one for one in self.shown["messages"] if one["id"] not in self._unkept]

    def see_that_a_reload_shows_the_same(self) -> None:
        """Have another client connect, and see that the runtime tells the same as it shows."""
        name = f"{self._name} later"
        self.clients.make(name, self.generation, self.thread)
        frames = self.served("connect", self.clients.ask({"connect": name}))
        later = self.clients.answer(name, frames)
        live = {**self.shown, "messages": self.kept_messages()}
        assert "error" not in later, later["error"]
        assert later == live or not self.is_compared
        assert self.told("events") == list(map(json.loads, frame_data(frames)))
        self.compare(self.told("messages"), self.told("state"))

    def compare(self, messages: list[Event], state: Any) -> None:
        """See that what the runtime tells of the thread agrees with what the client shows."""


@attrs.define(eq=False)
class Conversation(Talk):
    """A talk in a runtime of its own. Each generation may have one at a time."""

    _script: Sequence[Any] = attrs.field(init=False, default=())
    _server: Client = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._server = Client(CopilotRuntime({"default": self._agent}, cors=False))

    def _agent(self, input: Any, context: Any) -> Iterator[Event]:
        for event in self._script:
            if event is True:
                self._server.post(f"{BASE}/agent/default/stop/{self.thread}")
                while True:
                    yield {"type": "CUSTOM", "name": "late", "value": 0}
            if isinstance(event, str):
                raise Failed(event)
            yield event

    def hold(self, *script: Any) -> None:
        """Have the client ask something, and the agent yield ``script``; see that both agree.

        :param script: events, a text that the agent fails with, or True where the user stops it.
        """
        self._script = script
        self.take(self.served("run", self.ask()))
        self.see_that_a_reload_shows_the_same()
        assert self.open_interrupts() == [one["id"] for one in self.shown["interrupts"]]

    def open_interrupts(self) -> list[str]:
        """The ids of the interrupts that the runtime's list of threads tells."""
        threads = self._server.get(f"{BASE}/threads").json()["threads"]
        waits = [thread.get("waitsFor", {"interrupts": []}) for thread in threads]
        return [one["id"] for wait in waits for one in wait["interrupts"] if "id" in one]

    def served(self, what: str, body: Event) -> bytes:
        answer = self._server.post(f"{BASE}/agent/default/{what}", json=body)
        assert answer.status == 200, answer.body
        return answer.body

    def told(self, what: str) -> Any:
        answer = self._server.get(f"{BASE}/threads/{self.thread}/{what}")
        assert answer.status == 200, answer.body
        return answer.json()[what]
