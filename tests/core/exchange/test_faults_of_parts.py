"""A part of the application goes wrong: the log says which and how, and the client is answered.

Tests of hooks are also in test_hooks.py, of transcription services in test_transcription.py, and
of agents in test_protocols.py.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from msgspec import structs

from sansio_copilot import CopilotRuntime, Hooks, MemoryStore, Reject, Response
from sansio_copilot.stores.protocol import Batch, RunOpened, RunRequest, Signal, ThreadPage
from sansio_copilot.testing import Client, ClientResponse, run_input

BASE = "/api/copilotkit"
AUDIO = {"audio": "AAEC", "mimeType": "audio/webm"}
SECRET = "password=hunter2"


class Garbage:
    """A value of a type that nothing here should have."""


class PartError(Exception):
    """The error that a part raises."""


def fails(*args: Any) -> Any:
    raise PartError(SECRET)


def returns_garbage(*args: Any) -> Any:
    return Garbage()


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sansio_copilot")


async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def client(**options: Any) -> Client:
    options.setdefault("agents", {"default": agent})
    return Client(CopilotRuntime(thread_mutations=True, **options))


def run(server: Client, thread: str = "t") -> ClientResponse:
    return server.post(f"{BASE}/agent/default/run", json=run_input(thread))


def types(answer: ClientResponse) -> list[str]:
    return [event["type"] for event in answer.events()]


def assert_internal_error(answer: ClientResponse) -> None:
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})
    assert SECRET.encode() not in answer.body


# --- Hooks, and what else is called for a request -----------------------------------------------


PARTS: dict[
    str, tuple[Callable[[Any], dict[str, Any]], Callable[[Client], ClientResponse], str, str]
] = {
    "on_request": (
        lambda function: {"hooks": Hooks(on_request=function)},
        lambda server: server.get(f"{BASE}/info"),
        "hook on_request",
        "expected Request or None",
    ),
    "on_before_handler": (
        lambda function: {"hooks": Hooks(on_before_handler=function)},
        lambda server: server.get(f"{BASE}/info"),
        "hook on_before_handler",
        "expected Request or None",
    ),
    "on_response": (
        lambda function: {"hooks": Hooks(on_response=function)},
        lambda server: server.get(f"{BASE}/info"),
        "hook on_response",
        "expected Response or None",
    ),
    "agents": (
        lambda function: {"agents": function},
        lambda server: server.get(f"{BASE}/info"),
        "the agents function",
        "agents is a mapping from id to agent, not Garbage",
    ),
}
"""Parts: how a runtime gets each, what calls it, its name in the log, and what it returns."""


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_raises_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture, part: str
) -> None:
    options, call, name, _ = PARTS[part]
    assert_internal_error(call(client(**options(fails))))
    [record] = caplog.records
    assert record.getMessage() == f"GET {BASE}/info failed in {name}"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], PartError)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_returns_the_wrong_thing_is_told_what_was_expected(
    caplog: pytest.LogCaptureFixture, part: str
) -> None:
    options, call, name, expected = PARTS[part]
    assert_internal_error(call(client(**options(returns_garbage))))
    assert expected in caplog.text
    assert "Garbage" in caplog.text
    assert name.removeprefix("the ").partition(" function")[0] in caplog.text


def test_an_error_is_not_blamed_on_the_call_before(caplog: pytest.LogCaptureFixture) -> None:
    """The error of on_request was an answer; the wrong value is what on_response returned."""

    def rejects(context: Any) -> Any:
        raise Reject(Response(403))

    server = client(hooks=Hooks(on_request=rejects, on_response=returns_garbage))
    assert_internal_error(server.get(f"{BASE}/info"))
    assert caplog.messages == [f"GET {BASE}/info failed"]


@pytest.mark.parametrize(
    ("service", "status", "told"),
    [
        (fails, 500, "transcribing 3 bytes: provider_error"),
        (returns_garbage, 500, "the transcription service returned Garbage, expected str"),
    ],
    ids=["raises", "wrong"],
)
def test_a_fault_of_a_transcription_service_is_its_own_answer(
    caplog: pytest.LogCaptureFixture, service: Any, status: int, told: str
) -> None:
    answer = client(transcription=service).post(f"{BASE}/transcribe", json=AUDIO)
    assert answer.status == status
    assert told in caplog.text


@pytest.mark.parametrize(
    ("capabilities", "told"),
    [(fails, "PartError"), (returns_garbage, "expected a mapping, got Garbage")],
    ids=["raises", "wrong"],
)
def test_a_capabilities_function_hides_nothing_but_itself(
    caplog: pytest.LogCaptureFixture, capabilities: Any, told: str
) -> None:
    class Agent:
        def __init__(self, capabilities: Any) -> None:
            self.capabilities = capabilities

        run = staticmethod(agent)

    agents = {"bad": Agent(capabilities), "good": Agent(lambda: {"tools": {"supported": True}})}
    answer = client(agents=agents).get(f"{BASE}/info")
    assert answer.status == 200
    assert answer.json()["agents"].keys() == {"bad", "good"}
    assert "capabilities" not in answer.json()["agents"]["bad"]
    assert answer.json()["agents"]["good"]["capabilities"] == {"tools": {"supported": True}}
    [record] = caplog.records
    assert record.getMessage() == "agent 'bad' failed to report its capabilities"
    assert told in caplog.text


# --- Stores -------------------------------------------------------------------------------------


class Leasing(MemoryStore):
    def open_run(self, request: RunRequest) -> Any:
        opened = super().open_run(request)
        return structs.replace(opened, lease=30.0) if isinstance(opened, RunOpened) else opened


def broken(method: str, function: Callable[..., Any]) -> MemoryStore:
    """A store one of whose methods is ``function``."""
    store: MemoryStore = type("BrokenStore", (Leasing,), {method: staticmethod(function)})()
    return store


def connect(server: Client) -> ClientResponse:
    return server.post(f"{BASE}/agent/default/connect", json=run_input("t"))


ASKED: dict[str, tuple[Callable[[Client], ClientResponse], str]] = {
    "open_run": (run, "RunOpened, ThreadBusy, ThreadOfAnother or Orphan"),
    "open_cursor": (connect, ""),
    "request_stop": (
        lambda server: server.post(f"{BASE}/agent/default/stop/t"),
        "bool or Orphan",
    ),
    "list_threads": (lambda server: server.get(f"{BASE}/threads"), "ThreadPage"),
    "read_history": (lambda server: server.get(f"{BASE}/threads/t/messages"), "Batch or LogGone"),
    "update_thread": (
        lambda server: server.post(f"{BASE}/threads/t/archive"),
        "ThreadRecord or None",
    ),
    "delete_thread": (lambda server: server.request("DELETE", f"{BASE}/threads/t"), "bool"),
    "clear": (lambda server: server.post(f"{BASE}/threads/clear"), ""),
}
"""The store's methods that are called before the head: by which request, and what each may return.
``open_cursor`` may return any cursor of the store's own, and ``clear`` returns nothing."""


