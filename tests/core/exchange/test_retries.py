"""Requests while the store is unavailable: they wait and ask again, and in the end are told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sansio_copilot import (
    CopilotRuntime,
    Hooks,
    Limits,
    MemoryStore,
    Response,
    StoreAnswerLost,
    StoreUnavailable,
)
from sansio_copilot.actions import SendHead
from sansio_copilot.endpoints.request_and_reply import LogStream
from sansio_copilot.exchange.retries import SILENCE
from sansio_copilot.exchange.stream import send_log
from sansio_copilot.stores.calls import StoreCall
from sansio_copilot.stores.protocol import Batch, Orphan, RunKey, nothing_to_cancel
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
RUN, CONNECT = f"{BASE}/agent/default/run", f"{BASE}/agent/default/connect"
SECRET = "password=hunter2"


METHODS = frozenset(
    {"open_run", "open_cursor", "read", "list_threads", "request_stop", "close_run"}
)


class CallTookTooLong(TimeoutError, StoreUnavailable):
    """The error that a binding raises for a call that it has given up."""


class Restarting(MemoryStore):
    """A store that is unavailable between two times that a test sets."""

    def __init__(self, error: type[StoreUnavailable] = StoreUnavailable) -> None:
        super().__init__()
        self.error = error
        self.methods: set[str] = set()
        self.until = 0.0
        self.server: Client
        self.calls = 0

    def go_down(self, seconds: float, *methods: str) -> None:
        self.methods, self.until = set(methods), self.server.now + seconds

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in METHODS:
            return value

        def call(*args: Any) -> Any:
            if name in self.methods and self.server.now < self.until:
                self.calls += 1
                raise self.error(SECRET)
            return value(*args)

        return call


async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "CUSTOM", "name": "n", "value": 1}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def client(store: Restarting, **options: Any) -> Client:
    store.server = Client(CopilotRuntime({"default": agent}, store=store, **options))
    return store.server


def test_a_request_waits_for_a_store_that_comes_back() -> None:
    store = Restarting()
    server = client(store)
    store.go_down(5, "open_run", "open_cursor", "list_threads", "request_stop")
    started = server.now
    assert server.post(RUN, json=run_input("t1")).events()[-1]["type"] == "RUN_FINISHED"
    assert 5 <= server.now - started < 7
    store.go_down(5, "open_run", "open_cursor", "list_threads", "request_stop")
    assert len(server.post(CONNECT, json=run_input("t1")).events()) == 3
    store.go_down(5, "open_run", "open_cursor", "list_threads", "request_stop")
    assert len(server.get(f"{BASE}/threads").json()["threads"]) == 1
    store.go_down(5, "open_run", "open_cursor", "list_threads", "request_stop")
    assert server.post(f"{BASE}/agent/default/stop/t1").json()["stopped"] is False


class Forgetful(Restarting):
    """A store that does what it is asked, and loses the first answers of a method."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in ("delete_thread", "request_stop", "update_thread"):
            return value

        def call(*args: Any) -> Any:
            outcome = value(*args)
            self.calls += 1
            if self.calls <= 2:
                raise StoreAnswerLost(SECRET)
            return outcome

        return call


def test_a_deletion_whose_answer_was_lost_is_answered_as_the_first_would_have_been() -> None:
    store = Forgetful()
    server = client(store, thread_mutations=True)
    server.post(RUN, json=run_input("t1"))
    answer = server.request("DELETE", f"{BASE}/threads/t1")
    assert (answer.status, answer.json()) == (200, {"threadId": "t1", "deleted": True})
    assert store.calls == 3
    # The next one has nothing to be mistaken about.
    assert server.request("DELETE", f"{BASE}/threads/t1").status == 404


def test_a_stop_whose_answer_was_lost_is_answered_as_the_first_would_have_been() -> None:
    store = Forgetful()
    server = client(store)
    stream = server.stream("POST", RUN, json=run_input("t1"))
    assert stream.next()["type"] == "RUN_STARTED"
    assert server.post(f"{BASE}/agent/default/stop/t1").json()["stopped"] is True
    assert store.calls == 3
    assert server.post(f"{BASE}/agent/default/stop/t1").json()["stopped"] is False


def test_a_change_whose_answer_was_lost_finds_no_thread_if_there_is_none() -> None:
    store = Forgetful()
    server = client(store, thread_mutations=True)
    assert server.request("PATCH", f"{BASE}/threads/t1", body=b'{"name":"n"}').status == 404
    assert store.calls == 3


