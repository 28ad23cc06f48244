"""The scenarios: actions of clients, each a function that checks all that it receives.

A scenario is given a :class:`Caller`, uses threads that no other has, and leaves nothing behind: no
run that is live, no thread in the ``main`` store.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import h11
from conformance.client import Answer, Client
from conformance.process import Server
from support.hostile_requests import CASES, responses

from sansio_copilot.sse import ServerSentEvent
from sansio_copilot.testing import run_input

from .checker import TERMINAL, Reading, Run, Wrong, check_replay, check_texts
from .script import Plan

LONG = {"deltas": 2000, "pause": 0.01, "every": 1}
"""Is not going to end by itself, even if its store is away for half a minute."""
HOSTILE = [case for case in CASES if len(case.sent) < 1000 and case.closes and not case.is_rude]
AGENTS = ("default", "plain")
IDLE = 1.0
"""Seconds after which a server may close a connection that is kept alive; gunicorn does after 2."""


@attrs.define(eq=False)
class Caller:
    """A caller is one part of the load: it has its own chance, its counts, and its way to talk.

    :param loses_answers: whether those of the server's store may get lost.
    """

    server: Server
    name: str
    chance: random.Random
    loses_answers: bool = False
    counts: Counter[str] = attrs.field(factory=Counter)
    _number: int = attrs.field(default=0, init=False)
    _kept: Client | None = attrs.field(default=None, init=False)
    _kept_at: float = attrs.field(default=0.0, init=False)

    # Connections

    @contextlib.contextmanager
    def kept(self) -> Iterator[Client]:
        """A connection that is kept alive from one scenario to the next."""
        if time.monotonic() - self._kept_at > IDLE:
            self.hang_up()
        if self._kept is None:
            self._kept = self.server.client()
        try:
            yield self._kept
        except BaseException:
            self.hang_up()
            raise
        self._kept_at = time.monotonic()
        if self.chance.random() < 0.1:
            self.hang_up()

    def hang_up(self) -> None:
        """Close what is kept alive."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def request(self, method: str, path: str, body: Any = None, config: str = "main") -> Answer:
        """A whole request on a connection of its own."""
        self.counts["requests"] += 1
        sent = b"" if body is None else json.dumps(body).encode()
        return self.server.request(method, path, sent, config=config)

    # Threads and runs

    def thread(self) -> str:
        """The id of a new thread."""
        self._number += 1
        return f"{self.name}-{self._number}"

    def plan(self, **options: Any) -> Plan:
        """A run like any other."""
        chance = self.chance
        usual = {
            "seed": chance.randrange(2**31),
            "deltas": chance.randrange(1, 30),
            "size": chance.choice((1, 10, 10, 10, 300)),
            "pause": chance.choice((0, 0, 0.001, 0.005)),
            "every": chance.randrange(1, 10),
        }
        return Plan(**(usual | options))

    def new_run(self, thread: str, stopped: bool = False, **options: Any) -> Run:
        """A run to come."""
        self._number += 1
        self.counts["runs"] += 1
        run_id = f"run-{self.name}-{self._number}"
        return Run(thread, run_id, self.plan(**options), stopped)

    def agent(self) -> str:
        """Any of them."""
        return self.chance.choice(AGENTS)

    def begin(self, client: Client, run: Run, operation: str = "run", **fields: Any) -> Reading:
        """Ask for the run."""
        self.counts["requests"] += 1
        client.stream(
            operation,
            run.thread_id,
            agent=self.agent(),
            run_id=run.run_id,
            forwardedProps=attrs.asdict(run.plan),
            **fields,
        )
        return Reading(run, operation)

    def connect(self, client: Client, thread: str, after: str = "") -> None:
        """Ask for what the thread has said, or for what it said behind ``after``."""
        self.counts["requests"] += 1
        headers = {"last-event-id": after} if after else {}
        client.stream("connect", thread, run_id="connects", headers=headers)

    def read(
        self, client: Client, reading: Reading, most: float = float("inf"), has_id: bool = True
    ) -> bool:
        """Take at most so many events; whether that was the end, which is then checked."""
        while most > 0:
            frame = client.next_frame()
            if frame is None:
                _expect(client.status, 200, f"{reading}")
                reading.end()
                return True
            self.counts["events"] += 1
            reading.take(frame, has_id=has_id)
            most -= 1
        return False

    def whole_run(self, run: Run, config: str = "main", **fields: Any) -> None:
        """Start the run, and read its response to the end."""
        with self.server.client(config) as client:
            self.read(client, self.begin(client, run, **fields))

    def replay(self, client: Client, thread: str, after: str = "") -> list[ServerSentEvent]:
        """Return everything that a connect answers."""
        self.connect(client, thread, after)
        return self.rest(client)

    def check_history(self, runs: list[Run], config: str = "main") -> None:
        """Each of ``runs`` is in its thread, and nothing else."""
        thread = runs[0].thread_id
        with self.server.client(config) as client:
            check_replay(runs, self.replay(client, thread), f"connect to {thread}")

    def read_joined(self, client: Client, run: Run, who: str) -> None:
        """Check what a connect receives which came while the run was live, or is its replay.

        The end of the run has been seen.
        """
        reading = Reading(run, who)
        first = client.next_frame()
        if first is None:
            raise Wrong(f"{reading}: it is empty")
        if first.id.rpartition(".")[2].startswith("c"):
            check_replay([run], [first, *self.rest(client)], f"{reading}, which had ended")
        else:
            reading.take(first)
            self.read(client, reading)

    def rest(self, client: Client) -> list[ServerSentEvent]:
        """The frames to the end of the stream."""
        frames = []
        while (frame := client.next_frame()) is not None:
            frames.append(frame)
        _expect(client.status, 200, "the status of a stream")
        self.counts["events"] += len(frames)
        return frames

    def stop(self, thread: str, config: str = "main") -> None:
        """Stop the thread's run, which is live."""
        self.counts["requests"] += 1
        self.counts["stops"] += 1
        if not self.server.stop(thread, agent=self.agent(), config=config):
            raise Wrong(f"stop of {thread}: there is no run, but one is live")

    def is_missing(self, status: int) -> bool:
        """Return whether that is the answer to the deletion of what there is not.

        If an answer of the store's was lost on the way, it may have been there.
        """
        return status == 404 or (self.loses_answers and status == 200)

    def delete(self, thread: str, config: str = "main") -> None:
        """Delete the thread, which exists."""
        _expect(self.request("DELETE", f"/threads/{thread}", config=config).status, 200, thread)

    def leave(self, client: Client) -> None:
        """Go away, politely or not."""
        self.chance.choice((Client.close, Client.cut))(client)


