"""Several servers over a store that answers late: a binding of a hundred lines, in any order.

Nothing waits here: every coroutine stands at a :class:`Gate`, and whoever drives the
:class:`World` chooses which goes on.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterator
from typing import Any

import attrs
import pytest
from support.late_store import Gate, LateStore
from support.owner import history_of

from sansio_copilot import (
    AgentContext,
    CopilotRuntime,
    ExchangeState,
    Headers,
    Limits,
    MemoryStore,
    Request,
    Run,
)
from sansio_copilot.actions import (
    Abandon,
    Call,
    Finish,
    Pause,
    PullEvent,
    ReadBody,
    RunOver,
    SendBytes,
    SendHead,
    StartRun,
    WaitForFrames,
)
from sansio_copilot.events import Verifier
from sansio_copilot.sse import HEARTBEAT, Parser
from sansio_copilot.stores.protocol import Signal, ThreadStore
from sansio_copilot.testing import run_input

NOW = 1_700_000_000.0
SILENCE = object()
OVER = (ExchangeState.FINISHED, ExchangeState.ABANDONED)


class HungUp(Exception):
    """Thrown to where an exchange's task waits, with what it is to do instead."""


class Died(Exception):
    """The error with which this test's agents fail."""


def script(input: Any, context: AgentContext) -> Iterator[Any]:
    """The agent: plays the events that the client asked for, and may fall silent for good."""
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    props = input.forwarded_props
    message = f"{input.run_id}-m"
    yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
    for number in range(props.get("deltas", 2)):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": f"part {number}"}
    if props.get("silent"):
        yield SILENCE
        raise AssertionError("a silent agent was asked for more")
    if props.get("fails"):
        raise Died
    yield {"type": "TEXT_MESSAGE_END", "messageId": message}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


@attrs.define(eq=False)
class Task:
    """A coroutine, and where it stands."""

    host: str
    coroutine: Coroutine[Gate, None, None]
    gate: Gate | None = None

    def go_on(self) -> None:
        self._take(lambda: self.coroutine.send(None))

    def throw(self, error: Exception) -> None:
        self._take(lambda: self.coroutine.throw(error))

    def _take(self, step: Any) -> None:
        try:
            self.gate = step()
        except StopIteration:
            self.gate = None


@attrs.define(eq=False)
class Client:
    """A request, and what has come of it."""

    world: World
    request: Request
    host: str
    status: int = 0
    body: bytes = b""
    gone: bool = False
    waiting: bool = False
    timed_out: bool = False
    run: Run | None = None
    exchange: Any = None
    task: Any = None

    @property
    def answered(self) -> bool:
        return bool(self.exchange.state is ExchangeState.FINISHED)

    @property
    def stream(self) -> bytes:
        return self.body.replace(HEARTBEAT, b"")

    @property
    def types(self) -> list[str]:
        return types_of(self.stream)

    def json(self) -> Any:
        return json.loads(self.body)

    def hang_up(self) -> None:
        if self.gone or self.exchange.state in OVER:
            return
        self.gone = True
        if self.exchange.state is ExchangeState.IDLE:
            return
        if (action := self.exchange.client_gone()) is not None:
            self.task.throw(HungUp(action))

    async def serve(self) -> None:
        """The loop of a binding, for one exchange."""
        exchange = self.exchange
        await Gate("the request arrives")
        if self.gone:
            return
        action = exchange.start()
        while True:
            try:
                match action:
                    case ReadBody():
                        action = exchange.done(self.request.body)
                    case Call():
                        try:
                            outcome = action.function(*action.args)
                            if hasattr(outcome, "__await__"):
                                outcome = await outcome
                        except HungUp:
                            raise
                        except Exception as error:
                            action = exchange.failed(error)
                        else:
                            action = exchange.done(outcome)
                    case StartRun(run=run):
                        self.run = run
                        self.world.spawn(self.host, live(run))
                        action = exchange.done()
                    case SendHead(status=status):
                        self.status = status
                        await Gate("the head is sent")
                        action = exchange.done()
                    case SendBytes(data=data):
                        await Gate("the client reads")
                        self.body += data
                        action = exchange.done()
                    case WaitForFrames():
                        action = exchange.done(await self._wait(action))
                    case Finish() | Abandon():
                        return
            except HungUp as hung_up:
                action = hung_up.args[0]

    async def _wait(self, action: WaitForFrames) -> bool:
        woken: list[bool] = []
        cancel = action.store.watch(action.cursor, lambda: woken.append(True))
        self.waiting, self.timed_out = True, False
        try:
            await Gate("frames", lambda: bool(woken) or self.timed_out)
        finally:
            self.waiting = False
            cancel()
        return bool(woken)


