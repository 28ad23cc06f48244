"""A call that does not return has its time, its caller is told, and nobody else waits for it.

A call that hangs is let go at the end of its test, since a
thread cannot be ended.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from functools import partial

import h11
import pytest
from conformance.client import Answer
from conformance.contract import ServerFile
from conformance.process import END_TIMEOUT, Server, Servers, wait_until
from conformance.test_faults_of_parts import (
    ASKED,
    RAISES,
    assert_internal_error,
    told,
    transcribe,
    wait_until_called,
)

from sansio_copilot.events import verify_events

pytestmark = pytest.mark.one_a_binding

FAULTS = "faults"
LATE = "did not return within 2 s"
"""Seconds that are enough for a call that does return, on a busy machine."""
NAMES = {
    "on-request": "hook on_request",
    "on-before-handler": "hook on_before_handler",
    "on-response": "hook on_response",
    "on-error": "hook on_error",
    "agents": "the agents function",
}


@pytest.fixture
def server(request: pytest.FixtureRequest, server_file: ServerFile, servers: Servers) -> Server:
    """Other parts have their time, lest they miss it on a machine that is busy."""
    return servers.get(server_file, "stores" if "store" in request.node.name else "hooks")


@pytest.fixture(autouse=True)
def bystander(server: Server, thread: str) -> Iterator[None]:
    """A run on another thread of the same runtime, which has begun before and ends after."""
    with server.bystander(f"{thread}-bystander"):
        yield


def run(server: Server, thread: str, headers: dict[str, str] | None = None) -> Answer:
    return server.run("run", thread, agent="text", headers=headers, config=FAULTS)


@contextlib.contextmanager
def logged(server: Server, message: str) -> Iterator[None]:
    """The server logs ``message`` within the context."""
    log = server.log_size()
    yield
    wait_until(lambda: message in server.log(log), f"the log has {message!r}")


@pytest.mark.parametrize("way", ["hang", "block", "stubborn", "burst"])
def test_a_hook_has_its_time(server: Server, thread: str, way: str) -> None:
    """An async one is cancelled, whatever it makes of that; a plain one is left in its thread."""
    with contextlib.ExitStack() as stack:
        clients = []
        for part in RAISES:
            stack.enter_context(logged(server, f"{NAMES[part]} {LATE}"))
            headers = told(part, way, thread)
            clients.append(stack.enter_context(server.client(FAULTS)))
            clients[-1].stream("run", f"{thread}-{part}", agent="text", headers=headers)
        for client in clients:
            assert_internal_error(client.receive())
    assert run(server, thread).types()[-1] == "RUN_FINISHED"
    server.let(thread)


@pytest.mark.parametrize("way", ["hang", "block", "stubborn"])
def test_a_capabilities_function_has_its_time(server: Server, thread: str, way: str) -> None:
    with logged(server, f"the capabilities of agent 'capable' {LATE}"):
        headers = told("capabilities", way, thread)
        answer = server.request("GET", "/info", headers=headers, config=FAULTS)
    assert answer.status == 200
    assert "capabilities" not in answer.json()["agents"]["capable"]
    server.let(thread)


@pytest.mark.parametrize("way", ["hang", "block", "stubborn"])
def test_a_transcription_service_has_its_time(server: Server, thread: str, way: str) -> None:
    with logged(server, f"the transcription service {LATE}"):
        with server.client(FAULTS) as client:
            answer = transcribe(client, f"{way}:{thread}").receive()
    assert answer.status == 502
    assert answer.json()["error"] == "network_error"
    assert answer.json()["retryable"] is True
    server.let(thread)


def assert_unavailable(answer: Answer) -> None:
    """A store that does not answer in time may do so again."""
    assert answer.status == 503
    assert answer.json()["message"] == "The thread store is unavailable"


STORES = {"hang": FAULTS, "block": "blocking-faults"}
UNNAMED = ("list_threads", "clear")
"""These calls name no thread to tell them by, so a test has to call them one after the other."""


@pytest.mark.parametrize("way", STORES)
def test_a_store_has_its_time_before_the_head(server: Server, thread: str, way: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = []
        for method, (ask, _) in ASKED.items():
            if method in UNNAMED:
                continue
            stack.enter_context(logged(server, f"store method {method} {LATE}"))
            clients.append(stack.enter_context(server.client(STORES[way])))
            ask(clients[-1], f"{method} {way}:{thread}")
        for client in clients:
            assert_unavailable(client.receive())
    for method in ASKED:
        server.let(f"{method} {way}:{thread}", steps=1)


@pytest.mark.parametrize("method", UNNAMED)
def test_a_store_has_its_time_where_no_thread_is_named(
    server: Server, thread: str, method: str
) -> None:
    ask, _ = ASKED[method]
    with logged(server, f"store method {method} {LATE}"), server.client(FAULTS) as client:
        ask(client, f"{method} hang:{thread}")
        assert_unavailable(client.receive())


@pytest.mark.parametrize("way", STORES)
@pytest.mark.parametrize("method", ["append", "renew", "close_run"])
def test_a_run_whose_store_hangs_ends_well_formed(
    server: Server, thread: str, method: str, way: str
) -> None:
    name = f"{method} {way}:{thread}"
    config = STORES[way]
    with logged(server, f"store method {method} {LATE}"):
        with server.client(config) as client:
            client.stream("run", name, agent="default" if method == "renew" else "text")
            if method in ("append", "renew"):
                events = client.rest()
            else:
                # The store alone could say that this is the whole run.
                events = [client.next_event()]
                while events[-1]["type"] != "RUN_FINISHED":
                    events.append(client.next_event())
    verify_events(events)
    if method != "close_run":
        assert events[-1]["message"] == "The thread store failed"
    server.let(name)


@pytest.mark.parametrize("way", STORES)
def test_a_reader_whose_store_hangs_is_broken_off(server: Server, thread: str, way: str) -> None:
    name = f"read {way}:{thread}"
    with logged(server, f"store method read {LATE}"):
        with server.client(STORES[way]) as client:
            with pytest.raises((OSError, h11.RemoteProtocolError)):
                # The agent waits, lest the first read has the whole run.
                client.stream("run", name).rest()
    server.let(name)


@pytest.mark.needs("notices-leaving")
@pytest.mark.parametrize("way", ["stubborn", "burst"])
@pytest.mark.parametrize("part", RAISES)
def test_a_call_that_is_cancelled_with_its_client_harms_nobody(
    server: Server, thread: str, part: str, way: str
) -> None:
    with server.client("faults") as client:
        client.stream("run", thread, agent="text", headers=told(part, way, thread))
        wait_until_called(server, thread)
        client.cut()
    if way == "burst":
        server.wait_unwound(thread)
    else:
        wait_until(lambda: server.gate(thread)["cancelled"] >= 1, "it was cancelled")
    wait_until(lambda: run(server, thread).status == 200, "others are served")


def test_fifty_calls_that_hang_stop_neither_others_nor_the_end(own_server: Server) -> None:
    """Calls hang in a store, in hooks and in services that block: each has threads of its own."""
    with contextlib.ExitStack() as stack:
        hooks, services = "hook-gate", "service-gate"
        names = [f"append block:{number}" for number in range(50)]
        for name in names:
            client = stack.enter_context(own_server.client("blocking-faults"))
            client.stream("run", name, agent="text")
        for _ in range(20):
            client = stack.enter_context(own_server.client("blocking-faults"))
            headers = told("on-before-handler", "block", hooks)
            client.stream("run", hooks, agent="text", headers=headers)
            client = stack.enter_context(own_server.client("blocking-faults"))
            transcribe(client, f"block:{services}")
        for name in names:
            wait_until(partial(own_server.waits, name, 1), f"{name} hangs")
        for gate in (hooks, services):
            wait_until(partial(own_server.waits, gate, 20), f"{gate} hang")
        answer = own_server.run("run", "other", agent="text", config="blocking-faults")
        assert answer.types()[-1] == "RUN_FINISHED"
        with own_server.client("blocking-faults") as client:
            answer = transcribe(client, "block-not").receive()
            assert answer.json()["text"] == "what was said"
        own_server.process.send_signal(signal.SIGTERM)
        assert own_server.process.wait(END_TIMEOUT) == 0


@pytest.mark.parametrize("way", ["stubborn", "greedy"])
def test_hooks_that_swallow_their_cancellation_do_not_keep_a_server_from_ending(
    own_server: Server, way: str
) -> None:
    """Hooks that catch whatever can be raised do not keep it from ending either."""
    with own_server.clients(3, "faults") as clients:
        for client in clients:
            headers = told("on-request", way, way)
            client.stream("run", "t", agent="text", headers=headers)
        wait_until(lambda: own_server.gate(way)["waiting"] == 3, "they are called")
        own_server.process.send_signal(signal.SIGTERM)
        assert own_server.process.wait(END_TIMEOUT) == 0
    # The warning comes once, although the call is cancelled ten times a second.
    assert own_server.log().count("cancelled what does not end") <= 1
