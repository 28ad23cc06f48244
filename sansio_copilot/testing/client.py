"""Drive a runtime in a unit test: no network, no event loop, no thread, and a clock you set.

    client = Client(runtime)
    assert client.get("/api/copilotkit/info").status == 200

    stream = client.stream("POST", "/api/copilotkit/agent/default/run", json=run_input("t1"))
    first = stream.next()          # the agent has yielded once, and waits

The client is a binding like any other, whose transport is a buffer. Runs go on only while something
waits for them, one event at a time, so that a test sees every moment that it wants to see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

from .. import json_codec, sse
from ..calls import Call
from ..errors import BodyTooLarge
from ..exchange.actions import Action, ReadBody, SendBytes, SendHead, StartRun, WaitForFrames
from ..exchange.retries import SILENCE
from ..http.messages import HeaderItems, Headers, Request
from ..runs.machine import Run
from ..runtime import CopilotRuntime
from ..stores.calls import check_cancel, close_store, open_store
from ..stores.protocol import Cancel, nothing_to_cancel
from .home import Home
from .loopless import NeedsEventLoop, perform, perform_steps
from .requests import endpoint, json_body
from .responses import ClientResponse

__all__ = ["Client", "Stream"]


class Client:
    """A client of ``runtime``. Paths are absolute: "/api/copilotkit/info".

    Clients are for one thread at a time, because nothing here waits; requests that overlap are
    streams of one client, or requests of ``copilot_bindings.testing.AsyncClient``.

    :param now: the time that the core is told, in seconds since the epoch. A test moves it by
        assigning :attr:`now`, or with :meth:`advance`.
    :raises Exception: what the store's ``open`` or the runtime's ``on_start`` raises.
    """

    def __init__(self, runtime: CopilotRuntime, *, now: float = 1_700_000_000.0) -> None:
        self.runtime = runtime
        self.now = now
        self._homes: deque[Home] = deque()
        self._streams: list[Stream] = []
        self._closed = False
        if (opening := open_store(runtime.store)) is not None:
            perform(opening)
        try:
            self._call("on_start")
        except BaseException:
            self._end()
            raise

    def get(self, path: str, *, headers: HeaderItems = ()) -> ClientResponse:
        """GET ``path``."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, *, json: Any = None, headers: HeaderItems = ()) -> ClientResponse:
        """POST ``json`` to ``path``; None sends no body.

        :raises TypeError: for a value that JSON has no form for.
        :raises ValueError: for one that contains itself, or is nested too deeply.
        """
        return self._json_stream("POST", path, json, headers).finish()

    def request(
        self, method: str, path: str, *, headers: HeaderItems = (), body: bytes | str = b""
    ) -> ClientResponse:
        """Send a request and wait for the response's end, which may need runs to go on.

        :param path: a path or a URL, with a query if there is one.
        :raises RemoteProtocolError: for a ``path`` that no client could ask for.
        :raises ValueError: for a ``body`` with lone surrogates.
        """
        return Stream(self, method, path, Headers(headers), body).finish()

    def run(
        self, input: Any, agent_id: str = "default", *, headers: HeaderItems = ()
    ) -> ClientResponse:
        """Run an agent, wherever the runtime has it, and wait for the end of the run.

        :param input: as :func:`run_input` makes it.
        :raises TypeError: for a value that JSON has no form for.
        :raises ValueError: for one that contains itself, or is nested too deeply.
        """
        path, body = endpoint(self.runtime, "run", agent_id, input)
        return self.post(path, json=body, headers=headers)

    def begin_run(
        self, input: Any, agent_id: str = "default", *, headers: HeaderItems = ()
    ) -> Stream:
        """Run an agent, as :meth:`run` does, and read its response event by event."""
        path, body = endpoint(self.runtime, "run", agent_id, input)
        return self.stream("POST", path, json=body, headers=headers)

    def stream(
        self, method: str, path: str, *, json: Any = None, headers: HeaderItems = ()
    ) -> Stream:
        """Send a request and return as soon as its head is there, to read event by event."""
        return self._json_stream(method, path, json, headers)

    def advance(self, seconds: float) -> None:
        """Let time pass: heartbeats that are due are sent, leases that are due renewed."""
        self.now += seconds
        self._take_signals()
        for home in list(self._homes):
            home.time_passed()
        for stream in list(self._streams):
            stream.time_out_if_due()

    def step(self) -> bool:
        """Let each live run take one event from its agent.

        :returns: whether there was a run that could.
        """
        stepped = False
        self._take_signals()
        for home in list(self._homes):
            # The home is looked for once more, because the step of one run may have ended another.
            if home in self._homes and home.step():
                stepped = True
        return stepped

    def _take_signals(self) -> None:
        """Let the runs do what the store has signalled, in its last call or meanwhile."""
        for home in list(self._homes):
            home.take_signals()

    def close(self, reason: str = "The server is shutting down") -> None:
        """End all live runs, call ``on_close`` and close the store, as a server's shutdown does.

        A second call does nothing.

        :raises Exception: what ``on_close`` or the store's ``close`` raises, or an agent that needs
            an event loop to clean up.
        """
        if self._closed:
            return
        self._closed = True
        # The steps are callbacks of a stack, so that each is made even if an agent needs an event
        # loop to clean up.
        with ExitStack() as steps:
            steps.callback(self._end)
            for home in reversed(self._homes):
                steps.callback(home.interrupt, reason)

    def _end(self) -> None:
        perform_steps(self.runtime.tell_of_lost())
        try:
            self._call("on_close")
        finally:
            if (closing := close_store(self.runtime.store)) is not None:
                perform(closing)

    def _call(self, name: str) -> None:
        function = getattr(self.runtime, name)
        if function is not None:
            perform(Call(function, name=name))

    def _json_stream(self, method: str, path: str, json: Any, headers: HeaderItems) -> Stream:
        fields, body = json_body(json, headers)
        return Stream(self, method, path, fields, body)

    def start_run(self, run: Run) -> None:
        """Give ``run`` a home, as the exchange asks for that was made with ``runtime.exchange``.

        :meth:`step` and the iteration of a :class:`Stream` take it on from there.
        """
        home = Home(run, lambda: self.now, self.advance, self._homes.remove)
        self._homes.append(home)
        home.begin()


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
        self._unwatch: Cancel = nothing_to_cancel
        self._deadline = 0.0
        self._exchange = client.runtime.exchange(
            Request.from_target(method, path, headers), client.now
        )
        client._streams.append(self)
        self._perform(self._exchange.start())
        while self._is_paused and not self.status:
            self._proceed()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (event := self.next_frame()) is not None:
            yield json_codec.decode(event.data.encode())

    def next(self) -> dict[str, Any]:
        """The next event; runs go on until there is one.

        :raises EOFError: if the stream has ended.
        """
        event = self.next_frame()
        if event is None:
            raise EOFError("the stream has ended")
        return cast("dict[str, Any]", json_codec.decode(event.data.encode()))

    def next_frame(self) -> sse.ServerSentEvent | None:
        """The next event with its id; None if the stream has ended."""
        while not self._events and not self.ended:
            self._proceed()
        return self._events.popleft() if self._events else None

    def ready(self) -> list[dict[str, Any]]:
        """The events that are there already; no run goes on for them."""
        self._resume()
        events = [json_codec.decode(event.data.encode()) for event in self._events]
        self._events.clear()
        return events

    @property
    def last_event_id(self) -> str:
        """The id of the last event that arrived, to reconnect with."""
        return self._parser.last_event_id

    def finish(self) -> ClientResponse:
        """Read to the end."""
        while not self.ended:
            self._proceed()
        return ClientResponse(self.status, self.headers, bytes(self.body), self._body)

    def close(self) -> None:
        """Close the connection, as a client does that goes away."""
        if not self.ended:
            self._stop_waiting()
            action = self._exchange.client_gone()
            assert action is not None, "it waits for frames, which may be given up"
            self._perform(action)

    def time_out_if_due(self) -> None:
        """Tell the exchange if it has waited for long enough; used by :meth:`Client.advance`."""
        due = self._waiting is not None and self._client.now >= self._deadline
        if due and not self._resume():
            self._stop_waiting()
            self._perform(self._exchange.done(False))

    @property
    def _is_paused(self) -> bool:
        """Whether it waits for a store that is unavailable, and so for time to pass."""
        return self._waiting is not None and self._waiting.store is SILENCE

    def _proceed(self) -> None:
        if self._is_paused:
            self._client.advance(max(self._deadline - self._client.now, 0.0))
        elif not self._resume() and not self._client.step():
            raise AssertionError("the stream waits for a run that is not this client's")

    def _resume(self) -> bool:
        if self._waiting is None or not self._woken:
            return False
        self._stop_waiting()
        self._perform(self._exchange.done(True))
        return True

    def _stop_waiting(self) -> None:
        self._waiting = None
        self._unwatch()

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
                        outcome = perform(action)
                    except NeedsEventLoop:
                        self._end()
                        raise
                    except Exception as error:
                        action = exchange.failed(error)
                    else:
                        self._client._take_signals()
                        action = exchange.done(outcome)
                case StartRun(run=run):
                    self._client.start_run(run)
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
                    try:
                        self._unwatch = check_cancel(store.watch, store.watch(cursor, self._wake))
                    except Exception as error:
                        self._waiting = None
                        action = exchange.failed(error)
                    else:
                        return
                # The other two actions, Finish and Abandon, both end the response.
                case _:
                    self._end()
                    return

    def _end(self) -> None:
        self.ended = True
        self._client._streams.remove(self)
