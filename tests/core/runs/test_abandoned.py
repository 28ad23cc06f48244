"""A run that nobody follows is stopped after a while, where the application asks for that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sansio_copilot import CopilotRuntime, Hooks, Reject, Response
from sansio_copilot.events import verify_events
from sansio_copilot.runs.audience import Audience, Audiences
from sansio_copilot.testing import Client, Stream, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"
CONNECT = f"{BASE}/agent/default/connect"
STOP = f"{BASE}/agent/default/stop/t"
WORDS = 100


async def talker(input: Any, context: Any) -> AsyncIterator[Any]:
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_STARTED", **ids}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    for number in range(WORDS):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": f"{number} "}
    yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
    yield {"type": "RUN_FINISHED", **ids}


def client(seconds: float | None = 10.0, **options: Any) -> Client:
    return Client(CopilotRuntime({"default": talker}, stop_when_abandoned=seconds, **options))


def started(server: Client, run_id: str = "r1") -> Stream:
    stream = server.stream("POST", RUN, json=run_input("t", run_id))
    for _ in range(4):
        assert stream.next() is not None
    return stream


def replayed(server: Client) -> list[dict[str, Any]]:
    return server.post(CONNECT, json=run_input("t", "c")).events()


def is_over(server: Client) -> bool:
    """Return whether the thread has no live run."""
    return server.post(STOP).json()["stopped"] is False


class TestStopped:
    def test_an_abandoned_run_is_stopped_as_by_a_client(self) -> None:
        texts = []
        for abandon in (True, False):
            server = client()
            stream = started(server)
            if abandon:
                stream.close()
                server.advance(10)
            else:
                assert server.post(STOP).json()["stopped"] is True
                stream.finish()
            events = replayed(server)
            verify_events(events)
            assert events[-1]["type"] == "RUN_FINISHED"
            texts.append([(event["type"], event.get("delta")) for event in events])
        assert texts[0] == texts[1]

    def test_the_thread_of_an_abandoned_run_is_free(self) -> None:
        server = client()
        started(server).close()
        assert server.post(RUN, json=run_input("t", "r2")).status == 409
        server.advance(10)
        assert server.post(RUN, json=run_input("t", "r2")).status == 200

    def test_an_abandoned_run_is_not_stopped_before_its_time(self) -> None:
        server = client()
        started(server).close()
        server.advance(9.9)
        assert not is_over(server)

    def test_an_abandoned_run_is_not_stopped_unless_it_is_asked_for(self) -> None:
        server = client(None)
        started(server).close()
        server.advance(1e9)
        assert not is_over(server)

    def test_a_run_that_ends_by_itself_is_left_alone(self) -> None:
        server = client()
        started(server).close()
        while server.step():
            pass
        server.advance(10)
        assert len(replayed(server)) == 5


class TestFollowed:
    def test_a_reader_keeps_a_run(self) -> None:
        server = client()
        stream = started(server)
        reader = server.stream("POST", CONNECT, json=run_input("t", "c"))
        stream.close()
        server.advance(100)
        assert len(list(reader)) == WORDS + 4

    def test_the_starter_keeps_a_run(self) -> None:
        server = client()
        stream = started(server)
        server.stream("POST", CONNECT, json=run_input("t", "c")).close()
        server.advance(100)
        assert len(list(stream)) == WORDS

    def test_a_reader_who_comes_back_in_time_keeps_a_run(self) -> None:
        server = client()
        started(server).close()
        server.advance(9)
        reader = server.stream("POST", CONNECT, json=run_input("t", "c"))
        server.advance(9)
        assert len(list(reader)) == WORDS + 4

    def test_the_time_begins_anew_when_the_last_reader_leaves(self) -> None:
        server = client()
        started(server).close()
        server.advance(9)
        server.stream("POST", CONNECT, json=run_input("t", "c")).close()
        server.advance(9)
        assert not is_over(server)
        server.advance(1)
        assert is_over(server)

    def test_a_reader_of_another_thread_keeps_no_run(self) -> None:
        server = client()
        started(server).close()
        other = server.stream("POST", RUN, json=run_input("other", "r1"))
        other.next()
        server.advance(10)
        assert is_over(server)
        other.close()

    def test_a_reader_that_a_hook_turned_away_keeps_no_run(self) -> None:
        def turn_away(context: Any) -> None:
            if context.route.name == "agent/connect":
                raise Reject(Response(403))

        server = client(hooks=Hooks(on_response=turn_away))
        started(server).close()
        server.advance(9)
        assert server.post(CONNECT, json=run_input("t", "c")).status == 403
        server.advance(1)
        assert server.post(RUN, json=run_input("t", "r2")).status == 200

    def test_a_suggestion_has_no_audience_but_its_own(self) -> None:
        server = client()
        path = f"{BASE}/agent/default/suggest"
        stream = server.stream("POST", path, json=run_input("t", "s"))
        stream.next()
        server.advance(100)
        assert len(list(stream)) == WORDS + 3


def test_audiences_are_of_live_runs() -> None:
    audiences = Audiences()
    first = audiences.open("t")
    assert audiences.of("t") is first
    second = audiences.open("t")
    del first
    assert audiences.of("t") is second
    assert audiences.of("other") is None
    del second
    assert audiences.of("t") is None


def test_an_audience_tells_when_the_last_reader_leaves() -> None:
    audience, told = Audience(), []
    audience.on_empty = lambda: told.append(audience.is_empty)
    assert audience.is_empty
    audience.join(1)
    audience.join(2)
    audience.leave(1)
    assert not told
    audience.leave(2)
    assert told == [True]
    audience.disperse()
    audience.join(3)
    audience.leave(3)
    assert told == [True]


@pytest.mark.parametrize("seconds", [0, -1, True, "10", float("nan")])
def test_the_seconds_of_an_abandoned_run_are_a_number_above_0(seconds: Any) -> None:
    with pytest.raises(ValueError, match="stop_when_abandoned must be a number above 0"):
        client(seconds)


def test_a_reader_who_follows_a_run_when_its_time_has_come_keeps_it() -> None:
    server = client()
    started(server).close()
    server.advance(9)
    reader = server.stream("POST", CONNECT, json=run_input("t", "c"))
    assert reader.next() is not None
    server.advance(1)
    assert not is_over(server)