@pytest.mark.parametrize("method", ASKED)
def test_a_store_method_that_raises_before_the_head_is_a_500(
    caplog: pytest.LogCaptureFixture, method: str
) -> None:
    ask, _ = ASKED[method]
    assert_internal_error(ask(client(store=broken(method, fails))))
    [record] = caplog.records
    assert record.getMessage().endswith(f" failed in store method {method}")


@pytest.mark.parametrize("method", [method for method, (_, expected) in ASKED.items() if expected])
def test_a_store_method_that_returns_the_wrong_thing_before_the_head_is_a_500(
    caplog: pytest.LogCaptureFixture, method: str
) -> None:
    ask, expected = ASKED[method]
    assert_internal_error(ask(client(store=broken(method, returns_garbage))))
    assert f"store method {method} returned Garbage, expected {expected}" in caplog.text


def test_a_list_with_objects_that_are_no_threads_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    store = broken("list_threads", lambda *args: ThreadPage(cast("Any", (Garbage(),))))
    assert_internal_error(client(store=store).get(f"{BASE}/threads"))
    told = "failed in store method list_threads"
    assert told in caplog.text


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (fails, "the response broke off in store method read"),
        (returns_garbage, "store method read returned Garbage, expected Batch or LogGone"),
    ],
    ids=["raises", "wrong"],
)
def test_a_log_that_cannot_be_read_breaks_the_response_off(
    caplog: pytest.LogCaptureFixture, function: Any, told: str
) -> None:
    answer = connect(client(store=broken("read", function)))
    assert (answer.status, answer.body) == (200, b"")
    assert told in caplog.text


