"""Hooks, stores and whatever else an application brings may fail, hang, or return nonsense.

The client gets a clean answer, the log names the part and says what is wrong with it, and nobody
else notices. What is wrong with which type is in tests/core/exchange/test_faults_of_parts.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import h11
import pytest
from conformance.client import Answer, Client
from conformance.faulty_parts import RAISED
from conformance.hooks import SECRET
from conformance.process import Server, wait_until

from sansio_copilot.events import fold_messages, verify_events

pytestmark = pytest.mark.one_a_binding

FAULTS = "faults"
JSON = {"content-type": "application/json"}
HOOKS = ("on-request", "on-before-handler", "on-response", "on-error")
RETURNS = {
    "on-request": "hook on_request (on_request) returned OnPurpose, expected Request or None",
    "on-before-handler": "hook on_before_handler (faulty_hook) returned OnPurpose, "
    "expected Request or None",
    "on-response": "hook on_response (faulty_hook) returned OnPurpose, expected Response or None",
    "on-error": "hook on_error (faulty_hook) returned OnPurpose, expected Response or None",
    "agents": "agents is a mapping from id to agent, not OnPurpose",
}
RAISES = {
    "on-request": "failed in hook on_request",
    "on-before-handler": "failed in hook on_before_handler",
    "on-response": "failed in hook on_response",
    "on-error": "the on_error hook failed",
    "agents": "failed in the agents function",
}
"""The words of the log for each part."""


@pytest.fixture(autouse=True)
def bystander(server: Server, thread: str) -> Iterator[None]:
    """A run on another thread of the same runtime, which has begun before and ends after."""
    with server.bystander(f"{thread}-bystander", FAULTS):
        yield


def told(part: str, how: str, gate: str) -> dict[str, str]:
    """The headers that make a part go wrong."""
    return {"x-fault": f"{part} {how}", "x-gate": gate}


def run(server: Server, thread: str, headers: dict[str, str] | None = None) -> Answer:
    return server.run("run", thread, agent="text", headers=headers, config=FAULTS)


def transcribe(client: Client, filename: str) -> Client:
    recording = {"audio": "AAEC", "mimeType": "audio/webm", "filename": filename}
    client.send("POST", "/transcribe", json.dumps(recording).encode(), JSON)
    return client


def assert_internal_error(answer: Answer) -> None:
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert SECRET not in f"{answer.headers} {answer.body!r}"


def assert_usable(server: Server, thread: str) -> None:
    answer = run(server, thread)
    assert answer.status == 200
    assert answer.types()[-1] == "RUN_FINISHED"


def wait_for_log(server: Server, since: int, message: str) -> None:
    wait_until(lambda: message in server.log(since), f"the log has {message!r}")


# --- Hooks, functions that pick agents --------------------------------------------------------


@pytest.mark.parametrize("part", RAISES)
@pytest.mark.parametrize("kind", ["", " async"], ids=["plain", "async"])
def test_a_part_that_raises_is_a_bare_500_and_named_in_the_log(
    server: Server, thread: str, part: str, kind: str
) -> None:
    """Be it an exception, or what would end a program if it were the program's own."""
    for way in RAISED:
        log = server.log_size()
        assert_internal_error(run(server, thread, told(part, way + kind, thread)))
        wait_for_log(server, log, RAISES[part])
        assert_usable(server, thread)


@pytest.mark.parametrize("part", RETURNS)
def test_a_part_that_returns_nonsense_is_a_bare_500_and_the_log_says_what_was_expected(
    server: Server, thread: str, part: str
) -> None:
    for how in ("wrong", "wrong async"):
        log = server.log_size()
        assert_internal_error(run(server, thread, told(part, how, thread)))
        wait_for_log(server, log, RETURNS[part])
        assert_usable(server, thread)


@pytest.mark.parametrize("part", RAISES)
def test_a_part_that_hangs_keeps_its_own_client_waiting_only(
    server: Server, thread: str, part: str
) -> None:
    with server.client(FAULTS) as client:
        client.stream("run", thread, agent="text", headers=told(part, "hang", thread))
        wait_until_called(server, thread)
        assert_usable(server, f"{thread}-other")
        server.let(thread, steps=1)
        answer = client.receive()
    if part == "on-error":
        assert_internal_error(answer)
    else:
        assert (answer.status, answer.types()[-1]) == (200, "RUN_FINISHED")


@pytest.mark.needs("notices-leaving")
@pytest.mark.parametrize("part", [*RAISES, "capabilities", "transcription"])
def test_a_part_that_hangs_is_cancelled_when_its_client_leaves(
    server: Server, thread: str, part: str
) -> None:
    with server.client(FAULTS) as client:
        if part == "capabilities":
            client.send("GET", "/info", headers=told(part, "hang", thread))
        elif part == "transcription":
            transcribe(client, f"hang:{thread}")
        else:
            client.stream("run", thread, agent="text", headers=told(part, "hang", thread))
        wait_until_called(server, thread)
        client.cut()
    server.wait_unwound(thread)
    wait_until(lambda: run(server, thread).status == 200, "the thread is free")


