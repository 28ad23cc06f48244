"""Requests of every route, and all that can be told of how each is answered.

An answer is not its bytes alone: whoever counts what a server does, or how long it takes, learns
from its steps as well. So a request is taken through its exchange by hand, and each step is noted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from sansio_copilot import AudioFile, CopilotRuntime, MemoryStore, Request, User
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    StoreCall,
    WaitForFrames,
)
from sansio_copilot.config import Mode
from sansio_copilot.http.envelope import METHOD_NAMES
from sansio_copilot.http.routing import (
    ENDPOINTS,
    METHODS,
    Route,
    is_resource,
    path_of,
)
from sansio_copilot.testing import run_input
from sansio_copilot.testing.loopless import perform

BASE = "/api/copilotkit"
MODES: tuple[Mode, ...] = ("multi-route", "single-route", "both")
NOW = 1_700_000_000.0
AUDIO = {"audio": "GkXfow==", "mimeType": "audio/webm"}
BODIES: dict[str, Any] = {
    **dict.fromkeys(("agent/run", "agent/connect", "agent/suggest"), run_input("t", "asked")),
    "agent/stop": {},
    "transcribe": AUDIO,
    "threads/update": {"name": "mine now"},
}
"""The body that is sent to each route that reads one."""


@attrs.frozen
class Asked:
    """A request for a route: in what mode, by which method and path, with what body."""

    route: str
    mode: Mode
    method: str
    path: str
    body: bytes
    headers: dict[str, str] = attrs.field(factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.mode} {self.method} {self.route}"


def requests() -> Iterator[Asked]:
    """A request for each route, with each method that it takes, in each mode."""
    for endpoint in ENDPOINTS:
        route = Route(endpoint.name, "default", "t", "m")
        below = path_of(route)
        assert below is not None
        body = BODIES.get(endpoint.name)
        for method in METHODS[endpoint.name]:
            data = b"" if body is None or method == "DELETE" else json.dumps(body).encode()
            for mode in MODES[::2]:
                yield Asked(endpoint.name, mode, method, BASE + below, data)
            if (envelope := envelope_of(route, method, below, body)) is not None:
                text = json.dumps(envelope).encode()
                for mode in MODES[1:]:
                    yield Asked(f"{endpoint.name} in an envelope", mode, "POST", BASE, text)


def envelope_of(route: Route, method: str, below: str, body: Any) -> dict[str, Any] | None:
    """The envelope that stands for a request; None for a route that none can reach."""
    content = {} if body is None or method == "DELETE" else {"body": body}
    if route.name in METHOD_NAMES:
        params = {"agentId": route.agent_id, "threadId": route.thread_id}
        return {"method": route.name, "params": params, **content}
    if not is_resource(route):
        return None
    return {
        "method": "resource/request",
        "params": {"path": below, "httpMethod": method},
        **content,
    }


@attrs.frozen
class Told:
    """All that an answer tells: what was sent, and in which steps."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    steps: tuple[str, ...]


def agent(input: Any, context: Any) -> Any:
    """An agent that says who it believes to be speaking to."""
    run = {"threadId": input.thread_id, "runId": input.run_id}
    name = "nobody" if context.user is None else context.user.id
    yield {"type": "RUN_STARTED", **run}
    yield {"type": "TEXT_MESSAGE_CHUNK", "messageId": f"m-{input.run_id}", "delta": f"Hi {name}"}
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"secret": f"of {name}"}}
    yield {"type": "RUN_FINISHED", **run}


def transcribe(audio: AudioFile) -> str:
    return "said"


def identify(request: Request) -> User | None:
    """Everybody is who they say in a header."""
    name = request.headers.get("x-user")
    return None if name is None else User(name, data={"is_admin": name == "admin"})


async def authorize(user: User, action: str, thread_id: str | None) -> bool | str:
    """An administrator may do anything; Carol was given a thread to look at."""
    if user.data["is_admin"]:
        return True
    return "ann" if user.id == "carol" and action in ("connect", "read") else False


class World:
    """A store, runtimes of each mode over it, and what is asked of them."""

    def __init__(self, store: Any = None, **options: Any) -> None:
        options.setdefault("identify_user", identify)
        self.store = MemoryStore() if store is None else store
        self._options = options
        self._runtimes: dict[Mode, CopilotRuntime] = {}
        self.runs: list[StartRun] = []

    def runtime(self, mode: Mode) -> CopilotRuntime:
        """The runtime of a mode, which is made when the first request asks for it."""
        if mode not in self._runtimes:
            self._runtimes[mode] = CopilotRuntime(
                {"default": agent},
                store=self.store,
                mode=mode,
                thread_mutations=True,
                debug=True,
                transcription=transcribe,
                **self._options,
            )
        return self._runtimes[mode]

    def ask(
        self,
        asked: Asked,
        user: str | None,
        **headers: str,
    ) -> Told:
        """Take a request as far as it goes: a stream until there is nothing more to read."""
        fields = {"content-type": "application/json", **asked.headers}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            fields["x-user"] = user
        request = Request.from_target(asked.method, asked.path, fields)
        exchange = self.runtime(asked.mode).exchange(request, NOW)
        steps: list[str] = []
        status, body = 0, b""
        head: tuple[tuple[str, str], ...] = ()
        action: Action | None = exchange.start()
        while action is not None:
            steps.append(_name_of(action))
            match action:
                case Call():
                    try:
                        outcome = perform(action)
                    except Exception as error:
                        action = exchange.failed(error)
                    else:
                        action = exchange.done(outcome)
                    continue
                case ReadBody():
                    action = exchange.done(asked.body)
                    continue
                case StartRun():
                    self.runs.append(action)
                case SendHead(status=status, headers=head):
                    pass
                case SendBytes(data=data):
                    body += data
                case WaitForFrames():
                    action = exchange.client_gone()
                    continue
                case Finish() | Abandon():
                    break
            action = exchange.done()
        return Told(status, head, body, tuple(steps))

    def post(self, path: str, body: Any, user: str | None, **headers: str) -> Told:
        """POST JSON to a multi-route path."""
        asked = Asked(path, "multi-route", "POST", f"{BASE}/{path}", json.dumps(body).encode())
        return self.ask(asked, user, **headers)

    def get(self, path: str, user: str | None, **headers: str) -> Told:
        """GET a multi-route path."""
        return self.ask(Asked(path, "multi-route", "GET", f"{BASE}/{path}", b""), user, **headers)

    def open(self, thread_id: str = "t", run_id: str = "live", user: str | None = "ann") -> Told:
        """A run that is live until :meth:`finish`."""
        return self.post("agent/default/run", run_input(thread_id, run_id), user)

    def finish(self) -> None:
        """Let the runs that have been started go on to their ends."""
        for started in self.runs:
            run = started.run
            events = iter(run.events())
            step: Any = run.start(NOW)
            while type(step).__name__ != "RunOver":
                if isinstance(step, StoreCall):
                    step = run.stored(perform(step), NOW)
                else:
                    event = next(events, None)
                    step = run.agent_ended(NOW) if event is None else run.event(event, NOW)
        self.runs = []


def _name_of(action: Action) -> str:
    name = type(action).__name__
    return f"{name} {action.name}" if isinstance(action, Call) else name
