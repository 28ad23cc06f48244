"""The lines of the log by which somebody finds a fault: what each module says, and how much.

A line of INFO is for an operator, once for each thing that happens; DEBUG shows the way of each
request and run. No line has a client's whole text, and none is written for each event.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sansio_copilot import (
    CopilotRuntime,
    CorsPolicy,
    Hooks,
    MemoryStore,
    Reject,
    Request,
    Response,
    RunRefused,
    StoreUnavailable,
)
from sansio_copilot.actions import Call, StartRun
from sansio_copilot.http.refusals import log_refusal, not_http
from sansio_copilot.stores.protocol import Orphan, RunKey, RunResult, ThreadPage
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"


def agent(events: int) -> Callable[[Any, Any], Iterator[Any]]:
    def run(input: Any, context: Any) -> Iterator[Any]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
        for _ in range(events):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "word"}
        yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
        yield {"type": "RUN_FINISHED", **ids}

    return run


def client(**options: Any) -> Client:
    return Client(CopilotRuntime({"default": agent(1)}, **options))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns the lines since the last call: module, level and text."""
    caplog.set_level(logging.DEBUG, "sansio_copilot")

    def since() -> list[str]:
        found = [
            f"{record.name.removeprefix('sansio_copilot.')} {record.levelname}: {record.message}"
            for record in caplog.records
            if record.name != "sansio_copilot.access"
        ]
        caplog.clear()
        return found

    return since


def test_a_request_is_followed_to_its_route(lines: Callable[[], list[str]]) -> None:
    assert client().get(f"{BASE}/info").status == 200
    assert lines() == [f"exchange.pipeline DEBUG: GET {BASE}/info: taken as info"]


def test_a_refusal_names_who_refuses(lines: Callable[[], list[str]]) -> None:
    client().get(RUN)
    assert lines() == [f"exchange.pipeline DEBUG: GET {RUN}: refused with 405 by the runtime"]

    def reject(context: Any) -> None:
        raise Reject(Response(401, {}, "a secret"))

    client(hooks=Hooks(on_request=reject)).get(f"{BASE}/info")
    assert lines() == [f"exchange.pipeline DEBUG: GET {BASE}/info: refused with 401 by a hook"]


def test_a_long_path_of_a_client_is_shortened(lines: Callable[[], list[str]]) -> None:
    client().get(f"{BASE}/agent/{'a' * 10_000}/run")
    (line,) = lines()
    assert len(line) < 300


def test_a_run_that_finds_no_home_is_told(lines: Callable[[], list[str]]) -> None:
    body = json.dumps(run_input("t")).encode()
    exchange = client().runtime.exchange(Request("POST", RUN, body=body), 1.0)
    action = exchange.start()
    while isinstance(action, Call):
        action = exchange.done(action.function(*action.args))
    assert isinstance(action, StartRun)
    exchange.failed(RunRefused("no room"))
    assert lines()[-1] == f"exchange.pipeline DEBUG: POST {RUN}: refused a run: no room"


def test_an_origin_that_is_not_allowed_is_told(lines: Callable[[], list[str]]) -> None:
    server = client(cors=CorsPolicy(origin=["https://good.example"]))
    server.get(f"{BASE}/info", headers={"origin": "https://bad.example"})
    said = "http.cors DEBUG: the CORS policy does not allow origin 'https://bad.example'"
    assert said in lines()
    for headers in ({"origin": "https://good.example"}, {}):
        server.get(f"{BASE}/info", headers=headers)
        assert not any("http.cors" in line for line in lines())


def test_a_response_without_an_exchange_is_told(lines: Callable[[], list[str]]) -> None:
    log_refusal(not_http("x" * 10_000))
    (line,) = lines()
    assert line.startswith(
        "http.refusals DEBUG: a request is answered 400 without an exchange: "
        '{"error":"Bad request","message":"xxx'
    )
    assert len(line) < 400


class Away(MemoryStore):
    """A store that is unavailable for two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 2

    def list_threads(self, *args: Any) -> ThreadPage:
        if self.calls:
            self.calls -= 1
            raise StoreUnavailable("restarting")
        return super().list_threads(*args)


def test_a_request_that_waits_for_the_store_is_told(lines: Callable[[], list[str]]) -> None:
    assert client(store=Away()).get(f"{BASE}/threads").status == 200
    assert [line for line in lines() if "waits" in line] == [
        f"exchange.retries DEBUG: a request waits {pause} s for the thread store: restarting"
        for pause in ("0.05", "0.10")
    ]


class Orphaned(MemoryStore):
    """A store with one run whose owner has died."""

    def __init__(self, *, is_ended_elsewhere: bool) -> None:
        super().__init__()
        self.left = [Orphan(RunKey("t", 1, "dead"), "default", b"")]
        self.is_ended_elsewhere = is_ended_elsewhere

    def orphans(self, limit: int) -> list[Orphan]:
        left, self.left = self.left, []
        return left

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> bool | None:
        return not self.is_ended_elsewhere


@pytest.mark.parametrize(
    ("is_ended_elsewhere", "line"),
    [
        (False, "INFO: run 'dead' of thread 't', whose owner has died, was ended here: lost"),
        (True, "DEBUG: run 'dead' of thread 't' was ended by another process"),
    ],
)
def test_an_orphan_is_told_by_the_process_that_has_ended_it(
    lines: Callable[[], list[str]], is_ended_elsewhere: bool, line: str
) -> None:
    steps = CopilotRuntime({}, store=Orphaned(is_ended_elsewhere=is_ended_elsewhere)).sweep(1.0)
    outcome: Any = None
    with contextlib.suppress(StopIteration):
        while True:
            call = steps.send(outcome)
            outcome = call.function(*call.args)
    assert lines() == [f"runs.orphans {line}"]


def test_a_thread_that_is_evicted_is_told(lines: Callable[[], list[str]]) -> None:
    server = client(store=MemoryStore(max_threads=1))
    server.post(RUN, json=run_input("first"))
    server.post(RUN, json=run_input("second"))
    assert "stores.memory.eviction DEBUG: thread 'first' is evicted" in lines()


def test_no_line_is_written_for_each_event(lines: Callable[[], list[str]]) -> None:
    counts = []
    for events in (1, 1000):
        server = Client(CopilotRuntime({"default": agent(events)}))
        assert len(server.post(RUN, json=run_input("t")).events()) == events + 4
        counts.append(len(lines()))
    assert counts[0] == counts[1] < 10


def test_nothing_is_logged_below_the_level_of_an_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sansio_copilot")
    client().post(RUN, json=run_input("t"))
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
