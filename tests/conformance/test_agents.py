"""Agents of every shape and temper: what they yield arrives, and every stream ends well formed."""

from __future__ import annotations

import pytest
from conformance.agents import FAILING, SHAPES
from conformance.process import Server

from sansio_copilot.events import verify_events

HELLO = [
    "RUN_STARTED",
    "TEXT_MESSAGE_START",
    *["TEXT_MESSAGE_CONTENT"] * 3,
    "TEXT_MESSAGE_END",
    "RUN_FINISHED",
]


@pytest.mark.one_a_loop
@pytest.mark.parametrize("agent", [*SHAPES, "text"])
def test_an_agent_may_have_any_shape(server: Server, thread: str, agent: str) -> None:
    for run_id in ("run-1", "run-2"):
        answer = server.run("run", thread, agent=agent, run_id=run_id)
        assert (answer.status, answer.types()) == (200, HELLO)
        events = answer.events()
        assert events[-1]["runId"] == run_id
        assert "".join(event.get("delta", "") for event in events) == "Hello from Python"
    assert server.run("suggest", thread, agent=agent).types() == HELLO


@pytest.mark.one_a_loop
@pytest.mark.parametrize("agent", FAILING)
def test_an_agent_that_fails_ends_its_stream_well_formed(
    server: Server, thread: str, agent: str
) -> None:
    _, message = FAILING[agent]
    for run_id in ("run-1", "run-2"):
        events = server.run("run", thread, agent=agent, run_id=run_id).events()
        verify_events(events)
        assert events[-1]["type"] == "RUN_ERROR"
        assert message in events[-1]["message"]
    # The thread is usable after the failure of its agent.
    assert server.run("run", thread, agent="text", run_id="run-3").types() == HELLO


@pytest.mark.of_the_binding
def test_an_agent_that_breaks_the_order_is_closed(server: Server, thread: str) -> None:
    server.run("run", thread, agent="breaks-the-order")
    server.wait_unwound(thread)


@pytest.mark.of_the_binding
def test_an_agent_that_ignores_its_cancellation_ends_for_its_readers(
    server: Server, thread: str
) -> None:
    with server.client() as runner, server.client() as reader:
        runner.stream("run", thread, agent="stubborn")
        begun = runner.next_event()
        assert reader.stream("connect", thread).next_event() == begun
        assert server.stop(thread, agent="stubborn") is True
        rest = runner.rest()
        assert [event["type"] for event in rest] == ["RUN_FINISHED"]
        assert reader.rest() == rest
    assert server.run("run", thread, agent="text", run_id="run-2").types() == HELLO
    assert server.gate(thread)["unwound"] == 0
    server.let(thread, steps=1)
    server.wait_unwound(thread)
    assert b"too late" not in server.run("connect", thread).body


@pytest.mark.of_the_binding
def test_an_agent_may_await_while_it_cleans_up(server: Server, thread: str) -> None:
    with server.client() as client:
        client.stream("run", thread, agent="cleans-up")
        client.next_event()
        assert server.stop(thread, agent="cleans-up") is True
        assert [event["type"] for event in client.rest()] == ["RUN_FINISHED"]
        server.wait_unwound(thread)
    with server.client() as client:
        client.stream("run", thread, agent="cleans-up", run_id="run-2")
        client.next_event()
        server.let(thread, steps=1)
        assert [event["type"] for event in client.rest()] == ["RUN_FINISHED"]
        server.wait_unwound(thread, 2)


def test_an_agent_is_told_of_its_request(server: Server, thread: str) -> None:
    headers = {"authorization": "Bearer token", "x-tenant": "a", "accept-language": "de"}
    props = {"text": "Größe: 90 000 Bytes " + "x" * 90_000}
    answer = server.run("run", thread, agent="mirror", headers=headers, forwardedProps=props)
    _, mirrored, _ = answer.events()
    snapshot = mirrored["snapshot"]
    assert snapshot["agentId"] == "mirror"
    assert snapshot["path"] == f"{server.file.base_path}/agent/mirror/run"
    assert headers.items() <= snapshot["headers"].items()
    assert snapshot["forwarded"]["authorization"] == "Bearer token"
    assert snapshot["forwardedProps"] == props