async def live(run: Run) -> None:
    """The loop of a binding, for one run."""
    notified: list[Signal] = []
    unwatch = run.store.watch_run(run.key, notified.append)
    events = run.events()
    action = run.start(0.0)
    silent = False
    while True:
        match action:
            case Call():
                try:
                    outcome = await action.function(*action.args)
                except Exception as error:
                    action = run.store_failed(error, NOW)
                else:
                    action = run.stored(outcome, NOW)
            case PullEvent():
                if not notified:
                    if silent and action.flush is None:
                        await Gate("the agent is silent", lambda: bool(notified))
                    else:
                        await Gate("the agent works")
                if notified:
                    # A notification during a store call counts too, because the answer of the call
                    # may be older.
                    told = run.signalled(notified.pop(0), NOW)
                    assert told is not None
                    action = told
                    continue
                if action.flush is not None and (retry := run.flush(NOW)) is not None:
                    action = retry
                    continue
                try:
                    event = next(events)
                except StopIteration:
                    action = run.agent_ended(NOW)
                except Died as error:
                    action = run.agent_ended(NOW, error)
                else:
                    silent = event is SILENCE
                    if not silent:
                        action = run.event(event, NOW)
            case Pause():
                await Gate("the store is unavailable")
                action = run.resume(NOW)
            case RunOver():
                unwatch()
                return


class World:
    """Several servers over one store, and their clients. ``choices`` says who goes on."""

    def __init__(
        self,
        choices: bytes = b"",
        policy: Any = "reject",
        hooks: Any = None,
        inner: MemoryStore | None = None,
    ) -> None:
        self.store = LateStore(inner or MemoryStore(on_concurrent_run=policy))
        store: ThreadStore = self.store
        self.runtime = CopilotRuntime(
            {"a": script}, store=store, hooks=hooks, limits=Limits(read_bytes=100)
        )
        self.choices = iter(choices)
        self.tasks: list[Task] = []
        self.clients: list[Client] = []
        self.paused = ""

    def spawn(self, host: str, coroutine: Coroutine[Gate, None, None]) -> Task:
        task = Task(host, coroutine)
        self.tasks.append(task)
        task.go_on()
        return task

    def post(self, path: str, json_body: Any = None, host: str = "one", **headers: str) -> Client:
        body = b"" if json_body is None else json.dumps(json_body).encode()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields["content-type"] = "application/json"
        request = Request("POST", f"/api/copilotkit/{path}", headers=Headers(fields), body=body)
        client = Client(self, request, host)
        client.exchange = self.runtime.exchange(request, NOW)
        self.clients.append(client)
        client.task = self.spawn(host, client.serve())
        return client

    def run(self, run_id: str = "r", host: str = "one", **props: Any) -> Client:
        return self.post("agent/a/run", run_input("t", run_id, forwardedProps=props), host)

    def connect(self, host: str = "two", after: str = "") -> Client:
        headers = {"last_event_id": after} if after else {}
        return self.post("agent/a/connect", run_input("t", "connect"), host, **headers)

    def stop(self, host: str = "two") -> Client:
        return self.post("agent/a/stop/t", None, host)

    def choose(self, count: int) -> int:
        """Return a number below ``count``; 0 if there is nothing left to choose with."""
        return next(self.choices, 0) % count

    def step(self) -> bool:
        """Send one task on; returns whether there was one."""
        self.tasks = [task for task in self.tasks if task.gate is not None]
        ready = [
            task
            for task in self.tasks
            if task.gate is not None and task.gate.open() and task.host != self.paused
        ]
        if not ready:
            return False
        ready[self.choose(len(ready))].go_on()
        return True

    def go(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def settle(self) -> None:
        """Go on until nothing moves any more, even when readers have looked again.

        A reader finds one run that has lost its owner each time that it looks.
        """
        for _ in range(2 + len(self.store.open_runs)):
            for _ in range(5000):
                if not self.step():
                    break
            else:
                pytest.fail("it never settles")
            for client in self.clients:
                client.timed_out = True
        for _ in range(5000):
            if not self.step():
                return

    def die(self, host: str) -> None:
        """All that ``host`` does ends, in the middle of whatever it was doing."""
        for task in self.tasks:
            if task.host == host:
                task.coroutine.close()
        self.tasks = [task for task in self.tasks if task.host != host]


def types_of(stream: bytes) -> list[str]:
    return [json.loads(event.data)["type"] for event in Parser().feed(stream)]


def check_well_formed(stream: bytes) -> None:
    verifier = Verifier()
    events = Parser().feed(stream)
    for event in events:
        verifier.feed(json.loads(event.data))
    assert types_of(stream)[-1] in ("RUN_FINISHED", "RUN_ERROR")
    ids = [event.id for event in events]
    prefix = ids[0].rpartition(".")[0]
    assert ids == [f"{prefix}.{position}" for position in range(len(ids))]


def history(world: World) -> bytes:
    return history_of(world.store.inner, "t").frames