@pytest.mark.needs("blocking-hooks")
@pytest.mark.parametrize("part", HOOKS)
def test_a_plain_hook_may_block_its_own_client(server: Server, thread: str, part: str) -> None:
    with server.client(FAULTS) as client:
        client.stream("run", thread, agent="text", headers=told(part, "block", thread))
        wait_until_called(server, thread)
        assert_usable(server, f"{thread}-other")
        server.let(thread, steps=1)
        assert client.receive().status == (500 if part == "on-error" else 200)


def wait_until_called(server: Server, thread: str) -> None:
    wait_until(lambda: server.gate(thread)["waiting"] == 1, "it is called")


# --- Transcription services, capabilities -----------------------------------------------------


def test_a_fault_of_a_transcription_service_is_its_own_answer(server: Server, thread: str) -> None:
    expected = {
        "wrong": "the transcription service returned OnPurpose, expected str",
        **dict.fromkeys(RAISED, "transcribing 3 bytes: provider_error"),
    }
    for way, message in expected.items():
        for kind in ("", " async"):
            log = server.log_size()
            with server.client(FAULTS) as client:
                answer = transcribe(client, f"{way}{kind}:{thread}").receive()
            assert answer.status == 500
            assert answer.json()["error"] in ("provider_error", "internal_error")
            wait_for_log(server, log, message)
    with server.client(FAULTS) as client:
        transcribe(client, f"hang:{thread}")
        wait_until_called(server, thread)
        assert_usable(server, thread)
        server.let(thread, steps=1)
        assert client.receive().json()["text"] == "what was said"


def test_a_fault_of_a_capabilities_function_hides_no_agent(server: Server, thread: str) -> None:
    def described(headers: dict[str, str]) -> Any:
        answer = server.request("GET", "/info", headers=headers, config=FAULTS)
        assert answer.status == 200
        assert "default" in answer.json()["agents"]
        return answer.json()["agents"]["capable"]

    for way in ("wrong", *RAISED):
        for kind in ("", " async"):
            log = server.log_size()
            assert "capabilities" not in described(told("capabilities", way + kind, thread))
            wait_for_log(server, log, "agent 'capable' failed to report its capabilities")
    assert described({})["capabilities"] == {"tools": {"supported": True}}
    with server.client(FAULTS) as client:
        client.send("GET", "/info", headers=told("capabilities", "hang", thread))
        wait_until_called(server, thread)
        assert_usable(server, thread)
        server.let(thread, steps=1)
        assert client.receive().status == 200


# --- Stores: what is asked before the head ----------------------------------------------------


def _path(path: str) -> Callable[[Client, str], object]:
    method, _, path = path.partition(" ")

    def send(client: Client, thread: str) -> None:
        fault = thread.partition(":")[0]
        headers = {"x-fault": fault, "x-gate": thread}
        client.send(method, path.format(quote(thread)), headers=headers)

    return send


ASKED: dict[str, tuple[Callable[[Client, str], object], str]] = {
    "open_run": (
        lambda client, thread: client.stream("run", thread, agent="text"),
        "RunOpened, ThreadBusy, ThreadOfAnother or Orphan",
    ),
    "open_cursor": (lambda client, thread: client.stream("connect", thread), ""),
    "request_stop": (_path("POST /agent/default/stop/{}"), "bool or Orphan"),
    "list_threads": (_path("GET /threads"), "ThreadPage"),
    "read_history": (_path("GET /threads/{}/messages"), "Batch or LogGone"),
    "update_thread": (_path("POST /threads/{}/archive"), "ThreadRecord or None"),
    "delete_thread": (_path("DELETE /threads/{}"), "bool"),
    "clear": (_path("POST /threads/clear"), ""),
}
"""The request that calls each method, and the method's result; "" if nobody looks at that."""


@pytest.mark.parametrize("method", ASKED)
def test_a_store_that_fails_before_the_head_is_a_bare_500(
    server: Server, thread: str, method: str
) -> None:
    ask, expected = ASKED[method]
    messages = dict.fromkeys(RAISED, f"failed in store method {method}")
    if expected:
        messages["wrong"] = f"store method {method} returned OnPurpose, expected {expected}"
    for way, message in messages.items():
        log = server.log_size()
        with server.client(FAULTS) as client:
            ask(client, f"{method} {way}:{thread}")
            assert_internal_error(client.receive())
        wait_for_log(server, log, message)
    assert_usable(server, thread)


@pytest.mark.parametrize("method", ASKED)
def test_a_store_that_hangs_keeps_its_own_client_waiting_only(
    server: Server, thread: str, method: str
) -> None:
    ask, _ = ASKED[method]
    name = f"{method} hang:{thread}"
    with server.client(FAULTS) as client:
        ask(client, name)
        wait_until_called(server, name)
        assert_usable(server, thread)
        server.let(name, steps=1)
        # A thread that there is not cannot be changed.
        assert client.receive().status in (200, 204, 404)


