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
AGENT = "/api/copilotkit/agent/default"
THREAD = "/api/copilotkit/threads/t"
Event = dict[str, Any]
_PATIENCE = 15
"""Seconds after which a client that says nothing hangs."""


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

    def make(self, name: str, generation: str) -> None:
        """Make a client that knows nothing yet."""
        self._tell({"make": name, "generation": generation})

    def ask(self, command: Event) -> Event:
        """Have a client ask for a stream; returns the body of its request."""
        self._tell(command)
        told = self._told()
        assert "body" in told, told
        body: Event = told["body"]
        return body

    def answer(self, status: int, frames: bytes) -> Event:
        """Answer the client's request; returns what it shows then."""
        self._tell({"status": status, "frames": frames.decode("utf-8")})
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
class Conversation:
    """A thread of a runtime of its own, which a client of one generation talks to.

    Each generation may have one at a time.

    :param is_compared: whether a reload has to show the same, and not only something.
    :ivar shown: what that client shows.
    """

    clients: Clients
    generation: str
    is_compared: bool = True
    shown: Event = attrs.field(factory=lambda: {"messages": [], "state": {}, "interrupts": []})
    _runs: int = 0
    _unkept: set[str] = attrs.field(factory=set)
    _script: Sequence[Any] = ()
    _server: Client = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = Client(CopilotRuntime({"default": self._agent}, cors=False))
        self.clients.make(f"live {self.generation}", self.generation)

    def _agent(self, input: Any, context: Any) -> Iterator[Event]:
        for event in self._script:
            if event is True:
                self._server.post(f"{AGENT}/stop/t")
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
        question = f"question {self._runs}"
        asked: Event = {"run": f"live {self.generation}", "runId": f"r{self._runs}"}
        asked["said"] = [{"id": question, "role": "user", "content": "?"}]
        # Client 1.0.0 goes on with a thread that has asked something only if it is answered.
        if waiting := self.shown["interrupts"]:
            asked["resume"] = [{"interruptId": one["id"], "status": "resolved"} for one in waiting]
        self._runs += 1
        frames = self._served("run", self.clients.ask(asked))
        self.shown = self.clients.answer(200, frames)
        assert "error" not in self.shown, self.shown["error"]
        # As in the reference, a run whose agent fails before its first event leaves no history. Its
        # question comes with the next run that does.
        if len(list(frame_data(frames))) == 1:
            self._unkept.add(question)
        else:
            self._unkept.clear()
        self._see_that_a_reload_shows_the_same()

    def _see_that_a_reload_shows_the_same(self) -> None:
        self.clients.make("later", self.generation)
        frames = self._served("connect", self.clients.ask({"connect": "later"}))
        later = self.clients.answer(200, frames)
        live = {**self.shown}
        live["messages"] = [one for one in live["messages"] if one["id"] not in self._unkept]
        assert "error" not in later, later["error"]
        assert later == live or not self.is_compared
        assert self.told("events") == list(map(json.loads, frame_data(frames)))
        for what in ("messages", "state"):
            self.told(what)

    def _served(self, what: str, body: Event) -> bytes:
        answer = self._server.post(f"{AGENT}/{what}", json=body)
        assert answer.status == 200, answer.body
        return answer.body

    def told(self, what: str) -> Any:
        """What the server tells of the thread's messages, state or events."""
        answer = self._server.get(f"{THREAD}/{what}")
        assert answer.status == 200, answer.body
        return answer.json()[what]
