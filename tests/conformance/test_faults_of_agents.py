"""An agent may do whatever it wants: its stream ends well formed, and nobody else notices."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conformance.agents import FAILING
from conformance.faulty_agents import GARBAGE, ODD
from conformance.process import Server, wait_until

from sansio_copilot.events import verify_events

pytestmark = pytest.mark.one_a_binding

Event = dict[str, Any]

MEGABYTE = 10**6
HELLO = [
    "RUN_STARTED",
    "TEXT_MESSAGE_START",
    *["TEXT_MESSAGE_CONTENT"] * 3,
    "TEXT_MESSAGE_END",
    "RUN_FINISHED",
]


@pytest.fixture(autouse=True)
def bystander(server: Server, thread: str) -> Iterator[None]:
    """A run on another thread, which has begun before and ends after."""
    with server.bystander(f"{thread}-bystander"):
        yield


def assert_usable(server: Server, thread: str) -> None:
    """Check that another run may follow, and that all of the thread is replayed well formed."""
    answer = server.run("run", thread, agent="text", run_id="run-next")
    assert (answer.status, answer.types()) == (200, HELLO)
    replay = server.run("connect", thread).events()
    verify_events(replay)
    assert replay[-1] == answer.events()[-1]


def types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


# --- What it yields ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "what"),
    [*(("yields-what", what) for what in GARBAGE), ("yields-what-plain", "none")],
)
def test_garbage_ends_the_run_with_its_reason(
    server: Server, thread: str, agent: str, what: str
) -> None:
    _, message = GARBAGE[what]
    log = server.log_size()
    events = server.run("run", thread, agent=agent, forwardedProps={"what": what}).events()
    verify_events(events)
    assert types(events)[:2] == ["RUN_STARTED", "TEXT_MESSAGE_START"]
    assert types(events)[2:] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
    assert message in events[-1]["message"]
    assert f"agent '{agent}'" in server.log(log)
    assert_usable(server, thread)


@pytest.mark.parametrize("what", ODD)
def test_a_value_that_is_merely_odd_ends_no_run(server: Server, thread: str, what: str) -> None:
    _, arrives = ODD[what]
    props = {"what": what}
    events = server.run("run", thread, agent="yields-what", forwardedProps=props).events()
    verify_events(events)
    odd = [] if arrives is None else [arrives]
    assert events[2:-2] == odd
    assert events[-1]["type"] == "RUN_FINISHED"
    assert_usable(server, thread)


def test_a_state_delta_that_does_not_apply_is_logged_and_kept(server: Server, thread: str) -> None:
    log = server.log_size()
    props = {"what": "a-delta-that-does-not-apply"}
    server.run("run", thread, agent="yields-what", forwardedProps=props)
    told = "run 'run-1': state deltas that do not apply, and are kept as they are: 1"
    wait_until(lambda: told in server.log(log), "it is logged")
    _, delta = ODD["a-delta-that-does-not-apply"]
    assert delta in server.run("connect", thread).events()


def test_events_of_another_thread_stay_in_this_one(server: Server, thread: str) -> None:
    events = server.run("run", thread, agent="of-another-thread").events()
    verify_events(events)
    assert types(events) == HELLO
    assert server.run("connect", "another").events() == []
    assert_usable(server, thread)


@pytest.mark.parametrize("agent", ["goes-on-after-its-end", "ends-twice"])
def test_events_at_once_behind_the_terminal_event_are_refused(
    server: Server, thread: str, agent: str
) -> None:
    log = server.log_size()
    assert server.run("run", thread, agent=agent).types() == HELLO
    wait_until(lambda: f"agent '{agent}' broke a rule" in server.log(log), "it is logged")
    assert_usable(server, thread)


def test_events_late_behind_the_terminal_event_are_dropped(server: Server, thread: str) -> None:
    log = server.log_size()
    assert server.run("run", thread, agent="goes-on-much-later").types() == HELLO
    assert_usable(server, thread)
    server.let(thread, steps=1)
    server.wait_unwound(thread)
    assert "yields after the end of its run, which is dropped: dict" in server.log(log)
    assert b"too late" not in server.run("connect", thread).body


def test_a_run_without_an_event_is_an_error(server: Server, thread: str) -> None:
    events = server.run("run", thread, agent="yields-nothing").events()
    verify_events(events)
    assert types(events) == ["RUN_STARTED", "RUN_ERROR"]
    assert_usable(server, thread)


# --- How it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["silent", "silent-plain", "never-returns"])
def test_an_agent_that_never_yields_can_be_stopped(server: Server, thread: str, agent: str) -> None:
    with server.client() as runner, server.client() as reader:
        runner.stream("run", thread, agent=agent)
        runner.receive_until(b": keep-alive\n\n")
        reader.stream("connect", thread)
        assert server.stop(thread, agent=agent) is True
        events = reader.rest()
        verify_events(events)
        assert types(events) == ["RUN_STARTED", "RUN_FINISHED"]
    # A plain one still blocks its thread.
    assert_usable(server, thread)
    if agent == "silent-plain":
        server.let(thread, steps=1)
    server.wait_unwound(thread)


@pytest.mark.parametrize(
    "agent",
    [
        "fails-when-stopped",
        "fails-when-stopped-plain",
        "will-not-be-stopped",
        "will-not-be-stopped-plain",
    ],
)
def test_an_agent_that_fails_when_it_is_stopped_is_logged_and_let_go(
    server: Server, thread: str, agent: str
) -> None:
    log = server.log_size()
    with server.client() as runner:
        runner.stream("run", thread, agent=agent)
        begun = runner.events(1)
        wait_until(lambda: server.gate(thread)["waiting"] == 1, "the agent waits")
        assert server.stop(thread, agent=agent) is True
        events = begun + runner.rest()
    verify_events(events)
    assert types(events) == ["RUN_STARTED", "RUN_FINISHED"]
    if agent.endswith("plain"):
        server.let(thread, steps=1)
    server.wait_unwound(thread)
    wait_until(lambda: "failed while it cleaned up" in server.log(log), "it is logged")
    assert_usable(server, thread)


@pytest.mark.parametrize(
    "agent", [*FAILING, "quits", "quits-plain", "says-nothing-of-why", "exits-in-a-task"]
)
def test_an_agent_that_fails_leaves_its_thread_usable(
    server: Server, thread: str, agent: str
) -> None:
    log = server.log_size()
    events = server.run("run", thread, agent=agent).events()
    verify_events(events)
    assert events[-1]["type"] == "RUN_ERROR"
    assert_usable(server, thread)
    assert f"agent '{agent}'" in server.log(log)


def test_generators_that_an_agent_leaks_hurt_nobody(server: Server, thread: str) -> None:
    """The end of the server, which finds the generators still open, is not hurt either."""
    for number in range(3):
        answer = server.run("run", thread, agent="leaks-generators", run_id=f"run-{number}")
        assert answer.types() == HELLO
    assert_usable(server, thread)


ENDING = [
    *FAILING,
    *(
        "quits",
        "quits-plain",
        "exits-in-a-task",
        "of-another-thread",
        "yields-nothing",
        "goes-on-after-its-end",
        "ends-twice",
    ),
]
STOPPED = [
    *("silent", "silent-plain", "fails-when-stopped", "fails-when-stopped-plain"),
    *("will-not-be-stopped", "will-not-be-stopped-plain", "default", "plain"),
]


def test_no_object_is_left_of_agents_that_went_wrong(server: Server, thread: str) -> None:
    """No run, no agent's generator, no reader: in the second round as many as after the first."""

    def go_wrong(name: str) -> None:
        for agent in ENDING:
            server.run("run", name, agent=agent)
        for what in GARBAGE:
            server.run("run", name, agent="yields-what", forwardedProps={"what": what})
        for agent in STOPPED:
            be_stopped(server, f"{name}-{agent}", agent)
        delete(server, name)

    go_wrong(f"{thread}-first")
    with server.nothing_is_left("Gate"):
        go_wrong(f"{thread}-second")


