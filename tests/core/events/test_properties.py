"""Properties of any stream that the verifier accepts."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.streams import STARTED, chunks, in_between, streams

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


@given(streams)
def test_compaction_changes_neither_the_state_nor_the_conversation(stream: Any) -> None:
    compacted = compact_events(stream)
    assert fold_state(compacted) == fold_state(stream)
    assert fold_messages(compacted) == fold_messages(stream)


def whole(stream: Any) -> Any:
    """``stream``, and the end of all that it left open."""
    verifier = Verifier()
    for event in stream:
        verifier.feed(event)
    ended = stream[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR")
    return stream if ended else [*stream, *verifier.closers()]


@given(streams.map(whole))
def test_compaction_of_compact_events_changes_nothing(stream: Any) -> None:
    once = compact_events(stream)
    assert compact_events(once) == once
    verify_events(once)


@given(streams)
def test_compaction_of_a_cut_stream_is_done_after_the_second_time(
    stream: Any,
) -> None:
    twice = compact_events(compact_events(stream))
    assert compact_events(twice) == twice
    assert len(twice) <= len(stream)


@given(streams)
def test_a_stream_that_was_cut_off_is_well_formed_once_it_is_finalized(stream: Any) -> None:
    appended = finalize_events(stream)
    verify_events(stream + appended)
    assert finalize_events(stream + appended) == []


@given(streams, st.booleans())
def test_no_machine_changes_what_it_is_given(stream: Any, stop: Any) -> None:
    before = copy.deepcopy(stream)
    verify_events(stream)
    expand_chunks(stream)
    finalize_events(stream, stop_requested=stop)
    compact_events(stream)
    fold_messages(stream)
    fold_state(stream)
    assert stream == before


@given(st.lists(chunks | in_between, max_size=30))
def test_events_that_chunks_expand_to_are_in_order(events: Any) -> None:
    expander = ChunkExpander()
    expanded: list[dict[str, Any]] = []
    with contextlib.suppress(EventError):
        for event in events:
            expanded.extend(expander.feed(event))
    parts = [e for e in expanded if e["type"].startswith(("TEXT_MESSAGE", "TOOL_CALL"))]
    verify_events([STARTED, *parts])
