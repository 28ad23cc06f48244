"""A replay sends less than everything that happened."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sansio_copilot.events import Compactor, compact_events, fold_messages, fold_state
from sansio_copilot.events.patch import PatchBudget
from sansio_copilot.events.replay_order import arrange

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "compact.json").read_text())["cases"]

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
CUSTOM = {"type": "CUSTOM", "name": "n", "value": 1}


def start(message_id: Any = "m", **fields: Any) -> Any:
    return {"type": "TEXT_MESSAGE_START", "messageId": message_id, **fields}


def content(delta: Any, message_id: Any = "m", **fields: Any) -> Any:
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta, **fields}


def end(message_id: Any = "m") -> Any:
    return {"type": "TEXT_MESSAGE_END", "messageId": message_id}


def snapshot(value: Any, **fields: Any) -> Any:
    return {"type": "STATE_SNAPSHOT", "snapshot": value, **fields}


def add(path: Any, value: Any, **fields: Any) -> Any:
    delta = [{"op": "add", "path": path, "value": value}]
    return {"type": "STATE_DELTA", "delta": delta, **fields}


# The reference puts each message and each call at its end. In these that folds to something else
# than what was live.
OVERLAP = "what overlaps changes places: messages, or calls of a message"
CARRIER = "a call and the text of its message overlap: another event makes the message"
EARLY = "a delta whose message or call is not there yet, or no more, has an effect on replay"
LIVE_FOLDS_TO_SOMETHING_ELSE = {
    **dict.fromkeys((21, 136, 142), OVERLAP),
    **dict.fromkeys((11, 31, 94, 105), CARRIER),
    **dict.fromkeys((2, 3, 8, 22, 44, 50, 51, 59, 72, 87, 90, 97, 101, 108, 127, 147), EARLY),
}


@pytest.mark.parametrize("number", LIVE_FOLDS_TO_SOMETHING_ELSE)
def test_a_reload_shows_the_conversation_that_was_live(number: Any) -> None:
    events, reference = CASES[number]["events"], CASES[number]["expect"]
    compacted = compact_events(events)
    assert fold_messages(compacted) == fold_messages(events) != fold_messages(reference)
    assert fold_state(compacted) == fold_state(events)
    others = ("CUSTOM", "RAW", "STEP", "TOOL_CALL_RESULT", "REASONING", "ACTIVITY", "RUN")
    assert [event for event in compacted if event["type"].startswith(others)] == [
        event for event in events if event["type"].startswith(others)
    ]


@pytest.mark.untraced
@pytest.mark.parametrize(
    "case", [case for n, case in enumerate(CASES) if n not in LIVE_FOLDS_TO_SOMETHING_ELSE]
)
def test_events_are_compacted_as_the_reference_does(case: Any) -> None:
    before = copy.deepcopy(case["events"])
    assert compact_events(case["events"]) == case["expect"]
    assert case["events"] == before


@pytest.mark.untraced
@pytest.mark.parametrize("case", CASES)
def test_compact_events_stay_as_they_are_from_the_second_time_on(case: Any) -> None:
    twice = compact_events(compact_events(case["events"]))
    assert compact_events(twice) == twice


class TestMessages:
    def test_deltas_become_one(self) -> None:
        events = [start(), content("a"), content(""), content("b"), end()]
        assert compact_events(events) == [start(), content("ab"), end()]

    def test_events_between_the_deltas_come_after_the_end(self) -> None:
        events = [start(), content("a"), CUSTOM, content("b"), end()]
        assert compact_events(events) == [start(), content("ab"), end(), CUSTOM]

    def test_the_first_of_several_open_messages_takes_events_along(self) -> None:
        # The place of the event in between is all that changes.
        events = [start("m"), start("o"), CUSTOM, end("m"), end("o")]
        assert compact_events(events) == [start("m"), end("m"), CUSTOM, start("o"), end("o")]

    def test_messages_that_overlap_stay_in_their_order(self) -> None:
        events = [start("m"), start("o"), CUSTOM, content("b", "o"), content("a"), end("o"), end()]
        assert compact_events(events) == events
        call = {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"}
        closed = {"type": "TOOL_CALL_END", "toolCallId": "c"}
        first, second = {**CUSTOM, "value": 1}, {**CUSTOM, "value": 2}
        events = [call, first, start(), second, end(), closed]
        assert compact_events(events) == events

    def test_deltas_of_overlapping_messages_become_one_each(self) -> None:
        events = [start("m"), start("o")]
        for delta in "abc":
            events += [content(delta, "o"), content(delta.upper(), "m")]
        assert compact_events([*events, end("o"), end("m")]) == [
            start("m"),
            start("o"),
            content("abc", "o"),
            content("ABC", "m"),
            end("o"),
            end("m"),
        ]

    def test_events_without_effect_on_messages_stay_in_their_order(self) -> None:
        # The reference makes of these events a step that ends before it begins.
        call = {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"}
        closed = {"type": "TOOL_CALL_END", "toolCallId": "c"}
        step = [{"type": f"STEP_{what}", "stepName": "s"} for what in ("STARTED", "FINISHED")]
        call["parentMessageId"] = "m"
        events = [call, step[0], start(), content("a"), step[1], end(), closed]
        assert fold_messages(arrange(events)) == fold_messages(events)
        assert compact_events(events) == events

    def test_a_snapshot_in_the_middle_of_a_message_stays_there(self) -> None:
        def messages(*messages: Any) -> Any:
            return {"type": "MESSAGES_SNAPSHOT", "messages": list(messages)}

        so_far = {"id": "m", "role": "assistant", "content": "one "}
        events = [start(), content("on"), content("e "), messages(so_far)]
        events += [content("t"), content("wo"), end()]
        compacted = compact_events(events)
        assert compacted == [
            start(),
            content("one "),
            messages(so_far),
            content("two"),
            end(),
        ]
        assert fold_messages(compacted) == [{**so_far, "content": "one two"}]

    def test_a_message_of_two_kinds_keeps_the_order_of_its_pieces(self) -> None:
        thought = {"type": "REASONING_MESSAGE_CONTENT", "messageId": "m", "delta": "b"}
        events = [start(), content("a"), thought, content("c"), end()]
        assert compact_events(events) == events

    def test_a_delta_whose_message_a_call_makes_later_has_no_effect(self) -> None:
        call = {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "f"}
        for event in ({**call, "parentMessageId": "m"}, {**call, "toolCallId": "m"}):
            assert compact_events([content("a"), event, content("b")])[-1] == content("b")

    def test_the_conversation_before_the_run_counts(self) -> None:
        events = [start("m"), start("o"), end("o"), end("m")]
        before = [{"id": name, "role": "assistant", "content": ""} for name in "mo"]
        assert compact_events(events) == events
        assert compact_events(events, messages=before) == [*events[1:3], events[0], events[3]]

    def test_a_message_that_is_open_at_the_end_is_kept(self) -> None:
        args = {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{"}
        events = [snapshot({"n": 1}), args, start(), content("a"), content("b")]
        assert compact_events(events) == [start(), content("ab"), args, snapshot({"n": 1})]

    def test_metadata_of_the_deltas_is_merged(self) -> None:
        events = [content("a", metadata={"x": 1, "y": 1}), content("b", metadata={"y": 2})]
        assert compact_events(events) == [content("ab", metadata={"x": 1, "y": 2})]

    def test_a_start_sent_twice_stays_twice(self) -> None:
        # A client takes the name of the first.
        events = [start(name="old"), content("a"), start(name="new"), content("b")]
        assert compact_events(events) == events


class TestState:
    def test_the_state_events_of_a_run_become_one_snapshot_at_its_end(self) -> None:
        events = [STARTED, snapshot({"n": []}), CUSTOM, add("/n/-", 1), FINISHED]
        assert compact_events(events) == [STARTED, CUSTOM, snapshot({"n": [1]}), FINISHED]

    def test_the_metadata_of_state_events_is_merged(self) -> None:
        events = [snapshot({}, metadata={"x": 1}), add("/a", 1, metadata={"y": 2})]
        assert compact_events(events) == [snapshot({"a": 1}, metadata={"x": 1, "y": 2})]

    @pytest.mark.parametrize("nothing", [None, False, 0, ""])
    def test_a_state_that_client_0_takes_for_none_does_not_hide_the_one_before_it(
        self, nothing: object
    ) -> None:
        states = [snapshot({"a": 1}), snapshot({"a": 2}), snapshot(nothing)]
        assert compact_events(states) == states[1:]
        replaced = add("", nothing)
        assert compact_events([states[0], replaced]) == [states[0], states[2]]
        twice = [*states, snapshot(nothing)]
        assert compact_events(twice) == states[1:]
        assert compact_events([*twice, snapshot({"a": 3})]) == [snapshot({"a": 3})]
        assert compact_events([*twice, add("", {"a": 3})]) == [snapshot({"a": 3})]

    def test_only_the_last_state_before_none_is_replayed(self) -> None:
        states = [snapshot(value) for value in ({"a": 1}, None, {"b": 1}, None)]
        assert compact_events(states) == states[2:]

    @pytest.mark.parametrize("op", ["test", "move", "replace"])
    def test_a_delta_of_the_whole_state_that_does_not_apply_leaves_the_state(self, op: str) -> None:
        state = snapshot({"a": 1}, metadata={"x": 1})
        wrong = {"op": op, "path": "", "from": "/no", "value": None}
        bad = {"type": "STATE_DELTA", "delta": [wrong, {"op": "remove", "path": "/no"}]}
        assert compact_events([state, bad]) == [state, bad]
        after = [state, bad, FINISHED, add("/b", 2)]
        assert compact_events(after) == after

    def test_a_harmful_delta_of_the_whole_state_leaves_the_state(self) -> None:
        state = snapshot({"a": 1})
        wrong = {"op": "move", "from": "/toString", "path": ""}
        assert compact_events([state, {"type": "STATE_DELTA", "delta": [wrong]}]) == [state]

    def test_a_state_that_is_none_for_a_moment_is_made_of_the_one_before_it(self) -> None:
        """The last delta does not pay for a snapshot, and needs the state that it is about."""
        size = 20_000
        large = snapshot({"a": "x" * size, "b": "y" * size})
        moved = {"type": "STATE_DELTA", "delta": [{"op": "move", "from": "/a", "path": ""}]}
        taken = {"type": "STATE_DELTA", "delta": [{"op": "move", "from": "/b", "path": ""}]}
        for last in (moved, taken):
            events = [large, CUSTOM, last]
            assert fold_state(compact_events(events)) == fold_state(events)

    @pytest.mark.parametrize("empty", [{}, []])
    def test_an_empty_state_is_a_state(self, empty: object) -> None:
        assert compact_events([snapshot({"a": 1}), snapshot(empty)]) == [snapshot(empty)]

    def test_state_carries_over_from_run_to_run(self) -> None:
        run = [STARTED, add("/a", 1), FINISHED, STARTED, add("/b", 2), FINISHED]
        assert compact_events(run) == [
            STARTED,
            snapshot({"a": 1}),
            FINISHED,
            STARTED,
            snapshot({"a": 1, "b": 2}),
            FINISHED,
        ]

    def test_the_state_before_the_first_event_can_be_given(self) -> None:
        initial: dict[str, Any] = {"a": []}
        assert compact_events([add("/a/-", 1)], state=initial) == [snapshot({"a": [1]})]
        assert initial == {"a": []}

    def test_a_delta_that_does_not_apply_is_kept_in_its_place(self) -> None:
        bad = add("/x/y/z", 1)
        compactor = Compactor()
        for event in (STARTED, bad, snapshot({"n": 1}), add("/m", 2), bad, FINISHED):
            compactor.feed(event)
        assert compactor.skipped == 2
        kept = [STARTED, bad, snapshot({"n": 1, "m": 2}), bad, FINISHED]
        assert compactor.finish() == kept

    def test_deltas_behind_one_that_does_not_apply_are_kept_up_to_a_snapshot(self) -> None:
        """Clients may have applied it, and have another state."""
        bad = add("/n/", 1)
        kept = [snapshot({"n": []}), bad, add("/o", 2), bad, FINISHED, add("/p", 3)]
        compactor = Compactor()
        for event in (*kept, snapshot({"q": 4}), CUSTOM, add("/r", 5)):
            compactor.feed(event)
        assert compactor.state == {"q": 4, "r": 5}
        assert compactor.finish() == [*kept, CUSTOM, snapshot({"q": 4, "r": 5})]

    def test_deltas_behind_one_that_makes_too_much_are_kept(self) -> None:
        """Clients have no such bound."""
        large = {
            "type": "STATE_DELTA",
            "delta": [{"op": "copy", "from": "/a", "path": "/b"}],
        }
        events = [snapshot({"a": "x" * 100}), large, add("/b/c", 1), add("/d", 1)]
        compactor = Compactor(None, PatchBudget(50))
        for event in events:
            compactor.feed(event)
        assert compactor.finish() == events

    def test_deltas_that_are_kept_begin_with_the_state_before_the_first_event(self) -> None:
        """A replay may have another one, because a client may send what no event has said."""
        bad, good, first = add("/x/y/z", 1), add("/a", 1), snapshot({"b": 2})
        events = [bad, bad, good, good]
        assert compact_events(events, state={"b": 2}) == [first, *events]
        assert compact_events([first, *events], state={"c": 3}) == [first, *events]
        assert compact_events([bad, first, good], state={}) == [
            *(snapshot({}), bad),
            snapshot({"b": 2, "a": 1}),
        ]
        assert compact_events(events) == events

    def test_one_delta_stands_for_those_of_a_state_that_may_be_null(self) -> None:
        """A snapshot would make an object of it, and the deltas of a long run are many."""
        compactor = Compactor(knows_state=False)
        gone = {"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "/gone"}]}
        moved = {"op": "move", "from": "/old", "path": "/list/-"}
        events = [add("/a", 0), add("/gone", 1), gone, add("/x~1y", {}), add("/x~1y/~0", 2)]
        events += [add("/list", []), add("/old", 3), {"type": "STATE_DELTA", "delta": [moved]}]
        for event in (*events, *[add("/a", number) for number in range(10_000)]):
            compactor.feed(event)
        bad = add("/no/such", 1)
        compactor.feed({**bad, "metadata": {"k": 1}})
        patch = [
            {"op": "add", "path": "/a", "value": 9_999},
            {"op": "add", "path": "/gone", "value": None},
            {"op": "remove", "path": "/gone"},
            {"op": "add", "path": "/x~1y", "value": {"~": 2}},
            {"op": "add", "path": "/list", "value": [3]},
            {"op": "add", "path": "/old", "value": None},
            {"op": "remove", "path": "/old"},
        ]
        one = {"type": "STATE_DELTA", "delta": patch}
        assert compactor.finish() == [one, {**bad, "metadata": {"k": 1}}]
        assert (compactor.state, compactor.has_state) == (fold_state([one]), True)

    def test_each_run_of_a_state_that_may_be_null_has_the_members_that_it_changed(self) -> None:
        compactor = Compactor(knows_state=False)
        said = {**add("/b", 2), "metadata": {"k": 1}}
        for event in (add("/a", 1), add("/a", 2), FINISHED, STARTED, add("/b", 1), said, FINISHED):
            compactor.feed(event)
        assert compactor.finish() == [add("/a", 2), FINISHED, STARTED, said, FINISHED]
        for event in (add("/c", 1), snapshot({}), add("/d", 2)):
            compactor.feed(event)
        assert compactor.finish()[-1] == snapshot({"d": 2})

    @pytest.mark.parametrize(
        "whole",
        [
            {"op": "test", "path": "", "value": {"a": 1}},
            {"op": "add", "path": "", "value": {"b": 2}},
            {"op": "copy", "from": "", "path": "/b"},
        ],
        ids=lambda operation: operation["op"],
    )
    def test_deltas_of_the_whole_of_a_state_that_may_be_null_are_kept(
        self, whole: dict[str, Any]
    ) -> None:
        """One may apply to null, or to nothing else."""
        compactor = Compactor(knows_state=False)
        events = [add("/a", 1), {"type": "STATE_DELTA", "delta": [whole]}, add("/c", 1)]
        for event in events:
            compactor.feed(event)
        assert compactor.finish() == events
        for event in (snapshot({}), add("/b", 2)):
            compactor.feed(event)
        assert compactor.finish() == [*events, snapshot({"b": 2})]

    def test_a_delta_that_fails_halfway_changes_nothing(self) -> None:
        half = {
            "type": "STATE_DELTA",
            "delta": [
                {"op": "add", "path": "/a", "value": 1},
                {"op": "remove", "path": "/no"},
            ],
        }
        assert compact_events([half]) == [half]
        assert fold_state([half, add("/b", 2)]) == {"b": 2}

    def test_the_state_so_far_can_be_read_to_start_the_next_one_with(self) -> None:
        compactor = Compactor()
        assert compactor.state is None
        compactor.feed(add("/a", [1]))
        seen = compactor.state
        compactor.feed(add("/a/-", 2))
        assert (seen, compactor.state) == ({"a": [1]}, {"a": [1, 2]})  # type: ignore[comparison-overlap]

    def test_a_snapshot_that_was_handed_out_is_not_changed_later(self) -> None:
        compactor = Compactor()
        for event in (add("/a", []), FINISHED, add("/a/-", 1), FINISHED):
            compactor.feed(event)
        assert compactor.finish() == [snapshot({"a": []}), FINISHED, snapshot({"a": [1]}), FINISHED]


def test_many_deltas_are_joined_once() -> None:
    delta = content("x")
    compactor = Compactor()
    compactor.feed(start())
    for _ in range(100_000):
        compactor.feed(delta)
    assert compactor.finish() == [start(), content("x" * 100_000)]


def test_many_open_messages_do_not_slow_each_other_down() -> None:
    compactor = Compactor()
    for number in range(5_000):
        compactor.feed(content("x", f"unstarted{number}"))
    for number in range(5_000):
        compactor.feed(start(f"m{number}"))
    for number in range(5_000):
        compactor.feed(CUSTOM)
        compactor.feed(end(f"m{number}"))
    assert len(compactor.finish()) == 20_000


def test_the_conversation_of_a_stream_survives() -> None:
    events = [add("/a", 1), FINISHED, add("/a/b", 1), add("/c", 1), snapshot(None), add("/d", 1)]
    assert fold_state(compact_events(events)) == fold_state(events) is None