def _expect(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise Wrong(f"{what}: expected {expected}, received {found}")


# --- Runs that come to their end ----------------------------------------------------------------


def read_whole(caller: Caller) -> None:
    """Some runs of one thread, one after the other, and their history."""
    thread, runs = caller.thread(), []
    for _ in range(caller.chance.randrange(1, 7)):
        runs.append(caller.new_run(thread))
        with caller.kept() as client:
            caller.read(client, caller.begin(client, runs[-1]))
    caller.check_history(runs)
    caller.delete(thread)


def cut_and_resume(caller: Caller) -> None:
    """A reader that is cut off at random places, and resumes each time behind what it has seen."""
    thread = caller.thread()
    earlier = [caller.new_run(thread) for _ in range(caller.chance.randrange(3))]
    for run in earlier:
        caller.whole_run(run)
    run = caller.new_run(thread)
    resume(caller, run)
    caller.check_history([*earlier, run])
    caller.delete(thread)


def resume(caller: Caller, run: Run, config: str = "main") -> None:
    """Read ``run`` over as many connections as chance has it."""
    client = caller.server.client(config)
    reading = caller.begin(client, run)
    # The client sees at least one event, because it would else be sent the thread's history.
    while not caller.read(client, reading, caller.chance.randrange(1, 15)):
        caller.leave(client)
        caller.counts["resumes"] += 1
        client = caller.server.client(config)
        caller.connect(client, run.thread_id, reading.last_id)
    client.close()


def resume_a_replay(caller: Caller) -> None:
    """A replay that is cut off goes on behind what was seen of it."""
    thread = caller.thread()
    runs = [caller.new_run(thread) for _ in range(caller.chance.randrange(1, 7))]
    for run in runs:
        caller.whole_run(run)
    frames: list[ServerSentEvent] = []
    with caller.server.client() as client:
        caller.connect(client, thread)
        for _ in range(caller.chance.randrange(1, 10 * len(runs))):
            frame = client.next_frame()
            assert frame is not None
            frames.append(frame)
        caller.leave(client)
    caller.counts["resumes"] += 1
    with caller.server.client() as client:
        frames += caller.replay(client, thread, frames[-1].id)
    check_replay(runs, frames, f"a replay of {thread} that was resumed")
    caller.delete(thread)


def join(caller: Caller) -> None:
    """Readers that come in while the run is live, at its end, and behind it."""
    thread = caller.thread()
    run = caller.new_run(thread, pause=0.002, every=3)
    with contextlib.ExitStack() as stack:
        runner, *others = (stack.enter_context(caller.server.client()) for _ in range(4))
        mine = caller.begin(runner, run)
        ended = False
        for client in others:
            ended = ended or caller.read(runner, mine, caller.chance.randrange(1, 10))
            caller.connect(client, thread)
        ended = ended or caller.read(runner, mine)
        for number, client in enumerate(others):
            caller.read_joined(client, run, f"connect {number}")
    caller.check_history([run])
    caller.delete(thread)


def read_slowly(caller: Caller) -> None:
    """A reader that takes a little at a time, of much more than buffers hold."""
    thread = caller.thread()
    run = caller.new_run(thread, deltas=60, size=3000, pause=0)
    with caller.server.client(receive_buffer=4096) as client:
        client.receive_at_most = caller.chance.choice((500, 2000, 8000))
        caller.read(client, caller.begin(client, run))
    caller.check_history([run])
    caller.delete(thread)


def suggest(caller: Caller) -> None:
    """A suggestion is read whole, or left; in neither case is anything stored."""
    run = caller.new_run(caller.thread())
    with caller.server.client() as client:
        reading = caller.begin(client, run, "suggest")
        if caller.chance.random() < 0.5:
            caller.read(client, reading, has_id=False)
        else:
            caller.read(client, reading, caller.chance.randrange(1, 8), has_id=False)
            caller.leave(client)
    with caller.server.client() as client:
        _expect(caller.replay(client, run.thread_id), [], "what a suggestion leaves")


def follow_up(caller: Caller) -> None:
    """The result of a front end's tool is posted in the instant the terminal event was read."""
    thread = caller.thread()
    asks, answers = caller.new_run(thread, ending="asks"), caller.new_run(thread)
    with caller.server.client() as client, caller.server.client() as second:
        reading = caller.begin(client, asks)
        while (frame := client.next_frame()) is not None:
            caller.counts["events"] += 1
            if reading.take(frame)["type"] in TERMINAL:
                break
        result = {"id": f"{thread}-r", "role": "tool", "content": "42", "toolCallId": "t"}
        then = caller.begin(second, answers, messages=[result])
        caller.read(second, then)
        caller.read(client, reading)
    caller.check_history([asks, answers])
    caller.delete(thread)


# --- Runs that do not ---------------------------------------------------------------------------


def fail(caller: Caller) -> None:
    """An agent that raises, or forgets to end; its thread can be used at once."""
    thread = caller.thread()
    failing = caller.new_run(thread, ending=caller.chance.choice(("raises", "forgets")))
    good = caller.new_run(thread)
    caller.whole_run(failing)
    assert failing.said is not None
    _expect(failing.said[-1]["type"], "RUN_ERROR", f"the end of {failing.run_id}")
    caller.whole_run(good)
    caller.check_history([failing, good])
    caller.delete(thread)


def stop(caller: Caller) -> None:
    """A run that is stopped ends for all its readers in the same way; then comes the next one."""
    thread = caller.thread()
    stopped, good = caller.new_run(thread, stopped=True, **LONG), caller.new_run(thread)
    with caller.server.client() as client, caller.server.client() as other:
        reading = caller.begin(client, stopped)
        caller.read(client, reading, caller.chance.randrange(1, 20))
        caller.connect(other, thread)
        caller.stop(thread)
        caller.read(client, reading)
        caller.read_joined(other, stopped, "connect")
    assert stopped.said is not None
    _expect(stopped.said[-1]["type"], "RUN_FINISHED", f"the end of {stopped.run_id}")
    caller.whole_run(good)
    caller.check_history([stopped, good])
    caller.delete(thread)


def be_refused(caller: Caller) -> None:
    """A second run of a busy thread is refused, and the first one does not notice."""
    thread = caller.thread()
    live, second = caller.new_run(thread, stopped=True, **LONG), caller.new_run(thread)
    with caller.server.client() as client:
        reading = caller.begin(client, live)
        caller.read(client, reading, 2)
        for _ in range(3):
            body = run_input(thread, second.run_id, forwardedProps=attrs.asdict(second.plan))
            answer = caller.request("POST", f"/agent/{caller.agent()}/run", body)
            _expect(answer.status, 409, "a run of a busy thread")
            caller.read(client, reading, 2)
        caller.stop(thread)
        caller.read(client, reading)
    caller.check_history([live])
    caller.delete(thread)


def supersede(caller: Caller) -> None:
    """A second run stops the first, and follows it in history."""
    thread = caller.thread()
    first = caller.new_run(thread, stopped=True, **LONG)
    second = caller.new_run(thread)
    with caller.server.client("supersede") as client:
        reading = caller.begin(client, first)
        caller.read(client, reading, caller.chance.randrange(1, 20))
        caller.whole_run(second, "supersede")
        caller.read(client, reading)
    caller.check_history([first, second], "supersede")
    caller.delete(thread, "supersede")


def delete_live(caller: Caller) -> None:
    """A thread is deleted under its readers."""
    thread = caller.thread()
    run = caller.new_run(thread, stopped=True, **LONG)
    with caller.server.client() as client:
        reading = caller.begin(client, run)
        caller.read(client, reading, caller.chance.randrange(1, 20))
        caller.delete(thread)
        caller.read(client, reading)
    with caller.server.client() as client:
        _expect(caller.replay(client, thread), [], f"the history of {thread}, which was deleted")


# --- Threads ------------------------------------------------------------------------------------


def evict(caller: Caller) -> None:
    """The store is too small: who reads a thread reads it to its end, or is broken off."""
    # A client notices by this error that a response is not complete.
    with contextlib.suppress(h11.RemoteProtocolError, ConnectionError):
        _read_from_a_small_store(caller, caller.thread())


def _read_from_a_small_store(caller: Caller, thread: str) -> None:
    run = caller.new_run(thread, deltas=60, size=1000, pause=0)
    resume_live = caller.new_run(thread, pause=0.003, every=2)
    caller.whole_run(run, "small")
    caller.whole_run(resume_live, "small")
    with caller.server.client("small", receive_buffer=4096) as client:
        client.receive_at_most = 2000
        frames = caller.replay(client, thread)
    if frames:
        # The runs that had been let go when the second run ended are not part of the replay.
        alone = len([frame for frame in frames if '"RUN_STARTED"' in frame.data]) == 1
        runs = [resume_live] if alone else [run, resume_live]
        check_replay(runs, frames, f"connect to {thread}, of which little is kept")
        seen = caller.chance.randrange(len(frames))
        with caller.server.client("small") as client:
            rest = caller.replay(client, thread, frames[seen].id)
        if rest not in ([], frames[seen + 1 :]):
            raise Wrong(f"{thread} resumed behind {frames[seen].id}: neither its rest nor nothing")
    check_texts([json.loads(frame.data) for frame in frames], thread)


def manage_threads(caller: Caller) -> None:
    """List, look at, rename and archive."""
    thread = caller.thread()
    run = caller.new_run(thread)
    caller.whole_run(run)
    listed = caller.request("GET", "/threads").json()["threads"]
    _expect([one["id"] for one in listed].count(thread), 1, f"{thread} in the list")
    messages = caller.request("GET", f"/threads/{thread}/messages").json()["messages"]
    _expect(len([one for one in messages if one["role"] == "assistant"]) >= 2, True, "messages")
    events = caller.request("GET", f"/threads/{thread}/events").json()["events"]
    check_texts(events, f"the events of {thread}")
    state = caller.request("GET", f"/threads/{thread}/state").json()["state"]
    _expect(state, {"run": run.run_id, "step": 2}, f"the state of {thread}")
    renamed = caller.request("PATCH", f"/threads/{thread}", {"name": "new"})
    _expect((renamed.status, renamed.json()["name"]), (200, "new"), f"{thread} renamed")
    _expect(caller.request("POST", f"/threads/{thread}/archive").status, 200, "archive")
    caller.delete(thread)
    status = caller.request("DELETE", f"/threads/{thread}").status
    _expect(caller.is_missing(status), True, f"{thread} deleted twice is told ({status})")


# --- Requests of every kind, good and bad -------------------------------------------------------

_PLAIN = (
    ("GET", "/info", b"", 200),
    ("GET", "/nothing", b"", 404),
    ("PUT", "/info", b"", 405),
    ("OPTIONS", "/info", b"", 204),
    ("GET", "/threads/unknown/messages", b"", 200),
    ("POST", "/agent/unknown/run", b"{}", 404),
    ("POST", "/agent/default/run", b"{", 400),
    ("POST", "/agent/default/run", b"[" * 5000, 400),
    ("POST", "/agent/default/run", b'{"threadId": 1}', 400),
    ("POST", "/agent/default/stop/nobody", b"", 200),
    ("POST", "/agent/default/stop/nobody", b"[]", 400),
    ("DELETE", "/threads/nobody", b"", 404),
    ("PATCH", "/threads/nobody", b"{}", 400),
)


def ask_much(caller: Caller) -> None:
    """Many requests on one connection."""
    for _ in range(caller.chance.randrange(1, 25)):
        method, path, body, status = caller.chance.choice(_PLAIN)
        caller.counts["requests"] += 1
        with caller.kept() as client:
            answer = client.request(method, path, body, {"content-type": "application/json"})
        if not (method == "DELETE" and caller.is_missing(answer.status)):
            _expect(answer.status, status, f"{method} {path} {body[:20]!r}")


def abort_upload(caller: Caller) -> None:
    """A client that goes away in the middle of what it sends: its run is never begun."""
    thread = caller.thread()
    body = json.dumps(run_input(thread, forwardedProps=attrs.asdict(caller.plan()))).encode()
    with caller.server.client() as client:
        sent = client.request_bytes("POST", "/agent/default/run", body)
        client.send_raw(sent[: caller.chance.randrange(1, len(sent))])
        caller.leave(client)
    with caller.server.client() as client:
        _expect(caller.replay(client, thread), [], f"what an aborted upload leaves in {thread}")


def be_hostile(caller: Caller) -> None:
    """The caller sends requests that are no HTTP, or that can be understood in two ways."""
    case = caller.chance.choice(HOSTILE)
    caller.counts["requests"] += 1
    with caller.server.client() as client:
        if caller.server.file.owns_sockets:
            with contextlib.suppress(ConnectionError):
                client.send_raw(case.sent.replace(b"{base}", client.base.encode()))
            answers = tuple(one.status for one in responses(client.receive_all(), case.sent))
            _expect(answers, case.answers, f"the answers to {case.name}")
        else:
            # The answer to random bytes is not checked, because the server in front of the binding
            # gives it.
            client.send_raw(caller.chance.randbytes(caller.chance.randrange(1, 2000)))
            caller.leave(client)


SCENARIOS: tuple[Callable[[Caller], None], ...] = (
    read_whole,
    cut_and_resume,
    resume_a_replay,
    join,
    read_slowly,
    suggest,
    follow_up,
    fail,
    stop,
    be_refused,
    supersede,
    delete_live,
    evict,
    manage_threads,
    ask_much,
    abort_upload,
    be_hostile,
)