# --- How much it yields -----------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["says", "says-plain"])
def test_a_flood_of_events_arrives_whole_while_others_are_served(
    server: Server, thread: str, agent: str
) -> None:
    flood(server, thread, agent, 5000)


def assert_a_round_keeps_less(server: Server, size: int, cause: Callable[[str], object]) -> None:
    """A leak keeps a part of each round; pools and arenas keep a part of the first rounds only."""
    grown = []
    # The rounds are so few that a store which keeps them all does not begin to evict.
    for round in range(3):
        before = server.held().resident
        cause(f"round-{round}")
        grown.append(server.held().resident - before)
        if grown[-1] < size:
            return
    pytest.fail(f"each round of events keeps memory: {grown}")


def test_a_large_event_arrives_whole_and_its_memory_comes_back(server: Server, thread: str) -> None:
    def send_five(round: str) -> None:
        for number in range(5):
            large_event(server, f"{thread}-{round}-{number}", 10 * MEGABYTE)

    # Each of the five events has been in memory several times over.
    assert_a_round_keeps_less(server, 10 * MEGABYTE, send_five)


@pytest.mark.once
def test_a_run_of_two_hundred_thousand_events_is_not_kept(own_server: Server, thread: str) -> None:
    """The server keeps no event, not even a text of a hundred bytes, once the thread is deleted."""

    def flood_and_delete(round: str, count: int = 200_000) -> None:
        flood(own_server, f"{thread}-{round}", "says", count)
        delete(own_server, f"{thread}-{round}")

    # The allocator keeps some of the first ones.
    flood_and_delete("first", 50_000)
    assert_a_round_keeps_less(own_server, 15 * MEGABYTE, flood_and_delete)
    problems = own_server.end()
    assert not problems, problems[0]


