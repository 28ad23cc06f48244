"""A stream cut at whatever byte is resumed by Last-Event-ID: nothing twice, nothing lost."""

from __future__ import annotations

import contextlib
import json
from functools import cache
from typing import Any

import pytest
from conformance.client import Receiver
from conformance.process import Server

from sansio_copilot.events import compact_events

Event = dict[str, Any]


def cut_everywhere(data: bytes) -> list[tuple[list[Event], str]]:
    """Return what a client has seen, and its last event id, after each byte of a response."""
    receiver = Receiver()
    seen: list[Event] = []
    states = [(list(seen), "")]
    for position in range(len(data)):
        frames = receiver.feed(data[position : position + 1])
        seen += [json.loads(frame.data) for frame in frames]
        states.append((list(seen), receiver.parser.last_event_id))
    return states


def resumed(server: Server, thread: str, last_event_id: str) -> list[Event]:
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    return server.run("connect", thread, headers=headers).events()


@pytest.mark.one_a_loop
def test_an_ended_run_is_resumed_at_every_byte_of_its_response(server: Server, thread: str) -> None:
    with server.client() as client:
        states = cut_everywhere(client.stream("run", thread, agent="text").record())
    events, _ = states[-1]
    assert len(events) == 7

    @cache
    def rest(last_event_id: str) -> list[Event]:
        return resumed(server, thread, last_event_id)

    # A client that saw nothing gets what anybody gets, which is compacted.
    assert rest("") == compact_events(events)
    for position, (seen, last_event_id) in enumerate(states):
        if last_event_id:
            assert seen + rest(last_event_id) == events, f"cut after {position} bytes"
        else:
            assert seen == []


@pytest.mark.one_a_loop
def test_a_replay_is_resumed_at_every_byte_of_its_response(server: Server, thread: str) -> None:
    for run_id in ("run-1", "run-2"):
        server.run("run", thread, agent="text", run_id=run_id)
    with server.client() as client:
        states = cut_everywhere(client.stream("connect", thread).record())
    events, _ = states[-1]
    assert len(events) == 10

    @cache
    def rest(last_event_id: str) -> list[Event]:
        return resumed(server, thread, last_event_id)

    for position, (seen, last_event_id) in enumerate(states):
        assert seen + rest(last_event_id) == events, f"cut after {position} bytes"


@pytest.mark.of_the_binding
def test_a_live_run_is_resumed_wherever_its_reader_was_cut(server: Server, thread: str) -> None:
    with server.client() as runner, contextlib.ExitStack() as opened:
        runner.stream("run", thread)
        server.let(thread, steps=2)
        events = runner.events(4)
        with server.client() as reader:
            data = b""
            reader.stream("connect", thread)
            while len(cut_everywhere(data)[-1][0]) < len(events):
                data += reader.receive_bytes(1) + reader.receive_until(b"\n")
        resumers = []
        for position in [*range(0, len(data), max(len(data) // 12, 1)), len(data) - 1, len(data)]:
            with server.client() as reader:
                received = reader.stream("connect", thread).receive_bytes(position)
                reader.cut()
            seen, last_event_id = cut_everywhere(received)[-1]
            headers = {"last-event-id": last_event_id} if last_event_id else {}
            resumer = opened.enter_context(server.client())
            resumers.append((position, seen, resumer.stream("connect", thread, headers=headers)))
        server.let(thread)
        events += runner.rest()
        for position, seen, resumer in resumers:
            assert seen + resumer.rest() == events, f"cut after {position} bytes"
