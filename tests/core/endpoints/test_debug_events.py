"""The debug feed: every event of every run in the reference's envelope, and only if asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sansio_copilot import CopilotRuntime, text_agent
from sansio_copilot.stores.debug_feed import DebugFeed
from sansio_copilot.stores.protocol import RunKey
from sansio_copilot.testing import Client, run_input

PATH = "/api/copilotkit/cpk-debug-events"
KEY = RunKey("t", 1, "r")


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield "Hello"


def frames(*names: str) -> bytes:
    return b"".join(b'id: 1.0.0\ndata: {"name":"%s"}\n\n' % name.encode() for name in names)


class TestEndpoint:
    def test_the_feed_is_not_there_unless_asked_for(self) -> None:
        answer = Client(CopilotRuntime({"default": hello})).get(PATH)
        assert (answer.status, answer.body) == (404, b"Not Found")

    def test_the_feed_has_every_event_of_every_run(self) -> None:
        client = Client(CopilotRuntime({"a": hello, "b": hello}, debug=True), now=1_700_000_000.5)
        feed = client.stream("GET", PATH)
        assert feed.body == b": connected\n\n"
        runs = [
            client.post(f"/api/copilotkit/agent/{agent}/run", json=run_input(thread)).events()
            for agent, thread in (("a", "t1"), ("b", "t2"))
        ]
        envelopes = feed.ready()
        assert [envelope["event"] for envelope in envelopes] == [*runs[0], *runs[1]]
        assert {
            (envelope["agentId"], envelope["threadId"], envelope["runId"], envelope["timestamp"])
            for envelope in envelopes
        } == {("a", "t1", "run-1", 1_700_000_000_500), ("b", "t2", "run-1", 1_700_000_000_500)}
        assert not feed.ended

    def test_events_that_close_a_run_are_in_the_feed_too(self) -> None:
        client = Client(CopilotRuntime({"default": hello}, debug=True))
        run = client.stream("POST", "/api/copilotkit/agent/default/run", json=run_input("t"))
        run.next()
        feed = client.stream("GET", PATH)
        client.post("/api/copilotkit/agent/default/stop/t")
        assert [envelope["event"]["type"] for envelope in feed.ready()] == ["RUN_FINISHED"]

    def test_suggestions_are_not_in_the_feed(self) -> None:
        client = Client(CopilotRuntime({"default": hello}, debug=True))
        feed = client.stream("GET", PATH)
        client.post("/api/copilotkit/agent/default/suggest", json=run_input("t"))
        assert feed.ready() == []


class TestFeed:
    def test_a_reader_begins_with_new_events(self) -> None:
        feed = DebugFeed()
        feed.publish("a", KEY, frames("old"), 0.0)
        cursor = feed.end()
        assert feed.read(cursor, 1000).data == b""
        feed.publish("a", KEY, frames("new"), 0.0)
        batch = feed.read(cursor, 1000)
        assert b'"event":{"name":"new"}}\n\n' in batch.data
        assert b"old" not in batch.data
        assert not batch.ended
        assert feed.read(batch.cursor, 1000).data == b""

    def test_a_long_tail_is_read_in_whole_frames(self) -> None:
        feed = DebugFeed()
        cursor = feed.end()
        feed.publish("a", KEY, frames(*"abcdef"), 0.0)
        whole = feed.read(cursor, 10_000).data
        pieces = []
        while piece := feed.read(cursor, 100):
            if not piece.data:
                break
            assert piece.data.endswith(b"\n\n")
            pieces.append(piece.data)
            cursor = piece.cursor
        assert len(pieces) > 2
        assert b"".join(pieces) == whole

    def test_a_reader_that_falls_behind_goes_on_with_the_tail(self) -> None:
        feed = DebugFeed(max_bytes=1000)
        cursor = feed.end()
        for number in range(100):
            feed.publish("a", KEY, frames(str(number)), 0.0)
        batch = feed.read(cursor, 10_000)
        assert batch.data.startswith(b"data: {")
        assert b'"name":"99"' in batch.data
        assert b'"name":"1"' not in batch.data
        assert len(batch.data) <= 2000

    def test_a_reader_waits_for_new_events(self) -> None:
        feed = DebugFeed()
        woken: list[str] = []
        start = feed.end()
        feed.watch(start, lambda: woken.append("first"))
        cancel = feed.watch(start, lambda: woken.append("cancelled"))
        cancel()
        feed.publish("a", KEY, frames("x"), 0.0)
        feed.publish("a", KEY, frames("y"), 0.0)
        assert woken == ["first"]
        feed.watch(start, lambda: woken.append("late"))()
        assert woken == ["first", "late"]
