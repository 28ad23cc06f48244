"""The order of the reference, also where :func:`compact_events` does not take it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from core.events.test_compact import CUSTOM, content, start

from sansio_copilot.events.replay_order import arrange

CASES = json.loads((Path(__file__).parents[2] / "vectors" / "compact.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES)
def test_the_order_is_that_of_the_vectors(case: Any) -> None:
    def without_state(events: Any) -> Any:
        return [event for event in events if not event["type"].startswith("STATE")]

    assert arrange(without_state(case["events"])) == without_state(case["expect"])


def test_a_tool_call_takes_events_along_if_no_text_message_is_open() -> None:
    call = {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"}
    assert arrange([call, CUSTOM]) == [call, CUSTOM]
    assert arrange([call, start(), CUSTOM]) == [start(), CUSTOM, call]
    closed = {"type": "TOOL_CALL_END", "toolCallId": "c"}
    assert arrange([call, closed, CUSTOM]) == [call, closed, CUSTOM]


def test_the_first_message_is_the_one_heard_of_first_even_if_it_started_later() -> None:
    events = [content("x", "o"), start("m"), start("o"), CUSTOM]
    assert arrange(events) == [start("o"), content("x", "o"), CUSTOM, start("m")]


def test_a_start_sent_twice_replaces_the_first_and_their_metadata_is_merged() -> None:
    first = start(name="old", metadata={"x": 1, "y": 1})
    assert arrange([first, start(name="new", metadata={"y": 2})]) == [
        start(name="new", metadata={"x": 1, "y": 2})
    ]
    assert arrange([first, start()]) == [start(metadata={"x": 1, "y": 1})]


def test_metadata_of_a_start_sent_after_a_delta_counts_as_later() -> None:
    first = start(metadata={"x": 1})
    again = start(name="new", metadata={"x": 3})
    assert arrange([first, content("a", metadata={"x": 2}), again]) == [
        start(name="new", metadata={"x": 1}),
        content("a", metadata={"x": 3}),
    ]
    assert arrange([start(), content("a"), again]) == [
        start(name="new"),
        content("a", metadata={"x": 3}),
    ]
