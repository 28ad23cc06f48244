"""Drive a runtime in a unit test: no network, no event loop, no thread, and a clock you set.

    client = Client(runtime)
    assert client.get("/api/copilotkit/info").status == 200

    stream = client.stream("POST", "/api/copilotkit/agent/default/run", json=run_input("t1"))
    first = stream.next()          # the agent has yielded once, and waits

This is a binding like any other, whose transport is a buffer. Runs go on only while something
waits for them, one event at a time, so that a test sees every moment it wants to.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

import attrs

from . import _json, sse
from .actions import (
    Abandon,
    Action,
    Call,
    Finish,
    PullEvent,
    ReadBody,
    RunAction,
    RunOver,
    SendBytes,
    SendHead,
    StartRun,
    WaitForFrames,
)
from .errors import BodyTooLarge
from .http import HeaderItems, Headers, Request
from .run import Run, RunState
from .runtime import CopilotRuntime

T = TypeVar("T")


def run_input(thread_id: str, run_id: str = "run-1", **fields: Any) -> dict[str, Any]:
    """A body for run, connect and suggest; ``fields`` replace or add JSON members."""
    return {
        "threadId": thread_id,
        "runId": run_id,
        "state": {},
        "messages": [],
        "tools": [],
        "context": [],
        "forwardedProps": {},
        **fields,
    }


class NeedsEventLoop(Exception):
    """An async function awaited something that only an event loop can finish.

    Test it through a binding, or hand it what it waits for (a ``sleep`` of the test's own, say).
    """


@attrs.frozen
class Answer:
    """A whole response."""

    status: int
    headers: Headers
    body: bytes = attrs.field(repr=False)

    def json(self) -> Any:
        """The body as JSON. :raises ValueError: if it is not."""
        return _json.decode(self.body)

    def events(self) -> list[dict[str, Any]]:
        """The AG-UI events of a stream."""
        return [_json.decode(event.data.encode()) for event in sse.Parser().feed(self.body)]


class Client:
    """A client of ``runtime``. Paths are absolute: "/api/copilotkit/info".

    :param now: the time that the core is told, in seconds since the epoch; assign :attr:`now`, or
        call :meth:`advance`, to move it.
    """

    def __init__(self, runtime: CopilotRuntime, *, now: float = 1_700_000_000.0) -> None:
        self.runtime = runtime
        self.now = now
        self._homes: deque[_Home] = deque()
        self._streams: list[Stream] = []

    def get(self, path: str, *, headers: HeaderItems = ()) -> Answer:
        """GET ``path``."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, *, json: Any = None, headers: HeaderItems = ()) -> Answer:
        """POST ``json`` to ``path``; None sends no body."""
        return self._json_stream("POST", path, json, headers).finish()

    def request(
        self, method: str, path: str, *, headers: HeaderItems = (), body: bytes | str = b""
    ) -> Answer:
        """Send a request and wait for the response's end, which may need runs to go on."""
        return Stream(self, method, path, Headers(headers), body).finish()

    def stream(
        self, method: str, path: str, *, json: Any = None, headers: HeaderItems = ()
    ) -> Stream:
        """Send a request and return as soon as its head is there, to read event by event."""
        return self._json_stream(method, path, json, headers)

    def advance(self, seconds: float) -> None:
        """Let time pass: heartbeats that are due are sent, leases that are due renewed."""
        self.now += seconds
        for home in list(self._homes):
            home.renew_if_due()
        for stream in list(self._streams):
            stream.time_out_if_due()

    def step(self) -> bool:
        """Let each live run take one event from its agent; returns whether one was there to."""
        homes = list(self._homes)
        for home in homes:
            home.step()
        return bool(homes)

    def close(self, reason: str = "The server is shutting down") -> None:
        """End all live runs, as a server's shutdown does."""
        for home in list(self._homes):
            home.interrupt(reason)

    def _json_stream(self, method: str, path: str, json: Any, headers: HeaderItems) -> Stream:
        fields = Headers(headers)
        body = b""
        if json is not None:
            body = _json.encode(json)
            if "content-type" not in fields:
                fields = fields.set("content-type", "application/json")
        return Stream(self, method, path, fields, body)

    def _start(self, run: Run) -> None:
        self._homes.append(_Home(self, run))

    def _leave(self, home: _Home) -> None:
        self._homes.remove(home)


class Stream:
    """A response on its way. Made by :meth:`Client.stream`.

    Iterating gives the events until the stream ends.
    """

    def __init__(
        self, client: Client, method: str, path: str, headers: Headers, body: bytes | str
    ) -> None:
        self.status = 0
        self.headers = Headers()
        self.body = bytearray()
        """All bytes so far."""
        self.ended = False
        """Whether the response is complete, or was broken off."""
        self._client = client
        self._body = body.encode() if isinstance(body, str) else body
        self._parser = sse.Parser()
        self._events: deque[sse.ServerSentEvent] = deque()
        self._waiting: WaitForFrames | None = None
        self._woken = False
        self._deadline = 0.0
        self._exchange = client.runtime.exchange(
            Request.from_target(method, path, headers), client.now
        )
        client._streams.append(self)
        self._perform(self._exchange.start())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (event := self.next_frame()) is not None:
            yield _json.decode(event.data.encode())

    def next(self) -> dict[str, Any]:
        """The next event; runs go on until there is one.

        :raises EOFError: if the stream has ended.
        """
        event = self.next_frame()
        if event is None:
            raise EOFError("the stream has ended")
        return cast("dict[str, Any]", _json.decode(event.data.encode()))

    def next_frame(self) -> sse.ServerSentEvent | None:
        """The next event as it was framed, with its id; None if the stream has ended."""
        while not self._events and not self.ended:
            self._proceed()
        return self._events.popleft() if self._events else None

    def ready(self) -> list[dict[str, Any]]:
        """The events that are there already; no run goes on for it."""
        self._resume()
        events = [_json.decode(event.data.encode()) for event in self._events]
        self._events.clear()
        return events

    @property
    def last_event_id(self) -> str:
        """The id of the last event that arrived, to reconnect with."""
        return self._parser.last_event_id

    def finish(self) -> Answer:
        """Read to the end."""
        while not self.ended:
            self._proceed()
        return Answer(self.status, self.headers, bytes(self.body))

    def close(self) -> None:
        """Hang up, as a client does that goes away."""
        if not self.ended and (action := self._exchange.client_gone()) is not None:
            self._waiting = None
            self._perform(action)

    def time_out_if_due(self) -> None:
        """Tell the exchange if it has waited for long enough; used by :meth:`Client.advance`."""
        if self._waiting is not None and self._client.now >= self._deadline:
            self._resume()
            if self._waiting is not None:
                self._waiting = None
                self._perform(self._exchange.done(False))

    def _proceed(self) -> None:
        if not self._resume() and not self._client.step():
            raise AssertionError("the stream waits for a run that is not this client's")

    def _resume(self) -> bool:
        if self._waiting is None or not self._woken:
            return False
        self._waiting = None
        self._perform(self._exchange.done(True))
        return True

    def _wake(self) -> None:
        self._woken = True

    def _perform(self, action: Action) -> None:
        exchange = self._exchange
        while True:
            match action:
                case ReadBody(limit=limit):
                    if len(self._body) > limit:
                        action = exchange.failed(BodyTooLarge(f"more than {limit} bytes"))
                    else:
                        action = exchange.done(self._body)
                case Call():
                    try:
                        outcome = _call(action)
                    except Exception as error:
                        action = exchange.failed(error)
                    else:
                        action = exchange.done(outcome)
                case StartRun(run=run):
                    self._client._start(run)
                    action = exchange.done()
                case SendHead(status=status, headers=headers):
                    self.status, self.headers = status, Headers(headers)
                    action = exchange.done()
                case SendBytes(data=data):
                    self.body += data
                    self._events.extend(self._parser.feed(data))
                    action = exchange.done()
                case WaitForFrames(store=store, cursor=cursor, timeout=timeout):
                    self._waiting, self._woken = action, False
                    self._deadline = self._client.now + timeout
                    store.watch(cursor, self._wake)
                    return
                case Finish() | Abandon():
                    self.ended = True
                    self._client._streams.remove(self)
                    return


class _Home:
    """Where a run lives in a test: it goes on when it is stepped."""

    def __init__(self, client: Client, run: Run) -> None:
        self._client = client
        self._run = run
        self._renewed_at = client.now
        self._draining = False
        self._busy = False
        self._events: Any = None
        self._unwatch = run.store.watch_run(run.key, self._notified)
        self._perform(run.start())

    def step(self) -> None:
        """Take one event from the agent."""
        try:
            event = self._pull()
        except (StopIteration, StopAsyncIteration):
            self._told(None)
        except Exception as error:
            self._told(error)
        else:
            if not self._draining:
                self._perform(self._run.event(event, self._client.now))

    def interrupt(self, reason: str) -> None:
        if self._run.state is RunState.PULLING:
            self._perform(self._run.interrupt(self._client.now, reason))
        else:
            self._cancel()

    def renew_if_due(self) -> None:
        lease = self._run.lease
        if lease is not None and self._client.now - self._renewed_at >= lease / 3:
            self._renewed_at = self._client.now
            self._notified()

    def _pull(self) -> object:
        if self._events is None:
            events = self._run.events()
            if inspect.isawaitable(events):
                events = _await(cast("Coroutine[Any, Any, Any]", events))
            self._events = aiter(events) if hasattr(events, "__aiter__") else iter(events)
        if hasattr(self._events, "__anext__"):
            return _await(self._events.__anext__())
        return next(self._events)

    def _told(self, error: Exception | None) -> None:
        if self._draining:
            self._client._leave(self)
        else:
            self._perform(self._run.agent_ended(self._client.now, error))

    def _notified(self) -> None:
        # A store call in progress brings the signal itself.
        if not self._busy and self._run.state is RunState.PULLING:
            self._perform(self._run.check())

    def _perform(self, action: RunAction) -> None:
        self._busy = True
        while True:
            match action:
                case Call():
                    try:
                        outcome = _call(action)
                    except Exception as error:
                        action = self._run.store_failed(error, self._client.now)
                    else:
                        action = self._run.stored(outcome, self._client.now)
                case PullEvent():
                    break
                case RunOver(agent=agent):
                    self._unwatch()
                    self._draining = True
                    if agent == "cancel":
                        self._cancel()
                    elif agent == "done":
                        self._client._leave(self)
                    break
        self._busy = False

    def _cancel(self) -> None:
        self._client._leave(self)
        close = getattr(self._events, "aclose", None)
        if close is not None:
            _await(close())
        elif hasattr(self._events, "close"):
            self._events.close()


def _call(action: Call) -> Any:
    outcome = action.function(*action.args)
    if inspect.isawaitable(outcome):
        return _await(cast("Coroutine[Any, Any, Any]", outcome))
    return outcome


def _await(awaitable: Any) -> Any:
    """Run a coroutine that only ever gives way (``asyncio.sleep(0)``), never waits."""
    coroutine = awaitable.__await__() if not hasattr(awaitable, "send") else awaitable
    while True:
        try:
            waits_for = coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        if waits_for is not None:
            coroutine.close()
            raise NeedsEventLoop(
                f"waits for {waits_for!r}, which needs an event loop: use a binding to test this"
            )