def test_the_memory_of_an_event_of_fifty_megabytes_is_given_back(
    server: Server, thread: str
) -> None:
    with server.without_collector():
        # The allocator keeps some of the first one.
        large_event(server, f"{thread}-first", 50 * MEGABYTE)
        before = server.held().resident
        large_event(server, thread, 50 * MEGABYTE)
        wait_until(lambda: server.held().resident < before + 25 * MEGABYTE, "it comes back")


def flood(server: Server, thread: str, agent: str, count: int) -> None:
    with server.client() as client:
        props = {"events": count, "gate": "at the end"}
        client.stream("run", thread, agent=agent, forwardedProps=props)
        # The response begins once the run is open, and its bytes are left for later.
        assert client.socket.recv(1, socket.MSG_PEEK)
        assert server.run("run", f"{thread}-other", agent="text").types() == HELLO
        assert server.run("run", thread, run_id="run-2").status == 409
        server.let(thread, steps=1)
        body = client.receive().body
    numbers = re.findall(rb'"delta":"([0-9]+),"', body)
    assert numbers == [b"%d" % number for number in range(count)]
    assert json.loads(body.rpartition(b"data: ")[2]) == {
        "type": "RUN_FINISHED",
        "threadId": thread,
        "runId": "run-1",
    }
    replay = server.run("connect", thread).events()
    assert replay[2]["delta"] == "".join(f"{number}," for number in range(count))


def large_event(server: Server, thread: str, size: int) -> None:
    props = {"events": 1, "size": size}
    body = server.run("run", thread, agent="says", forwardedProps=props).body
    assert b"0,".ljust(size) in body
    assert b'"RUN_FINISHED"' in body[-200:]
    delete(server, thread)


def be_stopped(server: Server, thread: str, agent: str) -> None:
    with server.client() as runner, server.client() as reader:
        runner.stream("run", thread, agent=agent)
        wait_until(lambda: server.gate(thread)["waiting"] == 1, "it waits")
        reader.stream("connect", thread)
        assert server.stop(thread, agent=agent) is True
        assert runner.rest()[-1] == reader.rest()[-1]
    # An agent in a thread may take more than one step before it is told to end.
    server.let(thread)
    server.wait_unwound(thread)
    delete(server, thread)


def delete(server: Server, thread: str) -> None:
    assert server.request("DELETE", f"/threads/{thread}").status == 200
