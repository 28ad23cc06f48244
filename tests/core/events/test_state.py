"""The shared state after snapshots and JSON Patches."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.events import StateFolder, fold_state
from sansio_copilot.events.json_values import copy_json, merge_metadata


def snapshot(value: Any) -> Any:
    return {"type": "STATE_SNAPSHOT", "snapshot": value}


def delta(*operations: Any) -> Any:
    return {"type": "STATE_DELTA", "delta": list(operations)}


def add(path: Any, value: Any) -> Any:
    return {"op": "add", "path": path, "value": value}


def test_a_snapshot_replaces_and_a_delta_patches() -> None:
    assert fold_state([snapshot({"n": 1}), snapshot({"list": []}), delta(add("/list/-", 2))]) == {
        "list": [2]
    }


def test_a_stream_without_a_state_event_has_no_state() -> None:
    assert fold_state([]) is None
    assert fold_state([{"type": "RUN_STARTED"}, {"type": "CUSTOM"}]) is None


def test_a_delta_without_a_snapshot_patches_an_empty_object() -> None:
    assert fold_state([delta(add("/a", 1))]) == {"a": 1}
    assert fold_state([delta()]) == {}


def test_a_snapshot_of_null_is_a_state_that_nothing_can_be_added_to() -> None:
    assert fold_state([snapshot(None), delta(add("/a", 1))]) is None
    assert fold_state([snapshot(None), delta(add("", {"a": 1}))]) == {"a": 1}


def test_a_delta_that_does_not_apply_is_skipped_as_a_whole() -> None:
    folder = StateFolder({"a": 1})
    assert folder.feed(delta(add("/b", 2), add("/c/d", 3))) is False
    assert folder.state == {"a": 1}
    assert folder.feed(delta(add("/b", 2))) is True
    assert folder.state == {"a": 1, "b": 2}


def test_the_state_shares_nothing_with_the_events() -> None:
    value: dict[str, Any] = {"list": []}
    item = {"deep": [1]}
    events = [snapshot(value), delta(add("/list/-", item)), delta(add("/list/0/deep/-", 2))]
    before = copy.deepcopy(events)
    folder = StateFolder()
    for event in events:
        folder.feed(event)
    assert events == before
    item["deep"].clear()
    value["list"].clear()
    assert folder.state == {"list": [{"deep": [1, 2]}]}


def test_the_initial_state_is_not_changed() -> None:
    initial: dict[str, Any] = {"a": []}
    folder = StateFolder(initial)
    folder.feed(delta(add("/a/-", 1)))
    assert initial == {"a": []}


def test_a_state_that_was_read_does_not_change_under_its_reader() -> None:
    folder = StateFolder({"a": []})
    seen = folder.state
    folder.feed(delta(add("/a/-", 1)))
    folder.feed(delta(add("/a/-", 2)))
    assert seen == {"a": []}
    assert folder.state == {"a": [1, 2]}


def test_a_delta_costs_the_same_however_large_the_state_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = {"list": list(range(1000)), "n": 0}
    folder = StateFolder(big)
    copied: list[object] = []
    monkeypatch.setattr("sansio_copilot.events.state.copy_json", copied.append)
    folder.feed(delta(add("/list/-", 1), {"op": "replace", "path": "/n", "value": 1}))
    assert not copied
    assert folder.state == {"list": [*range(1000), 1], "n": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
)


@given(json_values)
def test_a_copy_is_equal_and_shares_nothing(value: Any) -> None:
    copied = copy_json(value)
    assert copied == value

    def containers(value: Any) -> Any:
        if isinstance(value, dict | list):
            yield id(value)
            for item in value.values() if isinstance(value, dict) else value:
                yield from containers(item)

    assert not set(containers(copied)) & set(containers(value))


def test_a_copy_of_a_value_that_is_not_plain_json_is_deep_too() -> None:
    inner = [1]
    copied = copy_json({"tuple": (inner,)})
    inner.append(2)
    assert copied == {"tuple": ([1],)}


def test_metadata_is_merged_by_key_and_values_are_replaced_whole() -> None:
    older, newer = {"a": {"x": 1}, "b": 1}, {"a": {"y": 2}}
    assert merge_metadata(older, newer) == {"a": {"y": 2}, "b": 1}
    assert older == {"a": {"x": 1}, "b": 1}
    assert merge_metadata(None, None) is None
    assert merge_metadata(older, None) == older
    assert merge_metadata(None, newer) == newer
