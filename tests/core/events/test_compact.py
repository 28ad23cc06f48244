"""What a replay sends instead of everything that happened."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from sansio_copilot.events import Compactor, compact_events, fold_state

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "compact.json").read_text())["cases"]

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
CUSTOM = {"type": "CUSTOM", "name": "n", "value": 1}


def start(message_id="m", **fields):
    return {"type": "TEXT_MESSAGE_START", "messageId": message_id, **fields}


def content(delta, message_id="m", **fields):
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta, **fields}


def end(message_id="m"):
    return {"type": "TEXT_MESSAGE_END", "messageId": message_id}


def snapshot(value, **fields):
    return {"type": "STATE_SNAPSHOT", "snapshot": value, **fields}


def add(path, value, **fields):
    delta = [{"op": "add", "path": path, "value": value}]
    return {"type": "STATE_DELTA", "delta": delta, **fields}


# In these the reference takes apart what arrived in order: some of it goes with a tool call, and
# some with a text message that began later and ends sooner, so that a step ends before it begins.
REORDERED = (11, 105)


@pytest.mark.parametrize("number", REORDERED)
def test_what_arrived_in_between_stays_in_order(number):
    case = CASES[number]
    compacted = compact_events(case["events"])
    assert compacted != case["expect"]
    streamed = ("TEXT_MESSAGE", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "STATE")

    def others(events):
        return [event for event in events if not event["type"].startswith(streamed)]

    assert others(compacted) == others(case["events"]) != others(case["expect"])


@pytest.mark.parametrize("case", [case for n, case in enumerate(CASES) if n not in REORDERED])
def test_compacts_as_the_reference_does(case):
    before = copy.deepcopy(case["events"])
    assert compact_events(case["events"]) == case["expect"]
    assert case["events"] == before


@pytest.mark.parametrize("case", CASES)
def test_what_is_compact_stays_as_it_is_from_the_second_time_on(case):
    twice = compact_events(compact_events(case["events"]))
    assert compact_events(twice) == twice


class TestMessages:
    def test_deltas_become_one(self):
        events = [start(), content("a"), content(""), content("b"), end()]
        assert compact_events(events) == [start(), content("ab"), end()]

    def test_what_arrived_in_between_comes_after_the_end(self):
        events = [start(), content("a"), CUSTOM, content("b"), end()]
        assert compact_events(events) == [start(), content("ab"), end(), CUSTOM]

    def test_of_several_open_messages_the_first_takes_it_along(self):
        events = [start("m"), start("o"), CUSTOM, end("o"), end("m")]
        assert compact_events(events) == [start("o"), end("o"), start("m"), end("m"), CUSTOM]

    def test_a_tool_call_takes_it_along_if_no_text_message_is_open(self):
        call = {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"}
        assert compact_events([call, CUSTOM]) == [call, CUSTOM]
        assert compact_events([call, start(), CUSTOM]) == [start(), CUSTOM, call]
        closed = {"type": "TOOL_CALL_END", "toolCallId": "c"}
        assert compact_events([call, closed, CUSTOM]) == [call, closed, CUSTOM]

    def test_one_takes_it_along_until_it_ends(self):
        call = {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"}
        closed = {"type": "TOOL_CALL_END", "toolCallId": "c"}
        first, second = {**CUSTOM, "value": 1}, {**CUSTOM, "value": 2}
        events = [call, first, start(), second, end(), closed]
        assert compact_events(events) == [start(), end(), call, closed, first, second]

    def test_the_first_means_heard_of_first_even_if_it_started_later(self):
        events = [content("x", "o"), start("m"), start("o"), CUSTOM]
        assert compact_events(events) == [start("o"), content("x", "o"), CUSTOM, start("m")]

    def test_what_is_open_at_the_end_is_kept(self):
        args = {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{"}
        events = [snapshot({"n": 1}), args, start(), content("a"), content("b")]
        assert compact_events(events) == [start(), content("ab"), args, snapshot({"n": 1})]

    def test_metadata_of_the_deltas_is_merged(self):
        events = [content("a", metadata={"x": 1, "y": 1}), content("b", metadata={"y": 2})]
        assert compact_events(events) == [content("ab", metadata={"x": 1, "y": 2})]

    def test_a_start_sent_twice_replaces_the_first_and_their_metadata_is_merged(self):
        first = start(name="old", metadata={"x": 1, "y": 1})
        assert compact_events([first, start(name="new", metadata={"y": 2})]) == [
            start(name="new", metadata={"x": 1, "y": 2})
        ]
        assert compact_events([first, start()]) == [start(metadata={"x": 1, "y": 1})]

    def test_metadata_of_a_start_sent_after_a_delta_counts_as_later(self):
        first = start(metadata={"x": 1})
        again = start(name="new", metadata={"x": 3})
        assert compact_events([first, content("a", metadata={"x": 2}), again]) == [
            start(name="new", metadata={"x": 1}),
            content("a", metadata={"x": 3}),
        ]
        assert compact_events([start(), content("a"), again]) == [
            start(name="new"),
            content("a", metadata={"x": 3}),
        ]


class TestState:
    def test_the_state_events_of_a_run_become_one_snapshot_at_its_end(self):
        events = [STARTED, snapshot({"n": []}), CUSTOM, add("/n/-", 1), FINISHED]
        assert compact_events(events) == [STARTED, CUSTOM, snapshot({"n": [1]}), FINISHED]

    def test_their_metadata_is_merged(self):
        events = [snapshot({}, metadata={"x": 1}), add("/a", 1, metadata={"y": 2})]
        assert compact_events(events) == [snapshot({"a": 1}, metadata={"x": 1, "y": 2})]

    def test_state_carries_over_from_run_to_run(self):
        run = [STARTED, add("/a", 1), FINISHED, STARTED, add("/b", 2), FINISHED]
        assert compact_events(run) == [
            STARTED,
            snapshot({"a": 1}),
            FINISHED,
            STARTED,
            snapshot({"a": 1, "b": 2}),
            FINISHED,
        ]

    def test_the_state_before_the_first_event_can_be_given(self):
        initial = {"a": []}
        assert compact_events([add("/a/-", 1)], state=initial) == [snapshot({"a": [1]})]
        assert initial == {"a": []}

    def test_a_delta_that_does_not_apply_is_kept_in_its_place(self):
        bad = add("/x/y/z", 1)
        compactor = Compactor()
        for event in (STARTED, bad, snapshot({"n": 1}), add("/m", 2), bad, add("/o", 3), FINISHED):
            compactor.feed(event)
        assert compactor.skipped == 2
        assert compactor.finish() == [
            STARTED,
            bad,
            snapshot({"n": 1, "m": 2}),
            bad,
            snapshot({"n": 1, "m": 2, "o": 3}),
            FINISHED,
        ]

    def test_a_delta_that_fails_halfway_changes_nothing(self):
        half = {
            "type": "STATE_DELTA",
            "delta": [
                {"op": "add", "path": "/a", "value": 1},
                {"op": "remove", "path": "/no"},
            ],
        }
        assert compact_events([half, add("/b", 2)]) == [half, snapshot({"b": 2})]

    def test_the_state_so_far_can_be_read_to_start_the_next_one_with(self):
        compactor = Compactor()
        assert compactor.state is None
        compactor.feed(add("/a", [1]))
        seen = compactor.state
        compactor.feed(add("/a/-", 2))
        assert (seen, compactor.state) == ({"a": [1]}, {"a": [1, 2]})

    def test_a_snapshot_that_was_handed_out_is_not_changed_later(self):
        compactor = Compactor()
        for event in (add("/a", []), FINISHED, add("/a/-", 1), FINISHED):
            compactor.feed(event)
        assert compactor.finish() == [snapshot({"a": []}), FINISHED, snapshot({"a": [1]}), FINISHED]


def test_many_deltas_are_joined_once():
    delta = content("x")
    compactor = Compactor()
    compactor.feed(start())
    for _ in range(100_000):
        compactor.feed(delta)
    assert compactor.finish() == [start(), content("x" * 100_000)]


def test_many_open_messages_do_not_slow_each_other_down():
    compactor = Compactor()
    for number in range(5_000):
        compactor.feed(content("x", f"unstarted{number}"))
    for number in range(5_000):
        compactor.feed(start(f"m{number}"))
    for number in range(5_000):
        compactor.feed(CUSTOM)
        compactor.feed(end(f"m{number}"))
    assert len(compactor.finish()) == 20_000


def test_what_a_stream_folds_to_survives():
    events = [add("/a", 1), FINISHED, add("/a/b", 1), add("/c", 1), snapshot(None), add("/d", 1)]
    assert fold_state(compact_events(events)) == fold_state(events) is None
