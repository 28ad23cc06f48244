"""Agents that need asyncio, whatever the binding's event loop is."""

from __future__ import annotations

import pytest
from conformance.agents import CHATTY, FAILING, SHAPES
from conformance.process import Server
from conformance.test_agents import HELLO

from sansio_copilot.events import verify_events

pytestmark = pytest.mark.one_a_loop


@pytest.mark.parametrize("agent", ["only", *SHAPES])
def test_an_asyncio_agent_may_have_any_shape(server: Server, thread: str, agent: str) -> None:
    for run_id in ("run-1", "run-2"):
        answer = server.run("run", thread, agent=f"asyncio-{agent}", run_id=run_id)
        assert (answer.status, answer.types()) == (200, HELLO)
    assert server.run("suggest", thread, agent=f"asyncio-{agent}").types() == HELLO


@pytest.mark.parametrize("agent", FAILING)
def test_an_asyncio_agent_that_fails_ends_its_run_and_leaves_the_thread_free(
    server: Server, thread: str, agent: str
) -> None:
    for run_id in ("run-1", "run-2"):
        events = server.run("run", thread, agent=f"asyncio-{agent}", run_id=run_id).events()
        verify_events(events)
        assert events[-1]["type"] == "RUN_ERROR"
        assert FAILING[agent][1] in events[-1]["message"]
    assert server.run("run", thread, agent="asyncio-only", run_id="run-3").types() == HELLO


def test_an_asyncio_agent_that_is_faster_than_its_readers_is_recorded_whole(
    server: Server, thread: str
) -> None:
    assert server.run("run", thread, agent="asyncio-numbers").types().count(
        "TEXT_MESSAGE_CONTENT"
    ) in range(1, 2001)
    answer = server.run("run", thread, agent="asyncio-chatty", run_id="run-2")
    names = [event["name"] for event in answer.events() if event["type"] == "CUSTOM"]
    assert names == [str(number) for number in range(CHATTY)]


def test_an_asyncio_agent_that_is_stopped_cleans_up(server: Server, thread: str) -> None:
    with server.client() as client:
        client.stream("run", thread, agent="asyncio-cleans-up")
        client.next_event()
        assert server.stop(thread, agent="asyncio-cleans-up") is True
        assert [event["type"] for event in client.rest()] == ["RUN_FINISHED"]
    server.wait_unwound(thread)


def test_an_asyncio_agent_that_ignores_its_cancellation_ends_for_its_readers(
    server: Server, thread: str
) -> None:
    with server.client() as client:
        client.stream("run", thread, agent="asyncio-stubborn")
        client.next_event()
        assert server.stop(thread, agent="asyncio-stubborn") is True
        assert [event["type"] for event in client.rest()] == ["RUN_FINISHED"]
    assert server.run("run", thread, agent="text", run_id="run-2").types() == HELLO
    server.let(thread, steps=1)
    server.wait_unwound(thread)