def test_a_batch_may_be_of_a_class_of_the_stores_own() -> None:
    class MyStore(MemoryStore):
        def read(self, cursor: Any, max_bytes: int) -> Any:
            batch = super().read(cursor, max_bytes)
            assert isinstance(batch, Batch)
            kind = type("MyBatch", (type(batch),), {})
            return kind(batch.data, batch.cursor, batch.ended, batch.orphan)

    assert types(run(client(store=MyStore())))[-1] == "RUN_FINISHED"


def an_async_watch(*args: Any) -> Any:
    async def watch() -> Callable[[], None]:
        return lambda: None

    return watch()


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (fails, "the response broke off in store method watch"),
        (returns_garbage, "returned Garbage, expected a function that ends the watch"),
        (an_async_watch, "returned coroutine, expected a function that ends the watch"),
    ],
    ids=["raises", "wrong", "async"],
)
def test_a_log_that_cannot_be_watched_breaks_the_response_off(
    caplog: pytest.LogCaptureFixture, function: Any, told: str
) -> None:
    answer = run(client(store=broken("watch", function)))
    assert (answer.status, answer.body) == (200, b"")
    assert told in caplog.text


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (fails, "store method append failed in run 'run-1'"),
        (returns_garbage, "store method append returned Garbage, expected Signal"),
    ],
    ids=["raises", "wrong"],
)
def test_a_run_that_cannot_be_recorded_ends_well_formed(
    caplog: pytest.LogCaptureFixture, function: Any, told: str
) -> None:
    answer = run(server := client(store=broken("append", function)))
    assert types(answer)[-1] == "RUN_ERROR"
    assert answer.events()[-1]["message"] == "The thread store failed"
    assert SECRET.encode() not in answer.body
    assert told in caplog.text
    assert run(server).status == 200, "its thread is free"


def test_frames_that_were_appended_with_a_wrong_answer_are_not_appended_again() -> None:
    class Vague(MemoryStore):
        def append(self, *args: Any) -> Any:
            super().append(*args)
            return None

    assert types(run(client(store=Vague()))) == ["RUN_STARTED", "RUN_ERROR"]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (fails, "store method renew failed in run 'run-1'"),
        (returns_garbage, "store method renew returned Garbage, expected Signal"),
    ],
    ids=["raises", "wrong"],
)
def test_a_lease_that_cannot_be_renewed_ends_the_run(
    caplog: pytest.LogCaptureFixture, function: Any, told: str
) -> None:
    server = client(store=broken("renew", function))
    stream = server.stream("POST", f"{BASE}/agent/default/run", json=run_input("t"))
    assert stream.next()["type"] == "RUN_STARTED"
    server.advance(10)
    assert [event["type"] for event in stream] == ["RUN_ERROR"]
    assert told in caplog.text


def test_a_close_that_raises_is_repeated_and_told(caplog: pytest.LogCaptureFixture) -> None:
    store = broken("close_run", fails)
    server = client(store=store)
    stream = server.stream("POST", f"{BASE}/agent/default/run", json=run_input("t"))
    while server.step():
        pass
    assert [event["type"] for event in stream.ready()][-1] == "RUN_FINISHED"
    assert caplog.messages[:2] == ["store method close_run failed in run 'run-1'"] * 2
    assert "run 'run-1' could not be closed: thread 't' stays busy" in caplog.messages[2]


def test_the_value_that_a_close_returns_does_not_matter() -> None:
    class Chatty(MemoryStore):
        def close_run(self, *args: Any) -> Any:
            super().close_run(*args)
            return Garbage()

    assert types(run(client(store=Chatty())))[-1] == "RUN_FINISHED"


def test_a_signal_is_one_of_three() -> None:
    """A store that answers with the value of one has not answered."""

    class Stringly(MemoryStore):
        def append(self, *args: Any) -> Any:
            super().append(*args)
            return Signal.CONTINUE.value

    assert types(run(client(store=Stringly())))[-1] == "RUN_ERROR"
