"""An application whose work goes on in the background is told when a run is stopped."""

from __future__ import annotations

import signal

import pytest
from conformance.agents import STOPPABLE
from conformance.process import Server, wait_until

TOLD = "the work of thread '{}' is stopped"


def wait_told(server: Server, thread: str) -> None:
    wait_until(lambda: bool(server.gate(thread)["stops"]), f"{thread} is told")
    assert server.gate(thread)["stops"] == 1


@pytest.mark.one_a_loop
@pytest.mark.parametrize("agent", STOPPABLE)
def test_an_application_is_told_of_a_stop_by_a_client(
    server: Server, thread: str, agent: str
) -> None:
    with server.client() as client:
        client.stream("run", thread, agent=agent)
        client.events(2)
        server.stop(thread, agent=agent)
        assert client.rest()[-1]["type"] == "RUN_FINISHED"
    wait_told(server, thread)
    server.let(thread)
    server.wait_unwound(thread)


@pytest.mark.one_a_loop
@pytest.mark.parametrize("agent", STOPPABLE)
def test_an_application_is_told_of_no_stop_of_a_run_that_ends_by_itself(
    server: Server, thread: str, agent: str
) -> None:
    server.let(thread)
    assert server.run("run", thread, agent=agent).types()[-1] == "RUN_FINISHED"
    server.wait_unwound(thread)
    assert server.gate(thread)["stops"] == 0


@pytest.mark.one_a_loop
def test_an_application_is_told_of_a_stop_because_nobody_follows_the_run(
    server: Server, thread: str
) -> None:
    with server.client("abandoned") as client:
        client.stream("run", thread, agent="stoppable")
        client.events(2)
    wait_told(server, thread)


@pytest.mark.one_a_loop
@pytest.mark.parametrize("agent", STOPPABLE)
def test_a_failure_of_the_function_for_stops_is_logged_and_does_no_harm(
    server: Server, thread: str, agent: str
) -> None:
    since = server.log_size()
    with server.client() as client:
        client.stream("run", thread, agent=agent, forwardedProps={"fails": True})
        client.events(2)
        server.stop(thread, agent=agent)
        assert client.rest()[-1]["type"] == "RUN_FINISHED"
    server.let(thread)
    server.wait_unwound(thread)
    wait_until(lambda: f"on_stop of agent {agent!r} failed" in server.log(since), "it is logged")
    assert server.run("run", thread, agent="text", run_id="run-2").types()[-1] == "RUN_FINISHED"


@pytest.mark.needs("graceful-shutdown")
@pytest.mark.one_a_loop
def test_an_application_is_told_of_a_stop_by_the_end_of_the_server(own_server: Server) -> None:
    with own_server.clients(3) as clients:
        for client, agent in zip(clients, STOPPABLE, strict=True):
            client.stream("run", agent, agent=agent)
            client.events(2)
        own_server.let("stoppable-plain", steps=0)
        own_server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.rest()
        problems = own_server.ended()
    assert not problems, problems[0]