@pytest.mark.parametrize("error", [StoreUnavailable, CallTookTooLong])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", RUN), ("POST", CONNECT), ("GET", f"{BASE}/threads")]
)
def test_a_client_is_told_to_come_again_when_the_outage_takes_too_long(
    method: str, path: str, error: type[StoreUnavailable], caplog: pytest.LogCaptureFixture
) -> None:
    store = Restarting(error)
    server = client(store, limits=Limits(unavailable_seconds=3, store_seconds=2))
    store.go_down(1e9, "open_run", "open_cursor", "list_threads")
    started = server.now
    with caplog.at_level(logging.ERROR):
        answer = server.get(path) if method == "GET" else server.post(path, json=run_input("t1"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["message"] == "The thread store is unavailable"
    assert SECRET not in answer.body.decode()
    [line] = [record.getMessage() for record in caplog.records]
    assert f"{method} {path} is answered 503 in store method" in line
    assert SECRET in line
    # A call that was given up has taken its time too, which the test's clock does not know.
    expected = 3 if error is StoreUnavailable else 1
    assert server.now - started <= expected
    assert store.calls > 1


def test_a_hook_may_answer_for_an_outage() -> None:
    store = Restarting()
    server = client(store, hooks=Hooks(on_error=lambda context: Response(418)))
    store.go_down(1e9, "open_run")
    assert server.post(RUN, json=run_input("t1")).status == 418


def test_a_call_that_is_not_of_the_store_is_not_made_again() -> None:
    calls = []

    def agents(request: Any) -> Any:
        calls.append(request)
        raise StoreUnavailable(SECRET)

    server = Client(CopilotRuntime(agents))
    assert server.post(RUN, json=run_input("t1")).status == 503
    assert len(calls) == 1


def test_a_stream_goes_on_when_the_store_is_back() -> None:
    store = Restarting()
    server = client(store, limits=Limits(heartbeat_seconds=5))
    stream = server.stream("POST", RUN, json=run_input("t1"))
    assert stream.next()["type"] == "RUN_STARTED"
    store.go_down(20, "read")
    assert [event["type"] for event in stream] == ["CUSTOM", "RUN_FINISHED"]
    assert stream.body.count(b": keep-alive") == 4


@pytest.mark.parametrize("read_bytes", [1, 2, 3, 7, 10, 100])
def test_a_comment_never_comes_in_the_middle_of_a_frame(read_bytes: int) -> None:
    """A reader may be cut off anywhere, because it is given bytes and not frames."""

    class Flickering(Restarting):
        reads = 0

        def read(self, cursor: Any, max_bytes: int) -> Any:
            self.reads += 1
            if self.reads % 2:
                self.go_down(3, "read")
                raise StoreUnavailable(SECRET)
            return super().read(cursor, max_bytes)

    store = Flickering()
    limits = Limits(heartbeat_seconds=1, read_bytes=read_bytes)
    stream = client(store, limits=limits).stream("POST", RUN, json=run_input("t1"))
    events = [event["type"] for event in stream]
    assert events == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]
    assert stream.body.count(b": keep-alive\n\n") >= 1


def test_no_comment_comes_into_a_frame_of_which_there_is_half_for_now() -> None:
    stream, head, asked_for = LogStream(SILENCE, 0), SendHead(200, ()), ("POST", RUN)
    steps = send_log(stream, head, None, CopilotRuntime({}), 0.0, asked_for, has_content=True)
    sent = []
    action = next(steps)
    for data in (b"id: 1\nda", b"ta: {}\n", b"\n", b"data: 2\n", b"\n"):
        while not isinstance(action, StoreCall):
            sent.append(getattr(action, "data", b""))
            action = steps.send(False)
        action = steps.send(Batch(data, 0, False))
    steps.close()
    assert b"".join(sent) == b"id: 1\ndata: {}\n\n: keep-alive\n\ndata: 2\n"


def test_a_stream_is_broken_off_when_the_outage_takes_too_long() -> None:
    store = Restarting()
    server = client(store, limits=Limits(outage_seconds=8, heartbeat_seconds=100))
    stream = server.stream("POST", RUN, json=run_input("t1"))
    assert stream.next()["type"] == "RUN_STARTED"
    store.go_down(1e9, "read")
    started = server.now
    with pytest.raises(EOFError):
        stream.next()
    assert 6 < server.now - started <= 8
    assert b"CUSTOM" not in stream.body


def test_a_reader_that_cannot_end_an_orphan_is_handed_it_again() -> None:
    orphan = Orphan(RunKey("t1", 1, "dead"), "default", b"")

    class Orphaned(Restarting):
        handed = 0

        def open_cursor(self, thread_id: str, after: str | None, owner: str | None = None) -> Any:
            return "cursor"

        def read(self, cursor: Any, max_bytes: int) -> Batch:
            self.handed += 1
            return Batch(b"", cursor, self.closed, None if self.closed else orphan)

        closed = False

        def close_run(self, *args: Any) -> None:
            self.closed = True

    store = Orphaned()
    server = client(store)
    store.go_down(3, "close_run")
    assert server.post(CONNECT, json=run_input("t1")).status == 200
    assert store.handed > 2
    assert store.closed


def test_a_client_that_goes_during_an_outage_leaves_nothing() -> None:
    store = Restarting()
    server = client(store)
    exchange = server.runtime.exchange(_request(), server.now)
    store.go_down(1e9, "open_run")
    exchange.start()
    exchange.failed(StoreUnavailable(SECRET))
    assert type(exchange.client_gone()).__name__ == "Abandon"


def _request() -> Any:
    from sansio_copilot import Request

    return Request(
        "POST",
        RUN,
        "",
        {},
        b'{"threadId":"t1","runId":"r","messages":[],'
        b'"tools":[],"context":[],"state":{},"forwardedProps":{}}',
    )


def test_the_log_of_silence_has_no_frame_and_wakes_nobody() -> None:
    assert SILENCE.read(None, 10) == Batch(b"", None, False)
    assert SILENCE.watch(None, lambda: None) is nothing_to_cancel
