"""A run whose starter has gone and whom nobody follows is stopped, where that is asked for."""

from __future__ import annotations

import pytest
from conformance.process import Server, wait_until

from sansio_copilot.events import verify_events

pytestmark = pytest.mark.one_a_binding

CONFIGS = ["abandoned", "abandoned-async-store", "abandoned-blocking-store"]
BEGINNING = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
STOPPED = ["TEXT_MESSAGE_END", "RUN_FINISHED"]


def start(server: Server, config: str, thread: str) -> None:
    """Start a run, take its beginning, and leave."""
    with server.client(config) as starter:
        starter.stream("run", thread)
        server.let(thread, steps=1)
        assert [event["type"] for event in starter.events(3)] == BEGINNING


@pytest.mark.parametrize("config", CONFIGS)
def test_an_abandoned_run_is_stopped_as_by_a_client(
    server: Server, thread: str, config: str
) -> None:
    start(server, config, thread)
    server.wait_unwound(thread)
    replayed = server.run("connect", thread, config=config)
    assert replayed.types() == [*BEGINNING, *STOPPED]
    verify_events(replayed.events())
    # The thread of the stopped run is free.
    assert server.run("run", thread, config=config, agent="text", run_id="run-2").status == 200


@pytest.mark.parametrize("config", CONFIGS)
def test_a_reader_that_follows_a_run_keeps_it(server: Server, thread: str, config: str) -> None:
    with server.client(config) as reader:
        with server.client(config) as starter:
            starter.stream("run", thread)
            server.let(thread, steps=1)
            starter.events(3)
            reader.stream("connect", thread)
            assert [event["type"] for event in reader.events(3)] == BEGINNING
        reader.heartbeats(6)
        assert server.gate(thread)["unwound"] == 0
        server.let(thread, steps=1)
        assert reader.next_event()["type"] == "TEXT_MESSAGE_CONTENT"
    # The run is abandoned now, because its last reader has gone as well.
    server.wait_unwound(thread)
    replayed = server.run("connect", thread, config=config)
    assert replayed.types()[-2:] == STOPPED


def test_a_run_that_nobody_follows_goes_on_unless_it_is_asked_for(
    server: Server, thread: str
) -> None:
    start(server, "main", thread)
    with server.client() as reader:
        # The reader waits as long as a stop would have taken.
        reader.stream("connect", thread)
        reader.heartbeats(6)
    server.let(thread)
    server.wait_unwound(thread)
    wait_until(
        lambda: server.run("connect", thread).types()[-1] == "RUN_FINISHED", "the end of the run"
    )


def test_a_suggestion_dies_with_its_client_as_ever(server: Server, thread: str) -> None:
    with server.client("abandoned") as client:
        client.stream("suggest", thread)
        client.events(2)
    server.wait_unwound(thread)