# --- Stores: of a run, and of its readers -----------------------------------------------------


@pytest.mark.parametrize("method", ["append", "renew", "watch_run"])
@pytest.mark.parametrize("way", ["wrong", *RAISED])
def test_a_run_that_its_store_fails_ends_well_formed(
    server: Server, thread: str, method: str, way: str
) -> None:
    log = server.log_size()
    name = f"{method} {way}:{thread}"
    with server.client(FAULTS) as client:
        client.stream("run", name)
        events = client.rest()
    verify_events(events)
    assert events[-1]["type"] == "RUN_ERROR"
    assert events[-1]["message"] == "The thread store failed"
    expected = "a function that ends the watch" if method == "watch_run" else "Signal"
    wrong = f"store method {method} returned OnPurpose, expected {expected}"
    wait_for_log(server, log, f"store method {method} failed in run 'run-1'")
    if way == "wrong":
        wait_for_log(server, log, wrong)
    assert_usable(server, thread)


@pytest.mark.parametrize("method", ["append", "renew", "close_run"])
def test_a_run_outlives_a_store_that_is_unavailable(
    server: Server, thread: str, method: str
) -> None:
    """No appended frame is lost or doubled, though answers are lost."""
    log = server.log_size()
    name = f"{method} lost:{thread}"
    with server.client(FAULTS) as client:
        client.stream("run", name)
        events = client.events(2)
        if method == "renew":
            wait_for_log(server, log, "the thread store is unavailable, run 'run-1' waits for it")
        server.let(name)
        events += client.rest()
    verify_events(events)
    assert events[-1]["type"] == "RUN_FINISHED"
    # A close whose answer was lost has ended the stream before its owner hears of either.
    wait_for_log(server, log, "the thread store is unavailable, run 'run-1' waits for it")
    replay = server.run("connect", name, config=FAULTS).events()
    assert fold_messages(replay) == fold_messages(events)
    assert_usable(server, thread)


def test_a_run_that_cannot_be_closed_is_told_of(server: Server, thread: str) -> None:
    """Readers have the whole run, and wait: only the store could tell them that it is the whole."""
    for way in RAISED:
        log = server.log_size()
        name = f"close_run {way}:{thread}"
        with server.client(FAULTS) as client:
            client.stream("run", name, agent="text")
            events = [client.next_event()]
            while events[-1]["type"] != "RUN_FINISHED":
                events.append(client.next_event())
            verify_events(events)
            wait_for_log(server, log, "run 'run-1' could not be closed: thread ")
            client.cut()
        assert server.log(log).count("store method close_run failed in run 'run-1'") == 2
    assert_usable(server, thread)


@pytest.mark.parametrize("method", ["append", "renew", "close_run"])
def test_a_run_whose_store_hangs_goes_on_when_it_answers(
    server: Server, thread: str, method: str
) -> None:
    name = f"{method} hang:{thread}"
    with server.client(FAULTS) as client:
        client.stream("run", name, agent="default" if method == "renew" else "text")
        events = []
        if method == "renew":
            # The agent of the run waits at the same gate.
            events = client.events(2)
        waiting = 2 if method == "renew" else 1
        wait_until(lambda: server.gate(name)["waiting"] == waiting, "the store is called")
        if method == "renew":
            assert server.stop(quote(name), config=FAULTS) is True
        assert_usable(server, thread)
        server.let(name, steps=100)
        events += client.rest()
    verify_events(events)
    assert events[-1]["type"] == "RUN_FINISHED"


@pytest.mark.parametrize("method", ["read", "watch"])
@pytest.mark.parametrize("way", ["wrong", *RAISED])
def test_a_reader_that_the_store_fails_is_broken_off(
    server: Server, thread: str, method: str, way: str
) -> None:
    """The reader sees that its response is not complete; the run goes on."""
    log = server.log_size()
    name = f"{method} {way}:{thread}"
    with server.client(FAULTS) as client:
        client.stream("run", name)
        with pytest.raises((OSError, h11.RemoteProtocolError)):
            client.rest()
    if way != "wrong":
        wait_for_log(server, log, f"the response broke off in store method {method}")
    else:
        expected = {"read": "Batch", "watch": "a function that ends the watch"}[method]
        wait_for_log(server, log, f"store method {method} returned OnPurpose, expected {expected}")
    assert server.run("run", name, run_id="run-2", config=FAULTS).status == 409
    server.let(name)
    server.wait_unwound(name)
    assert_usable(server, thread)


def test_a_reader_whose_store_hangs_is_served_when_it_answers(server: Server, thread: str) -> None:
    name = f"read hang:{thread}"
    with server.client(FAULTS) as client:
        client.stream("run", name, agent="text")
        wait_until_called(server, name)
        assert_usable(server, thread)
        server.let(name, steps=100)
        events = client.rest()
    verify_events(events)
    assert events[-1]["type"] == "RUN_FINISHED"
