"""What holds of any stream that the verifier accepts."""

from __future__ import annotations

import contextlib
import copy

from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.events import (
    ChunkExpander,
    EventError,
    Verifier,
    compact_events,
    expand_chunks,
    finalize_events,
    fold_messages,
    fold_state,
    verify_events,
)

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}

deltas = st.text("ab😀", max_size=2)
metadata = st.just({}) | st.builds(
    lambda key, value: {"metadata": {key: value}}, st.sampled_from("kl"), st.integers(0, 3)
)
patches = st.lists(
    st.sampled_from(
        [
            {"op": "add", "path": "/list", "value": []},
            {"op": "add", "path": "/list/-", "value": {"k": 1}},
            {"op": "replace", "path": "/list/0/k", "value": 2},
            {"op": "remove", "path": "/list/0"},
            {"op": "copy", "from": "/list", "path": "/copy"},
            {"op": "move", "from": "/copy", "path": "/moved"},
            {"op": "test", "path": "/list", "value": []},
            {"op": "add", "path": "/no/such/place", "value": 1},
        ]
    ),
    max_size=3,
)


def events_of(type_, **fields):
    return st.builds(
        lambda fields, more: {"type": type_, **fields, **more},
        st.fixed_dictionaries(fields),
        metadata,
    )


def ids(*names):
    return st.sampled_from(names)


messages, calls, thoughts, plans = ids("m1", "m2"), ids("c1", "c2"), ids("z1"), ids("a1")
in_between = st.one_of(
    events_of("CUSTOM", name=st.just("n"), value=st.integers(0, 3)),
    events_of("STEP_STARTED", stepName=ids("plan")),
    events_of("STEP_FINISHED", stepName=ids("plan")),
    events_of("STATE_SNAPSHOT", snapshot=st.just({"list": [{}]})),
    events_of("STATE_DELTA", delta=patches),
    events_of(
        "ACTIVITY_SNAPSHOT", messageId=plans, activityType=ids("x"), content=st.just({"list": []})
    ),
    events_of("ACTIVITY_DELTA", messageId=plans, activityType=ids("x", "y"), patch=patches),
    events_of("TOOL_CALL_RESULT", messageId=ids("r1", "r2"), toolCallId=calls, content=deltas),
    events_of("REASONING_MESSAGE_START", messageId=thoughts, role=st.just("reasoning")),
    events_of("REASONING_MESSAGE_CONTENT", messageId=thoughts, delta=deltas),
    events_of("REASONING_MESSAGE_END", messageId=thoughts),
    st.just({"type": "RUN_FINISHED"}),
    st.just(STARTED),
)
streamed = st.one_of(
    events_of("TEXT_MESSAGE_START", messageId=messages, role=ids("assistant", "user")),
    events_of("TEXT_MESSAGE_CONTENT", messageId=messages, delta=deltas),
    events_of("TEXT_MESSAGE_END", messageId=messages),
    events_of("TOOL_CALL_START", toolCallId=calls, toolCallName=ids("f", "g")),
    events_of("TOOL_CALL_ARGS", toolCallId=calls, delta=deltas),
    events_of("TOOL_CALL_END", toolCallId=calls),
)
chunks = st.one_of(
    events_of("TEXT_MESSAGE_CHUNK", messageId=messages, delta=deltas),
    events_of("TEXT_MESSAGE_CHUNK", delta=deltas),
    events_of("TOOL_CALL_CHUNK", toolCallId=calls, toolCallName=ids("f"), delta=deltas),
    events_of("REASONING_MESSAGE_CHUNK", messageId=thoughts, delta=deltas),
)


def accepted(events):
    """Those of ``events`` that the verifier lets through, one after the other, in a run."""
    verifier, out = Verifier(), []
    for event in [STARTED, *events]:
        with contextlib.suppress(EventError):
            verifier.feed(event)
            out.append(event)
    return out


def one_at_a_time(events):
    """``events`` without the start of what would overlap another message or tool call."""
    open_id, out = None, []
    for event in events:
        type_, _, what = event["type"].rpartition("_")
        if type_ in ("TEXT_MESSAGE", "TOOL_CALL") and what != "RESULT":
            entity = event.get("messageId", event.get("toolCallId"))
            if what == "START" and open_id is None:
                open_id = entity
            elif open_id != entity:
                continue
            if what == "END":
                open_id = None
        out.append(event)
    return out


streams = st.lists(streamed | in_between, max_size=40).map(accepted)


def by_id(messages):
    return sorted(messages, key=lambda message: message["id"])


@given(streams)
def test_compaction_does_not_change_the_state(stream):
    assert fold_state(compact_events(stream)) == fold_state(stream)


@given(streams.map(one_at_a_time).map(accepted))
def test_compaction_does_not_change_the_conversation(stream):
    assert fold_messages(compact_events(stream)) == fold_messages(stream)


@given(st.lists(streamed, max_size=40).map(accepted))
def test_compaction_changes_at_most_the_order_of_messages_that_overlap(stream):
    assert by_id(fold_messages(compact_events(stream))) == by_id(fold_messages(stream))


def whole(stream):
    """``stream``, and the end of all that it left open."""
    verifier = Verifier()
    for event in stream:
        verifier.feed(event)
    return stream if stream[-1]["type"] == "RUN_FINISHED" else [*stream, *verifier.closers()]


@given(streams.map(whole))
def test_compacting_what_is_compact_changes_nothing(stream):
    once = compact_events(stream)
    assert compact_events(once) == once
    verify_events(once)


@given(streams)
def test_if_the_stream_was_cut_off_only_the_first_time_may_leave_something_to_do(stream):
    twice = compact_events(compact_events(stream))
    assert compact_events(twice) == twice
    assert len(twice) <= len(stream)


@given(streams)
def test_a_stream_that_was_cut_off_is_well_formed_once_it_is_finalized(stream):
    appended = finalize_events(stream)
    verify_events(stream + appended)
    assert finalize_events(stream + appended) == []


@given(streams, st.booleans())
def test_no_machine_changes_what_it_is_given(stream, stop):
    before = copy.deepcopy(stream)
    verify_events(stream)
    expand_chunks(stream)
    finalize_events(stream, stop_requested=stop)
    compact_events(stream)
    fold_messages(stream)
    fold_state(stream)
    assert stream == before


@given(st.lists(chunks | in_between, max_size=30))
def test_what_chunks_expand_to_is_in_order(events):
    expander, expanded = ChunkExpander(), []
    with contextlib.suppress(EventError):
        for event in events:
            expanded.extend(expander.feed(event))
    parts = [e for e in expanded if e["type"].startswith(("TEXT_MESSAGE", "TOOL_CALL"))]
    verify_events([STARTED, *parts])
