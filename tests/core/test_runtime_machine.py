"""A whole runtime, one action at a time: any interleaving of what clients, agents and stores do.

The machine is a binding that performs one action of one exchange or of one run whenever hypothesis
says so. Its store is compared with a model at each call; what is looked at here is that what the
store holds is what agents said, and that what clients get is what the store holds.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.checked_store import CheckedStore, Cursor
from support.late_store import AnswerLost, StoreDown
from support.model_store import ModelReader, ModelRun, split_frames

from sansio_copilot import (
    CopilotRuntime,
    ExchangeState,
    Headers,
    Hooks,
    Limits,
    Reject,
    Request,
    Response,
    Run,
    RunRefused,
)
from sansio_copilot.actions import (
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
from sansio_copilot.events import (
    ChunkExpander,
    EventError,
    Verifier,
    fold_messages,
    fold_state,
    normalize_event,
    verify_events,
)
from sansio_copilot.sse import HEARTBEAT
from sansio_copilot.stores.protocol import LogGone, Signal, ThreadBusy
from sansio_copilot.testing import run_input

NOW = 1_700_000_000.0
OVER = (ExchangeState.FINISHED, ExchangeState.ABANDONED)
TERMINAL = ("RUN_FINISHED", "RUN_ERROR")
THREADS = st.sampled_from(["s", "t"])
WHICH = st.integers(0, 30)
# An exchange goes as far as it can at once, as a rule.
STEPS = st.sampled_from([50, 50, 50, 0, 4, 8])

SAYINGS: dict[str, dict[str, Any]] = {
    "starts": {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
    "begins a message": {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    "goes on": {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x"},
    "says a chunk": {"type": "TEXT_MESSAGE_CHUNK", "messageId": "k", "delta": "x"},
    "calls in chunks": {"type": "TOOL_CALL_CHUNK", "toolCallId": "d", "toolCallName": "f"},
    "ends the message": {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    "calls a tool": {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"},
    "ends the call": {"type": "TOOL_CALL_END", "toolCallId": "c"},
    "begins a step": {"type": "STEP_STARTED", "stepName": "p"},
    "ends the step": {"type": "STEP_FINISHED", "stepName": "p"},
    "sets the state": {"type": "STATE_SNAPSHOT", "snapshot": {"n": 0}},
    "changes the state": {
        "type": "STATE_DELTA",
        "delta": [{"op": "add", "path": "/k", "value": 1}],
    },
    "finishes": {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
    "gives up": {"type": "RUN_ERROR", "message": "no"},
    "is wrong": {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m"},
}


WHOLE = ["starts", "begins a message", "goes on", "ends the message", "sets the state", "finishes"]
# Most speeches are in order, so that runs get far; a few are anything.
SPEECHES = st.one_of(
    st.integers(1, len(WHOLE)).map(lambda length: WHOLE[:length]),
    st.just(WHOLE),
    st.lists(st.sampled_from(sorted(SAYINGS)), max_size=4).map(lambda more: ["starts", *more]),
    st.lists(st.sampled_from(sorted(SAYINGS)), min_size=1, max_size=3),
)


def agent(input: Any, context: Any) -> Iterator[Any]:
    raise AssertionError("the machine speaks for the agent")


def events_in(frames: bytes) -> list[dict[str, Any]]:
    """The events, without what the runtime adds to them."""
    events = []
    for frame in split_frames(frames):
        event = json.loads(frame[frame.index(b"data: ") + 6 :])
        event.pop("input", None)
        events.append(event)
    return events


def by_id(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(messages, key=lambda message: message["id"])


def runs_in(frames: bytes) -> list[bytes]:
    """The frames of each run.

    Each is well formed by itself. Behind one that ended with RUN_ERROR another that fails before
    its first event is not, as in the reference, since all that it says is RUN_ERROR.
    """

    def token(frame: bytes) -> bytes:
        return frame[: frame.rindex(b".", 0, frame.index(b"\n"))] if b"id: " in frame[:4] else b""

    return [b"".join(run) for _, run in itertools.groupby(split_frames(frames), token)]


@attrs.define(eq=False)
class Home:
    """A run, and what its agent has said that was in order.

    :ivar failed: something went wrong that is to end the run with RUN_ERROR.
    """

    run: Run
    model: ModelRun | None
    action: Any = None
    said: list[dict[str, Any]] = attrs.field(factory=list)
    expander: ChunkExpander = attrs.field(factory=ChunkExpander)
    verifier: Verifier = attrs.field(factory=Verifier)
    signals: list[Signal] = attrs.field(factory=list)
    failed: bool = False
    flush_due: bool = False
    unwatch: Any = None

    def begin(self) -> None:
        self.tell(self.run.start(NOW))
        self.unwatch = self.run.store.watch_run(self.run.key, self.signals.append)

    @property
    def over(self) -> bool:
        return isinstance(self.action, RunOver)

    @property
    def pulls(self) -> bool:
        return isinstance(self.action, PullEvent)

    def go_on(self, *, flushes: bool = True) -> bool:
        """Do what needs no agent; return whether there was something.

        :param flushes: so much time passes that frames which wait for others wait no longer.
        """
        if isinstance(self.action, Call):
            try:
                outcome = self.action.function(*self.action.args)
            except StoreDown as error:
                self.failed |= not isinstance(error, AnswerLost)
                self.tell(self.run.store_failed(error, NOW))
            else:
                self.tell(self.run.stored(outcome, NOW))
        elif isinstance(self.action, Pause):
            self.tell(self.run.resume(NOW))
        elif self.pulls and self.signals:
            self.tell(self.run.signalled(self.signals.pop(), NOW))
        elif self.pulls and self.flush_due and flushes:
            self.flush_due = False
            self.tell(self.run.flush(NOW))
        else:
            return False
        return True

    def say(self, event: dict[str, Any]) -> None:
        try:
            normal = normalize_event(event)
            if not self.said and normal is not None and normal["type"] == "RUN_ERROR":
                # The runtime begins a run whose agent gives up at once.
                key = self.run.key
                started = {"type": "RUN_STARTED", "threadId": key.thread_id, "runId": key.run_id}
                self.verifier.feed(started)
                self.said.append(started)
            for expanded in () if normal is None else self.expander.feed(normal):
                self.verifier.feed(expanded)
                self.said.append(expanded)
        except EventError:
            self.failed = True
        self.tell(self.run.event(event, NOW))

    def tell(self, action: Any) -> None:
        if action is not None:
            self.action = action
        if self.pulls and self.action.flush is not None:
            self.flush_due = True
        if self.over:
            self.unwatch()

    def check(self) -> None:
        """The log has what the agent said, and then the events that make it well formed."""
        if self.run.context.stop_requested is False:
            assert not (self.over and self.action.agent == "cancel")
        if self.model is None or not self.model.ended:
            return
        events = events_in(self.model.data)
        verify_events(events)
        ids = [frame.split(b"\n")[0] for frame in self.model.frames]
        assert ids == [f"id: {self.run.key.token}.{n}".encode() for n in range(len(ids))]
        if not events:
            # The run never started.
            assert self.model.result is None
            return
        if self.model.sealed:
            assert events == self.said[: len(events)]
            assert events[-1]["type"] in TERMINAL
            return
        closing = events[len(self.said) :]
        if self.said:
            assert events[: len(self.said)] == self.said
            assert bool(closing) == (self.said[-1]["type"] not in TERMINAL)
        if closing:
            finished = closing[-1]["type"] == "RUN_FINISHED"
            assert finished or closing[-1]["type"] == "RUN_ERROR"
            assert finished <= self.model.stopped
            assert finished or self.failed
        result = self.model.result
        if self.model.kept and (self.said or not self.failed):
            assert result is not None
        if result is not None:
            compacted = events_in(result.frames)
            verify_events(compacted)
            assert fold_state(compacted) == fold_state(events)
            # Messages that overlap may change places, as with the reference.
            assert by_id(fold_messages(compacted)) == by_id(fold_messages(events))


@attrs.define(eq=False)
class Client:
    """A request, and what has come of it.

    :ivar expects: the status that is to come, as far as it is known by now.
    :ivar broken: the store failed while the body was sent, or had let go of the rest.
    :ivar seen: what another one had received that was cut off, and that this one goes on for.
    """

    machine: RuntimeMachine
    what: str
    request: Request
    expects: int = 200
    status: int = 0
    body: bytes = b""
    heartbeats: int = 0
    timeouts: int = 0
    gone: bool = False
    broken: bool = False
    seen: bytes = b""
    reader: ModelReader | None = None
    woken: bool = False
    cancel: Any = None
    exchange: Any = None
    action: Any = None

    @property
    def over(self) -> bool:
        return self.exchange.state in OVER

    @property
    def waits(self) -> bool:
        return self.cancel is not None

    def start(self) -> None:
        self.exchange = self.machine.runtime.exchange(self.request, NOW)
        self.tell(self.exchange.start())

    def go_on(self) -> bool:
        """Perform the action; returns whether that was possible."""
        if self.over or (self.waits and not self.woken):
            return False
        if self.waits:
            self.stop_waiting()
            self.tell(self.exchange.done(True))
            return True
        try:
            outcome = self.perform(self.action)
        except (StoreDown, Wrong, Reject, RunRefused) as error:
            self.note(error)
            self.tell(self.exchange.failed(error))
        else:
            self.tell(self.exchange.done(outcome))
        return True

    def go_far(self, steps: int) -> None:
        for _ in range(steps):
            if not self.go_on():
                return

    def note(self, error: Exception) -> None:
        """Note what the client is to be told of a failure; the last one counts."""
        clean_up = isinstance(error, StoreDown) and error.args[0] == "close_run"
        if self.status:
            self.broken = True
        elif isinstance(error, Reject):
            self.expects = error.response.status
        elif isinstance(error, RunRefused):
            self.expects = 503
        elif not clean_up:
            self.expects = 500

    def perform(self, action: Any) -> Any:
        match action:
            case ReadBody():
                return self.request.body
            case Call():
                outcome = action.function(*action.args)
                if isinstance(outcome, LogGone):
                    self.broken = True
                name = getattr(action.function, "__name__", "")
                if isinstance(outcome, ThreadBusy):
                    self.expects = 409
                elif name in ("delete_thread", "update_thread") and not outcome:
                    self.expects = 404
                elif name == "clear":
                    self.expects = 204
                elif outcome == 5:
                    self.expects = 500
                return outcome
            case StartRun(run=run):
                self.machine.take_in(run)
            case SendHead(status=status):
                self.status = status
                assert status == self.expects
            case SendBytes(data=data):
                assert not self.gone
                if data == HEARTBEAT:
                    self.heartbeats += 1
                else:
                    self.body += data
        return None

    def tell(self, action: Any) -> None:
        if action is None:
            return
        self.action = action
        if isinstance(action, Call) and action.args and isinstance(action.args[0], Cursor):
            self.reader = action.args[0].model
        if isinstance(action, WaitForFrames):
            assert self.heartbeats == self.timeouts
            self.woken = False
            self.cancel = action.store.watch(action.cursor, self._wake)

    def _wake(self) -> None:
        self.woken = True

    def stop_waiting(self) -> None:
        self.cancel()
        self.cancel = None

    def time_out(self) -> None:
        self.stop_waiting()
        self.timeouts += 1
        self.tell(self.exchange.done(False))

    def hang_up(self) -> None:
        if self.waits:
            self.stop_waiting()
        self.gone = True
        self.tell(self.exchange.client_gone())

    def check(self) -> None:
        """The client was sent a prefix of its stream, and all of it if the response is complete."""
        if self.exchange.state is ExchangeState.ABANDONED:
            assert self.gone or self.broken
        if self.status != 200 or self.reader is None:
            return
        everything = self.reader.all
        assert everything.startswith(self.body)
        if isinstance(self.action, Finish):
            assert self.reader.ends(len(self.body))
            assert self.body == everything
        # Frames that a client saw before it was cut off belong to its stream.
        before = self.reader.parts[0].data[: self.reader.skip] if self.reader.skip else b""
        if before:
            # The client sees neither more nor less of that run than the other one had.
            assert before.endswith(runs_in(self.seen)[-1])
        for run in runs_in(before + self.body):
            verify_events(events_in(run))


class Wrong(Exception):
    """The error with which hooks fail."""


HOOKS = ("on_request", "on_before_handler", "on_response", "on_error")


class RuntimeMachine(RuleBasedStateMachine):
    """Everybody sees one order of events and misses none; each stream that ends is well formed."""

    @initialize(
        limits=st.fixed_dictionaries(
            {
                "on_concurrent_run": st.sampled_from(["reject", "supersede"]),
                "resumable_runs": st.sampled_from([0, 1, 4]),
                "max_runs_per_thread": st.sampled_from([1, 2, 0]),
                "max_threads": st.sampled_from([1, 2]),
                "max_bytes": st.sampled_from([0, 2000, 6000, 10**6]),
            }
        ),
        read_bytes=st.sampled_from([1 << 18, 150, 40]),
        batch_seconds=st.sampled_from([0.0, 1.0]),
    )
    def make(self, limits: dict[str, Any], read_bytes: int, batch_seconds: float) -> None:
        self.batch_seconds = batch_seconds
        self.store = CheckedStore(**limits)
        self.outcomes: dict[str, Any] = {}
        hooks = {name: self.hook(name) for name in HOOKS}
        self.runtime = CopilotRuntime(
            {"a": agent},
            cors=False,
            store=self.store,
            hooks=Hooks(**hooks),
            limits=Limits(read_bytes=read_bytes),
            thread_mutations=True,
        )
        self.homes: list[Home] = []
        self.clients: list[Client] = []
        self.full = False

    def hook(self, name: str) -> Any:
        def hook(context: Any) -> Any:
            outcome = self.outcomes.pop(name, None)
            if isinstance(outcome, Exception):
                try:
                    raise outcome
                finally:
                    # The error has this frame in its traceback, and the two would keep each other
                    # alive, and with them the cursor of whoever the error was raised through.
                    del outcome
            return outcome

        return hook

    def take_in(self, run: Run) -> None:
        if self.full:
            self.full = False
            raise RunRefused("no room")
        run.batch_seconds = self.batch_seconds
        home = Home(run, self.store.model.runs.get(run.key) if run.store is self.store else None)
        self.homes.append(home)
        home.begin()

    def send(
        self, method: str, path: str, body: Any = None, steps: int = 0, after: str = "", **more: Any
    ) -> None:
        headers = Headers({"last-event-id": after} if after else {})
        data = b"" if body is None else json.dumps(body).encode()
        request = Request(method, f"/api/copilotkit/{path}", "", headers, data)
        client = Client(self, path, request, **more)
        self.clients.append(client)
        client.start()
        client.go_far(steps)

    # Clients

    @rule(
        what=st.sampled_from(["run", "run", "run", "suggest"]),
        thread_id=THREADS,
        run_id=st.sampled_from(["x", "y"]),
        known=st.lists(st.sampled_from(["u1", "u2"]), unique=True),
        steps=STEPS,
    )
    def run_agent(
        self, what: str, thread_id: str, run_id: str, known: list[str], steps: int
    ) -> None:
        messages = [{"id": id_, "role": "user", "content": "hi"} for id_ in known]
        self.send("POST", f"agent/a/{what}", run_input(thread_id, run_id, messages=messages), steps)

    @rule(thread_id=THREADS, steps=STEPS)
    def connect(self, thread_id: str, steps: int) -> None:
        self.send("POST", "agent/a/connect", run_input(thread_id), steps)

    @precondition(lambda self: any(client.body for client in self.clients))
    @rule(which=WHICH, cut=WHICH, thread_id=THREADS, in_body=st.booleans(), steps=STEPS)
    def resume(self, which: int, cut: int, thread_id: str, in_body: bool, steps: int) -> None:
        readers = [client for client in self.clients if client.body and client.reader is not None]
        if readers:
            frames = split_frames(readers[which % len(readers)].body)
            seen = frames[: cut % len(frames) + 1] if frames else [b"id: 1.00000000.0\n"]
            after = seen[-1].split(b"\n")[0].removeprefix(b"id: ").decode()
            known = [key.thread_id for key in self.store.model.runs if key.token in after]
            thread_id = [*known, thread_id][0]
            body = run_input(thread_id, **({"lastSeenEventId": after} if in_body else {}))
            header = "" if in_body else after
            path = "agent/a/connect"
            self.send("POST", path, body, steps, header, seen=b"".join(seen))

    @rule(
        call=st.sampled_from(
            [
                ("POST", "agent/a/stop/s", None),
                ("POST", "agent/a/stop/t", None),
                ("POST", "agent/a/stop/t", {"runId": "x"}),
                ("DELETE", "threads/s", None),
                ("PATCH", "threads/t", {"name": "n"}),
                ("POST", "threads/clear", None),
                ("GET", "threads", None),
                ("GET", "threads/s/messages", None),
            ]
        ),
        steps=STEPS,
    )
    def call(self, call: tuple[str, str, Any], steps: int) -> None:
        self.send(*call, steps)

    @rule(which=WHICH, steps=STEPS)
    def go_on(self, which: int, steps: int) -> None:
        ready = [client for client in self.clients if not client.over]
        if ready:
            ready[which % len(ready)].go_far(steps)

    @rule(which=WHICH)
    def hang_up(self, which: int) -> None:
        clients = [client for client in self.clients if not client.over and not client.gone]
        if clients:
            clients[which % len(clients)].hang_up()

    # Agents and their homes

    @precondition(lambda self: any(home.pulls for home in self.homes))
    @rule(which=WHICH, speech=SPEECHES)
    def say(self, which: int, speech: list[str]) -> None:
        self.say_some(which, speech)

    def say_some(self, which: int, speech: list[str]) -> None:
        homes = [home for home in self.homes if home.pulls]
        home = homes[which % len(homes)]
        for saying in speech:
            if home.pulls and not home.signals:
                home.say(SAYINGS[saying])
                home.go_on(flushes=False)

    @precondition(lambda self: any(home.pulls for home in self.homes))
    @rule(which=WHICH, saying=st.sampled_from(WHOLE[1:]))
    def say_one_thing(self, which: int, saying: str) -> None:
        self.say_some(which, [saying])

    @rule(which=WHICH, how=st.sampled_from(["ends", "fails", "falls silent", "is shut down"]))
    def end_run(self, which: int, how: str) -> None:
        homes = [home for home in self.homes if home.pulls or how == "is shut down"]
        home = homes[which % len(homes)] if homes else None
        if home is None or home.over:
            return
        if how == "falls silent":
            if home.action.patience is not None:
                home.tell(home.run.settle(NOW))
            return
        home.failed = True
        if how == "is shut down":
            home.tell(home.run.interrupt(NOW, "The server is shutting down"))
        else:
            home.tell(home.run.agent_ended(NOW, Wrong("on purpose") if how == "fails" else None))

    @precondition(lambda self: any(home.pulls for home in self.homes))
    @rule(which=WHICH)
    def renew_the_lease(self, which: int) -> None:
        homes = [home for home in self.homes if home.pulls]
        home = homes[which % len(homes)]
        home.tell(home.run.check())

    @rule(which=WHICH)
    def work(self, which: int) -> None:
        homes = [home for home in self.homes if not home.over]
        if homes:
            homes[which % len(homes)].go_on()

    # Faults

    @precondition(lambda self: len(self.store.failing) + len(self.outcomes) < 2)
    @rule(
        what=st.one_of(
            st.sampled_from(["no room", "silence"]),
            st.sampled_from(["open_run", "append", "close_run", "renew", "read", "open_cursor"]),
            st.sampled_from(["append is lost", "close_run is lost", "renew is lost"]),
            st.tuples(
                st.sampled_from(HOOKS),
                # A new error is made each time, because it keeps the frames that raised it.
                st.sampled_from(
                    [partial(Wrong, "a hook"), partial(Reject, Response(418)), partial(int, 5)]
                ),
            ),
        )
    )
    def something_goes_wrong(self, what: Any) -> None:
        """Now for who waits, soon for who calls."""
        if what == "no room":
            self.full = True
        elif what == "silence":
            for client in self.clients:
                if client.waits:
                    client.time_out()
        elif isinstance(what, str) and what.endswith(" is lost"):
            self.store.losing.add(what.removesuffix(" is lost"))
        elif isinstance(what, str):
            self.store.failing.add(what)
        else:
            name, make = what
            self.outcomes[name] = make()

    # Invariants

    @invariant()
    def the_store_is_as_its_model(self) -> None:
        if hasattr(self, "store"):
            self.store.check()

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.store.failing.clear()
        self.outcomes.clear()
        self.full = False
        self.settle()
        self.what_was_stopped_is_over()
        for home in self.homes:
            if not home.over:
                home.failed = True
                home.tell(home.run.interrupt(NOW, "The server is shutting down"))
        self.settle()
        self.nothing_is_left_open()
        for home in self.homes:
            home.check()
        for client in self.clients:
            client.check()

    def settle(self) -> None:
        """Go on until nothing moves any more, since agents are silent."""
        moves = True
        while moves:
            # Each client and home has a turn, so the loop does not stop at the first that moved.
            everybody: list[Client | Home] = [*self.clients, *self.homes]
            moves = sum(one.go_on() for one in everybody) > 0

    def what_was_stopped_is_over(self) -> None:
        for home in self.homes:
            if home.model is not None and (home.model.stopped or home.model.sealed):
                assert home.over
        suggesting = [client for client in self.clients if client.what == "agent/a/suggest"]
        assert sum(not home.over for home in self.homes if home.model is None) <= sum(
            not client.gone for client in suggesting
        )

    def nothing_is_left_open(self) -> None:
        assert all(home.over for home in self.homes)
        lost = {args[0] for method, args in self.store.failed if method == "close_run"}
        for run in self.store.model.open_runs:
            # Closing it has failed twice: there is nobody left who would try again.
            assert run.key in lost
            self.store.close_run(run.key, sum(map(len, run.frames)), b"", None)
        self.settle()
        assert all(client.over for client in self.clients)
        assert self.store.watching == 0
        self.store.clear()
        # The error of a failed read keeps its cursor, and so the frames that it was reading.
        self.store.failed.clear()
        assert self.store.real.total_bytes == 0


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """pytest keeps each record, with the traceback in it the cursor of a reader that has gone."""
    caplog.set_level(logging.CRITICAL + 1, "sansio_copilot")


TestRuntimeMachine = RuntimeMachine.TestCase
TestRuntimeMachine.settings = settings(max_examples=100, stateful_step_count=50)
