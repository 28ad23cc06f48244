"""Every stream that the runtime sends is read by both generations of the client, to its end.

A client that refuses one event throws away the rest of its stream, now and on each reload.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import streams
from clients.streams import Stream

HERE = Path(__file__).parent
NODE_SECONDS = 300


def read(given: Iterable[Stream]) -> list[dict[str, Any]]:
    """Return what each client makes of each stream, in each of its two flows."""
    lines = [
        json.dumps({"name": stream.name, "frames": stream.frames.decode("utf-8")})
        for stream in given
    ]
    assert lines
    finished = subprocess.run(
        ["node", "read.mjs"],
        cwd=HERE,
        input="\n".join(lines),
        capture_output=True,
        encoding="utf-8",
        timeout=NODE_SECONDS,
        check=True,
    )
    # str.splitlines would break JSON at U+2028.
    results = [json.loads(line) for line in finished.stdout.split("\n")[:-1]]
    assert len(results) == 4 * len(lines), finished.stderr
    return results


def refused(results: list[dict[str, Any]]) -> list[str]:
    return [
        f"{result['name']}: {result['client']} {result['flow']}: {result['refused']}"
        for result in results
        if "refused" in result
    ]


@pytest.mark.parametrize(
    "source",
    [
        streams.of_cases,
        streams.of_vectors,
        streams.of_differential,
        streams.of_fault_agents,
        streams.of_stops,
        lambda: streams.of_mutations(1, 800),
    ],
    ids=["cases", "vectors", "differential", "faults", "stops", "mutations"],
)
def test_no_client_refuses_one(source: Callable[[], Iterator[Stream]]) -> None:
    # Many are the same to the byte, most of them live and replayed, and are read once.
    different = {stream.frames: stream for stream in source()}
    complaints = refused(read(different.values()))
    assert not complaints, f"{len(complaints)} refused:\n" + "\n\n".join(complaints[:10])


def test_a_stream_that_is_wrong_would_be_noticed() -> None:
    started, finished = map(json.dumps, (streams.STARTED, streams.FINISHED))
    wrong = [
        '{"type":"TEXT_MESSAGE_START","messageId":"m","role":"ai"}',
        '{"type":"TEXT_MESSAGE_END","messageId":"m"}',
        "{",
    ]
    given = [
        Stream(event, "".join(f"data: {data}\n\n" for data in (started, event, finished)).encode())
        for event in wrong
    ]
    assert len(refused(read(given))) == 4 * len(wrong)
