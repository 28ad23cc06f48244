"""The connection of the bindings that own their sockets, driven by hand: no socket, no loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
from support.hostile_requests import BODY, CHUNKS, NEXT, POST, Case, responses, with_chunks

from copilot_bindings.http1 import answering, arrival_deadlines, connection, response_framing
from copilot_bindings.http1.arrival_deadlines import Deadline
from copilot_bindings.http1.connection import HTTPConnection
from copilot_bindings.http1.wants import GONE, Close, CloseWriting, Receive, Rest, Send
from copilot_bindings.serving.body_limits import Bodies
from copilot_bindings.serving.context import CallContext
from copilot_bindings.serving.pending_call import CallTimeout, Pending
from sansio_copilot import CopilotRuntime, Limits, text_agent
from sansio_copilot.actions import Call, WaitForFrames
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
LIMITS = Limits(body_bytes=100_000)


@text_agent
async def hello(input: Any, context: Any) -> Any:
    for word in ("Hello", " from", " Python"):
        yield word


def make_runtime(**options: Any) -> CopilotRuntime:
    return CopilotRuntime({"default": hello}, **{"limits": LIMITS, **options})


class Clock:
    """A clock that stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        """Have connections look at this one."""
        monkeypatch.setattr(answering, "time", self)
        monkeypatch.setattr(arrival_deadlines, "time", self)
        monkeypatch.setattr(connection, "time", self)
        monkeypatch.setattr(response_framing, "time", self)
        return self


@attrs.frozen
class Output:
    """Bytes that are to be sent."""

    data: bytes


class Late(Pending):
    """A call whose outcome comes later."""

    outcome: Any = None


class Driver:
    """A binding that performs what can be performed at once, and shows what has to be waited for.

    :param spoil: what to answer to a want, a call or an :class:`Output` instead of performing it:
        an outcome, an exception for
        it to fail with, or None to perform it.
    """

    def __init__(
        self,
        runtime: CopilotRuntime | None = None,
        *,
        admitted: bool = True,
        spoil: Callable[[object], Any] = lambda want: None,
    ) -> None:
        runtime = runtime or make_runtime()
        self.client = Client(runtime)
        self.bodies = Bodies(runtime.limits)
        self.service = SimpleNamespace(
            runtime=runtime,
            bodies=self.bodies,
            calls=self,
            live_backend=None,
            context=CallContext.of_now(),
            closing=False,
            start_run=self.client.start_run,
        )
        self.http = HTTPConnection(cast("Any", self.service), admitted=admitted)
        self.sent = bytearray()
        self.performed: list[type[object]] = []
        self._spoil = spoil
        self.want = self.http.start()
        self._check_whose_want_it_is()
        self._perform()

    def feed(self, *pieces: bytes) -> Driver:
        for piece in pieces:
            self.http.feed(piece)
            if isinstance(self.want, Receive):
                self.resume(None)
            elif isinstance(self.want, WaitForFrames) and not piece:
                self.resume(GONE)
        return self

    def resume(self, outcome: Any) -> Driver:
        self.want = self.http.done(outcome)
        self._check_whose_want_it_is()
        self._perform()
        return self

    def run_step(self) -> Driver:
        """Let the agents go on until there is something to read."""
        assert isinstance(self.want, WaitForFrames)
        self.client.step()
        return self.resume(True)

    def run(self) -> Driver:
        """Let the agents go on until nobody waits for them."""
        while isinstance(self.want, WaitForFrames):
            self.run_step()
        return self

    def end(self) -> Driver:
        """The client closes its side, and what it asked for is seen through."""
        return self.run().feed(b"").run()

    def begin(self, action: Call, context: CallContext, backend: Any, *, own: bool) -> Any:
        """Make a call, as :class:`~copilot_bindings.serving.calls.Calls` do."""
        outcome = self._spoil(action)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return Late("a call", 1.0, False, CallTimeout, context, backend, set(), outcome=outcome)
        self.performed.append(type(action))
        return action.function(*action.args)

    def _perform(self) -> None:
        while True:
            outcome: Any = None if isinstance(self.want, Rest) else self._send()
            if outcome is None:
                if isinstance(self.want, Close):
                    return
                if isinstance(self.want, Late):
                    outcome = self.want.outcome
                elif not (isinstance(self.want, Receive) and self.http.parser.has_news):
                    outcome = self._spoil(self.want)
                    if outcome is None:
                        if isinstance(self.want, (Receive, WaitForFrames)):
                            return
                        self.performed.append(type(self.want))
                        outcome = isinstance(self.want, Rest) or None
            failed = isinstance(outcome, Exception)
            self.want = self.http.failed(outcome) if failed else self.http.done(outcome)
            self._check_whose_want_it_is()

    def _check_whose_want_it_is(self) -> None:
        """Compare the want with the table at the head of the connection's module."""
        is_answering = self.http._exchange is not None  # noqa: SLF001 - the table is of these two
        held = self.http._held  # noqa: SLF001
        if not is_answering:
            assert held is None
            assert isinstance(self.want, Receive | Rest | Send | CloseWriting | Close)
        elif held is None:
            assert isinstance(self.want, Pending | WaitForFrames | Send)
        elif isinstance(held, Deadline):
            assert isinstance(self.want, Receive | Rest)
        else:
            assert isinstance(self.want, Send | Rest)

    def _send(self) -> Any:
        """Send the output; returns what became of it, if it was not sent."""
        data = self.http.data_to_send()
        if not data:
            return None
        outcome = self._spoil(Output(data))
        if outcome is None:
            self.performed.append(Output)
            self.sent += data
        return outcome

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in responses(bytes(self.sent))]

    @property
    def closed(self) -> bool:
        return isinstance(self.want, Close)


def bytes_of(case: Case) -> bytes:
    return case.bytes_to(BASE)


def run_bytes(thread: str = "t", *fields: str) -> bytes:
    body = json.dumps(run_input(thread)).encode()
    head = [
        f"POST {BASE}/agent/default/run HTTP/1.1",
        "host: x",
        f"content-length: {len(body)}",
        *fields,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def in_base(data: bytes) -> bytes:
    return data.replace(b"{base}", BASE.encode())


INFO = in_base(NEXT)
STOP = in_base(POST) + b"content-length: 7\r\n\r\n" + BODY
CONVERSATIONS = {
    "info": INFO,
    "stop": STOP,
    "run": run_bytes(),
    "chunks": in_base(with_chunks(b"3;a=b\r\n{  \r\n1\r\n}\r\n0\r\na: b\r\n\r\n")),
    "pipelined": INFO + b"\r\n" + STOP + run_bytes() + in_base(with_chunks(CHUNKS)) + INFO,
    "expectation": run_bytes("t", "expect: 100-continue"),
    "close": run_bytes("t", "connection: close") + INFO,
    "HTTP/1.0": run_bytes().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "nobody wants the body": STOP.replace(b"/agent", b"/nope") + INFO,
}


def places_to_cut(data: bytes) -> list[int]:
    """Return each offset beside an octet that may separate, and one within every word.

    A parser has no reason to treat two cuts within the same word differently.
    """

    def within(offset: int) -> bool:
        return data[offset - 1 : offset + 1].isalnum()

    return [at for at in range(1, len(data)) if not (within(at) and within(at - 1))]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
