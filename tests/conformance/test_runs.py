"""Runs belong to their threads: they outlive clients, end when they are stopped, and never meet."""

from __future__ import annotations

import pytest
from conformance.process import Server, wait_until

from sansio_copilot.events import verify_events

STOPPED = ["TEXT_MESSAGE_END", "RUN_FINISHED"]


@pytest.mark.of_the_binding
@pytest.mark.parametrize("agent", ["default", "plain"])
def test_a_stop_ends_the_run_and_the_thread_is_free_at_once(
    server: Server, thread: str, agent: str
) -> None:
    with server.client() as runner, server.client() as reader:
        runner.stream("run", thread, agent=agent)
        seen = runner.events(2)
        reader.stream("connect", thread)
        assert reader.events(2) == seen
        assert server.stop(thread, agent=agent) is True
        # The thread of a plain agent is still busy.
        rest = runner.rest()
        assert [event["type"] for event in rest] == STOPPED
        assert reader.rest() == rest
        verify_events(seen + rest)
    with server.client() as follower:
        follower.stream("run", thread, run_id="run-2", agent="text")
        assert follower.next_event()["runId"] == "run-2"
        follower.rest()
    if agent == "default":
        server.wait_unwound(thread)
    else:
        server.let(thread)
        server.wait_unwound(thread)
        assert server.gate(thread)["stopSeen"] is True


@pytest.mark.of_the_binding
def test_a_stop_of_nothing_says_so(server: Server, thread: str) -> None:
    assert server.stop(thread) is False
    server.run("run", thread, agent="text")
    assert server.stop(thread) is False


@pytest.mark.of_the_binding
def test_a_stop_may_name_the_run(server: Server, thread: str) -> None:
    path, json = f"/agent/default/stop/{thread}", {"content-type": "application/json"}
    with server.client() as runner:
        runner.stream("run", thread)
        runner.events(2)
        other = server.request("POST", path, b'{"runId":"another"}', json)
        assert other.json()["stopped"] is False
        this = server.request("POST", path, b'{"runId":"run-1"}', json)
        assert this.json()["stopped"] is True
        assert [event["type"] for event in runner.rest()] == STOPPED


@pytest.mark.of_the_binding
def test_a_second_run_on_a_busy_thread_is_refused_and_the_first_untouched(
    server: Server, thread: str
) -> None:
    with server.client() as runner:
        runner.stream("run", thread)
        runner.events(2)
        refused = server.run("run", thread, run_id="run-2")
        assert refused.status == 409
        assert refused.json()["error"] == "Thread already running"
        server.let(thread)
        rest = runner.rest()
        assert "".join(event.get("delta", "") for event in rest) == "01234"
        assert rest[-1]["runId"] == "run-1"


@pytest.mark.of_the_binding
def test_a_follow_up_run_is_accepted_once_the_terminal_event_was_read(
    server: Server, thread: str
) -> None:
    """The second run is accepted although the agent of the first still cleans up."""
    with server.client() as first, server.client() as second:
        first.stream("run", thread, agent="lingers", run_id="a")
        assert first.events(2)[-1]["type"] == "RUN_FINISHED"
        second.stream("run", thread, agent="lingers", run_id="b")
        assert [event["runId"] for event in second.events(2)] == ["b", "b"]
        assert first.rest() == []
        assert server.gate(thread)["unwound"] == 0
        assert second.rest() == []
        server.let(thread, steps=2)
        server.wait_unwound(thread, 2)


def test_a_run_goes_on_when_its_client_is_gone_and_is_replayed(server: Server, thread: str) -> None:
    with server.client() as client:
        client.stream("run", thread)
        client.events(2)
        client.cut()
    server.let(thread)
    server.wait_unwound(thread)
    events = server.run("connect", thread).events()
    verify_events(events)
    assert "".join(event.get("delta", "") for event in events) == "01234"
    assert events[-1]["type"] == "RUN_FINISHED"


def test_a_run_that_ends_while_nobody_reads_is_free_for_the_next(
    server: Server, thread: str
) -> None:
    for number in range(3):
        with server.client() as client:
            client.stream("run", f"{thread}", run_id=f"run-{number}")
            client.events(2)
            client.cut()
        server.let(thread)
        server.wait_unwound(thread, number + 1)
        wait_until(
            lambda: server.run("connect", thread).events()[-1]["type"] == "RUN_FINISHED",
            "the run is in the log to its end",
        )
    started = [
        event["runId"]
        for event in server.run("connect", thread).events()
        if event["type"] == "RUN_STARTED"
    ]
    assert started == ["run-0", "run-1", "run-2"]


@pytest.mark.parametrize("agent", ["default", "plain"])
def test_a_suggestion_dies_with_its_client(server: Server, thread: str, agent: str) -> None:
    with server.client() as client:
        client.stream("suggest", thread, agent=agent)
        client.events(2)
        client.cut()
    if agent == "plain":
        # A plain agent cannot be cancelled, but sees that it was stopped when it looks.
        wait_until(lambda: _has_stopped(server, thread), "the plain agent has ended")
    else:
        server.wait_unwound(thread)
    assert server.run("connect", thread).events() == []


def _has_stopped(server: Server, thread: str) -> bool:
    gate = server.gate(thread)
    if gate["unwound"] == 0:
        server.let(thread, steps=1)
    return bool(gate["unwound"])


@pytest.mark.one_a_binding
def test_two_hundred_short_runs_are_answered_whole(server: Server, thread: str) -> None:
    """The runs share ten connections, which a server may close after a response."""
    for number in range(20):
        with server.clients(10) as clients:
            for index, client in enumerate(clients):
                client.stream("run", f"{thread}-{index}", agent="text", run_id=f"run-{number}")
            for client in clients:
                assert client.rest()[-1]["runId"] == f"run-{number}"
