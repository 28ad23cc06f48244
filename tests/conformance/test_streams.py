"""Streams: events arrive as the agent yields them, in every stream, and can be resumed."""

from __future__ import annotations

import pytest
from conformance.agents import CHATTY
from conformance.process import Server

from sansio_copilot.events import verify_events

CONTENT = "TEXT_MESSAGE_CONTENT"


@pytest.mark.parametrize("agent", ["default", "plain"])
@pytest.mark.parametrize("operation", ["run", "suggest"])
def test_events_arrive_one_by_one_as_the_agent_yields_them(
    server: Server, thread: str, operation: str, agent: str
) -> None:
    with server.client() as client:
        client.stream(operation, thread, agent=agent)
        begun = client.events(2)
        assert [event["type"] for event in begun] == ["RUN_STARTED", "TEXT_MESSAGE_START"]
        for number in range(5):
            server.let(thread, steps=1)
            event = client.next_event()
            assert (event["type"], event["delta"]) == (CONTENT, str(number))
        server.let(thread, steps=1)
        assert [event["type"] for event in client.rest()] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]


def test_a_connect_in_mid_run_sees_history_and_then_the_live_run(
    server: Server, thread: str
) -> None:
    first = server.run("run", thread, agent="text", run_id="run-0").events()
    with server.client() as runner, server.client() as one, server.client() as another:
        runner.stream("run", thread)
        seen = runner.events(2)
        server.let(thread, steps=2)
        seen += runner.events(2)
        readers = [one.stream("connect", thread), another.stream("connect", thread)]
        for reader in readers:
            history = reader.events(5)
            assert [event["type"] for event in history] == [
                "RUN_STARTED",
                "TEXT_MESSAGE_START",
                CONTENT,
                "TEXT_MESSAGE_END",
                "RUN_FINISHED",
            ]
            assert history[2]["delta"] == "Hello from Python"
            assert (history[0], history[-1]) == (first[0], first[-1])
            assert reader.events(4) == seen
        for _ in range(3):
            server.let(thread, steps=1)
            event = runner.next_event()
            assert [reader.next_event() for reader in readers] == [event] * 2
        server.let(thread, steps=1)
        rest = runner.rest()
        assert [event["type"] for event in rest] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert [reader.rest() for reader in readers] == [rest] * 2


def test_a_connect_to_a_thread_that_nobody_knows_is_empty(server: Server, thread: str) -> None:
    answer = server.run("connect", thread)
    assert (answer.status, answer.events()) == (200, [])


def test_a_plain_agent_that_is_faster_than_its_reader_is_recorded_whole(
    server: Server, thread: str
) -> None:
    events = server.run("run", thread, agent="numbers").events()
    verify_events(events)
    text = "".join(event.get("delta", "") for event in events)
    assert text == "".join(f"{number}," for number in range(2000))


def test_a_reader_that_never_reads_delays_nobody(server: Server, thread: str) -> None:
    with server.client() as lazy:
        lazy.stream("run", thread, agent="chatty")
        assert lazy.next_event()["type"] == "RUN_STARTED"
        events = server.run("connect", thread).events()
        assert [event.get("name") for event in events[1:-1]] == [str(n) for n in range(CHATTY)]
        assert [event["type"] for event in lazy.rest()] == [event["type"] for event in events[1:]]


def test_a_silent_stream_carries_heartbeats(server: Server, thread: str) -> None:
    with server.client() as client:
        client.stream("run", thread)
        client.receive_until(b": keep-alive\n\n")
        client.receive_until(b": keep-alive\n\n")
        server.let(thread)
        client.receive_until(b"RUN_FINISHED")


@pytest.mark.one_a_binding
def test_a_hundred_streams_are_open_at_once(server: Server, thread: str) -> None:
    threads = [f"{thread}-{number}" for number in range(100)]
    with server.clients(len(threads)) as clients:
        for client, name in zip(clients, threads, strict=True):
            client.stream("run", name)
        for client in clients:
            assert client.events(2)[0]["type"] == "RUN_STARTED"
        # The line of a request may have 4,094 bytes with gunicorn.
        for first in range(0, len(threads), 20):
            server.let(*threads[first : first + 20])
        for client, name in zip(clients, threads, strict=True):
            rest = client.rest()
            assert "".join(event.get("delta", "") for event in rest) == "01234"
            assert rest[-1] == {"type": "RUN_FINISHED", "threadId": name, "runId": "run-1"}
