"""What a reload shows is what was shown live: the clients' own folding is the judge."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.events.streams import streams
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sansio_copilot import _json
from sansio_copilot.events import compact_events
from sansio_copilot.recorder import RunRecorder, frame_data
from sansio_copilot.threads import RunKey

HERE = Path(__file__).parent
GENERATIONS = ("0.0.59", "1.0.0")
Event = dict[str, Any]


class Clients:
    """Both generations, in one process of Node."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.judged = dict.fromkeys(GENERATIONS, 0)

    def look(self, runs: list[Any], replay: list[Event]) -> dict[str, list[Any]]:
        """Of each generation what a client that was there sees, and one that connects later."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(_json.encode({"runs": runs, "replay": replay}) + b"\n")
        stdin.flush()
        answer: dict[str, list[Any]] = json.loads(stdout.readline())
        return answer

    def agree(self, runs: list[Any], replay: list[Event]) -> None:
        """See that a reload shows what was live; a stream that is refused live shows nothing."""
        for generation, (live, reloaded) in self.look(runs, replay).items():
            if "error" not in live:
                self.judged[generation] += 1
                assert reloaded == live, generation


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with subprocess.Popen(
        ["node", "fold.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Clients(process)
        finally:
            process.kill()


def recorded(
    runs: list[list[Event]],
) -> tuple[list[dict[str, Any]], list[Event], list[dict[str, Any]]]:
    """Runs of a thread: what was said and sent live, the replay, and the messages it has."""
    lives, replay, messages, known = [], list[Event](), list[dict[str, Any]](), set[str]()
    for number, said in enumerate(runs):
        question = {"id": f"u{number}", "role": "user", "content": "?"}
        sent = [m for m in messages if m["role"] != "activity"] + [question]
        recorder = RunRecorder(RunKey("t", number, "r"), {"messages": sent}, known)
        frames = b"".join([recorder.record(event, 0.0) for event in said])
        last, result = recorder.finish(1.0)
        assert recorder.error is None
        assert result is not None
        lives.append({"said": [question], "events": events_of(frames + last)})
        replay += events_of(result.frames)
        messages = json.loads(result.messages or b"[]")
        known |= result.message_ids
    return lives, replay, messages


def events_of(frames: bytes) -> list[Event]:
    return [json.loads(data) for data in frame_data(frames)]


PROPERTY = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@PROPERTY
@given(streams)
def test_of_any_stream(clients: Clients, stream: list[Event]) -> None:
    clients.agree([{"said": [], "events": stream}], compact_events(stream))


@PROPERTY
@given(st.lists(streams, min_size=1, max_size=2))
def test_of_any_thread(clients: Clients, runs: list[list[Event]]) -> None:
    lives, replay, _ = recorded(runs)
    clients.agree(lives, replay)


def test_none_of_this_was_for_nothing(clients: Clients) -> None:
    assert all(count > 100 for count in clients.judged.values())
