"""Thread stores whose methods are async, or block: all is as with the one in memory."""

from __future__ import annotations

from typing import Any

import pytest
from conformance.client import Answer
from conformance.process import Server, wait_until
from conformance.stores import ODD_STORES

from sansio_copilot.events import verify_events

pytestmark = pytest.mark.parametrize(
    "config",
    [
        "main",
        *(
            pytest.param(name, marks=pytest.mark.one_a_loop)
            for name in ("async-store", "blocking-store", "sqlite-store")
        ),
        *(pytest.param(name, marks=pytest.mark.one_a_binding) for name in ODD_STORES),
    ],
)


@pytest.mark.of_the_binding
def test_a_store_serves_runs_connects_and_stops(server: Server, thread: str, config: str) -> None:
    with server.client(config) as runner, server.client(config) as reader:
        runner.stream("run", thread)
        seen = runner.events(2)
        server.let(thread, steps=2)
        seen += runner.events(2)
        reader.stream("connect", thread)
        assert reader.events(4) == seen
        assert server.run("run", thread, run_id="run-2", config=config).status == 409
        assert server.stop(thread, config=config) is True
        rest = runner.rest()
        assert [event["type"] for event in rest] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert reader.rest() == rest
    assert server.stop(thread, config=config) is False
    server.wait_unwound(thread)
    replay = server.run("connect", thread, config=config).events()
    assert [event.get("delta") for event in replay] == [None, None, "01", None, None]


@pytest.mark.of_the_binding
def test_a_plain_agent_is_stopped(server: Server, thread: str, config: str) -> None:
    with server.client(config) as runner:
        runner.stream("run", thread, agent="plain")
        runner.events(2)
        assert server.stop(thread, agent="plain", config=config) is True
        assert runner.rest()[-1]["type"] == "RUN_FINISHED"
    server.let(thread)
    server.wait_unwound(thread)


@pytest.mark.of_the_binding
def test_a_run_goes_on_without_its_client(server: Server, thread: str, config: str) -> None:
    with server.client(config) as runner:
        runner.stream("run", thread)
        runner.events(2)
        runner.cut()
    with server.client(config) as reader:
        reader.stream("connect", thread)
        reader.events(2)
        server.let(thread)
        assert reader.rest()[-1]["type"] == "RUN_FINISHED"


def test_a_client_that_leaves_at_once_leaves_no_thread_busy(
    server: Server, thread: str, config: str
) -> None:
    """A run takes place whole, or not at all, whatever the store was doing for it."""
    for _ in range(10):
        with server.client(config) as client:
            client.stream("run", thread, agent="text").cut()
    wait_until(
        lambda: server.run("run", thread, agent="text", config=config).status == 200,
        "the thread is free",
    )
    verify_events(server.run("connect", thread, config=config).events())


ANSWER = [{"interruptId": "i", "status": "resolved", "payload": True}]


@pytest.mark.of_the_binding
def test_an_approval_that_is_sent_twice_is_acted_on_once(
    server: Server, thread: str, config: str
) -> None:
    def post(run_id: str, **fields: Any) -> Answer:
        return server.run("run", thread, agent="asks", run_id=run_id, config=config, **fields)

    assert post("r1").events()[-1]["outcome"]["type"] == "interrupt"
    assert post("r2", resume=ANSWER).types() == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]
    refused = post("r3", resume=ANSWER)
    assert refused.types() == ["RUN_STARTED", "RUN_ERROR"]
    assert "interrupt 'i' is not open" in refused.events()[-1]["message"]
    # The agent may ask again, and the answer counts again.
    assert post("r4").events()[-1]["outcome"]["type"] == "interrupt"
    assert "CUSTOM" in post("r5", resume=ANSWER).types()


def test_approvals_that_arrive_at_once_are_acted_on_once(
    server: Server, thread: str, config: str
) -> None:
    server.run("run", thread, agent="asks", config=config)
    with server.clients(8, config) as clients:
        for number, client in enumerate(clients):
            client.stream("run", thread, agent="asks", run_id=f"again-{number}", resume=ANSWER)
        answers = [client.receive() for client in clients]
    assert {answer.status for answer in answers} <= {200, 409}
    acted = [answer for answer in answers if answer.status == 200 and "CUSTOM" in answer.types()]
    assert len(acted) == 1


def test_many_runs_at_once_are_recorded(server: Server, thread: str, config: str) -> None:
    with server.clients(10, config) as clients:
        for number, client in enumerate(clients):
            client.stream("run", f"{thread}-{number}", agent="generator" if number % 2 else "text")
        for client in clients:
            assert client.rest()[-1]["type"] == "RUN_FINISHED"
    threads = server.request("GET", "/threads", config=config).json()["threads"]
    assert len([known for known in threads if known["id"].startswith(thread)]) == 10
