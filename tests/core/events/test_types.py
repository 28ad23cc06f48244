"""Which events have the shape that their type needs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot import events
from sansio_copilot.events import KNOWN_TYPES, EventError, check_event
from sansio_copilot.events.types import REQUIRED_FIELDS

VECTORS = Path(__file__).parents[2] / "vectors"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=5,
)


def well_formed(type_):
    """The smallest event of a type."""
    event = {"type": type_, **dict.fromkeys(REQUIRED_FIELDS[type_], "x")}
    if type_ == "MESSAGES_SNAPSHOT":
        event["messages"] = [{"id": "m", "role": "user"}]
    if type_ == "ACTIVITY_SNAPSHOT":
        event["content"] = {}
    return event


@pytest.mark.parametrize("type_", sorted(KNOWN_TYPES))
def test_required_fields_are_enough(type_):
    assert check_event(well_formed(type_)) is True
    assert check_event({**well_formed(type_), "timestamp": 1, "extra": object()}) is True


@pytest.mark.parametrize(
    ("type_", "field"),
    [(type_, name) for type_, names in REQUIRED_FIELDS.items() for name in names],
)
def test_each_required_field_is_needed_and_a_string(type_, field):
    event = well_formed(type_)
    with pytest.raises(EventError) as caught:
        check_event({**event, field: 1})
    assert str(caught.value) == f"{type_} needs '{field}' to be a string, got int"
    del event[field]
    with pytest.raises(EventError) as caught:
        check_event(event)
    assert str(caught.value) == f"{type_} needs '{field}' to be a string, but it is missing"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (["RUN_STARTED"], "an event needs to be a dict, got list"),
        ({}, "an event needs 'type' to be a string, but it is missing"),
        ({"type": None}, "an event needs 'type' to be a string, got NoneType"),
        (
            {"type": "TEXT_MESSAGE_CHUNK", "delta": 1},
            "TEXT_MESSAGE_CHUNK needs 'delta' to be a string, got int",
        ),
        (
            {"type": "RUN_ERROR", "message": "no", "metadata": []},
            "RUN_ERROR needs 'metadata' to be a dict, got list",
        ),
        ({"type": "RAW", "subagentRunId": 1}, "RAW needs 'subagentRunId' to be a string, got int"),
        (
            {"type": "ACTIVITY_SNAPSHOT", "messageId": "a", "activityType": "b"},
            "ACTIVITY_SNAPSHOT needs 'content' to be a dict, but it is missing",
        ),
        (
            {"type": "MESSAGES_SNAPSHOT"},
            "MESSAGES_SNAPSHOT needs 'messages' to be a list, but it is missing",
        ),
        (
            {"type": "MESSAGES_SNAPSHOT", "messages": ["hi"]},
            "MESSAGES_SNAPSHOT needs each message to be a dict, got str",
        ),
        (
            {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m"}]},
            "MESSAGES_SNAPSHOT: a message needs 'role' to be a string, but it is missing",
        ),
    ],
)
def test_the_error_says_what_is_wrong_and_what_was_expected(event, message):
    with pytest.raises(EventError) as caught:
        check_event(event)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_an_unknown_type_is_no_error_but_to_be_dropped():
    assert check_event({"type": "FROM_THE_FUTURE"}) is False


def test_null_reads_as_absent_in_optional_fields():
    assert check_event({**well_formed("TOOL_CALL_START"), "parentMessageId": None})
    assert check_event({"type": "TEXT_MESSAGE_CHUNK", "messageId": None, "metadata": None})


def test_a_delta_that_is_no_patch_is_well_formed():
    assert check_event({"type": "STATE_DELTA", "delta": "nonsense"})


def test_the_runtime_may_finish_a_run_without_naming_it():
    assert check_event({"type": "RUN_FINISHED"})


@pytest.mark.parametrize("name", ["compact", "finalize", "runs"])
def test_every_event_of_the_vectors_is_well_formed(name):
    for case in json.loads((VECTORS / f"{name}.json").read_text())["cases"]:
        assert all(check_event(event) for event in case["events"])


FIELDS = sorted(
    {name for names in REQUIRED_FIELDS.values() for name in names}
    | {"parentMessageId", "parentSubagentRunId", "subagentRunId", "metadata", "messages", "content"}
    | {"input", "outcome", "patch", "snapshot", "replace", "role"}
)


@given(
    st.lists(
        st.builds(
            lambda type_, fields: {**well_formed(type_), **fields},
            st.sampled_from(sorted(KNOWN_TYPES)),
            st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
        ),
        max_size=8,
    )
)
def test_what_passes_never_breaks_a_machine(stream):
    checked = []
    for event in stream:
        try:
            check_event(event)
        except EventError:
            continue
        checked.append(event)
    for function in (events.expand_chunks, events.verify_events):
        with contextlib.suppress(EventError):
            function(checked)
    events.finalize_events(checked)
    events.fold_messages(checked)
    events.fold_state(checked)
    events.compact_events(checked)
