"""The oldest runs of a long thread are bound together, and readers see nothing of it."""

from __future__ import annotations

import pytest

from copilot_bindings.stores.compacted_frames import VOLUME_BYTES, VOLUME_RUNS
from sansio_copilot.stores.protocol import Batch, LogGone, RunKey
from sansio_copilot.testing.stores import Driven
from sansio_copilot.testing.stores.driven import frame, result_of

from .places import Place

THREAD = "t"
RUNS = 2 * VOLUME_RUNS + 3
PLENTY = 1 << 20


def fill(store: Driven, count: int, size: int = 0) -> list[tuple[RunKey, bytes]]:
    """Return so many ended runs, each with the frames that a replay sends of it."""
    runs = []
    for number in range(count):
        data = (f"{number}a", f"{number}b" + "x" * size)
        key = store.ended(THREAD, *data)
        runs.append((key, result_of(key, *data).frames))
    return runs


def replay_of(runs: list[tuple[RunKey, bytes]]) -> bytes:
    return b"".join([frames for _, frames in runs])


def test_a_long_thread_has_few_parts_and_is_replayed_whole(place: Place) -> None:
    store = place.new()
    runs = fill(store, RUNS)
    cursor = store.open_cursor(THREAD, None, None)
    assert len(cursor.parts) == 2 + RUNS - 2 * VOLUME_RUNS
    for size in (37, 4096, PLENTY):
        assert store.rest(cursor, size) == (replay_of(runs), True)
    assert store.history(THREAD, "frames") == replay_of(runs)


def test_a_reader_resumes_behind_each_run_of_a_volume(place: Place) -> None:
    store = place.new(resumable_runs=RUNS)
    runs = fill(store, VOLUME_RUNS + 2)
    for index in (0, 1, VOLUME_RUNS - 1, VOLUME_RUNS, VOLUME_RUNS + 1):
        key = runs[index][0]
        rest = replay_of(runs[index + 1 :])
        second = f"{index}b"
        assert store.replay(THREAD, f"{key.token}.c0") == frame(key, "c1", second) + rest
        assert store.replay(THREAD, f"{key.token}.c1") == rest
        assert store.replay(THREAD, f"{key.token}.0") == frame(key, 1, second) + rest
        assert store.replay(THREAD, f"{key.token}.1") == rest
        assert store.replay(THREAD, f"{key.token}.c9") == replay_of(runs)


@pytest.mark.parametrize("size", [37, 100, PLENTY])
def test_a_volume_that_is_bound_while_it_is_read_is_read_to_its_end(
    place: Place, size: int
) -> None:
    store = place.new()
    runs = fill(store, VOLUME_RUNS // 2)
    live = store.opened(THREAD, "live").key
    cursor = store.open_cursor(THREAD, None, None)
    begun = store.read(cursor, 50)
    store.append(live, 0, frame(live, 0))
    store.close_run(live, len(frame(live, 0)), frame(live, 1), result_of(live, "1"))
    fill(store, VOLUME_RUNS)
    rest = store.rest(begun.cursor, size)
    assert rest == ((replay_of(runs) + frame(live, 0) + frame(live, 1))[50:], True)


def test_a_long_run_that_is_bound_while_it_is_read_is_read_to_its_end(place: Place) -> None:
    store = place.new()
    runs = fill(store, 2, 2 * VOLUME_BYTES)
    cursor = store.open_cursor(THREAD, None, None)
    begun = store.read(cursor, 50)
    fill(store, VOLUME_RUNS)
    assert store.open_cursor(THREAD, None, None).parts[0] != cursor.parts[0]
    for size in (10_007, PLENTY):
        assert store.rest(begun.cursor, size) == (replay_of(runs)[50:], True)


def test_runs_are_not_bound_across_one_that_is_open(place: Place) -> None:
    store = place.new()
    store.store.close()
    store = Driven(place.make(on_concurrent_run="supersede"), lambda awaitable: awaitable)
    place.opened.append(store.store)
    old = store.opened(THREAD, "old").key
    runs = fill(store, VOLUME_RUNS + 1)
    store.close_run(old, 0, frame(old, 0), result_of(old, "late"))
    first = result_of(old, "late").frames
    assert store.replay(THREAD) == first + replay_of(runs)
    runs += fill(store, 1)
    assert len(store.open_cursor(THREAD, None, None).parts) < VOLUME_RUNS
    assert store.replay(THREAD) == first + replay_of(runs)


def test_long_runs_are_volumes_of_their_own(place: Place) -> None:
    store = place.new()
    runs = fill(store, 2, VOLUME_BYTES + 5) + fill(store, VOLUME_RUNS, 10)
    for size in (VOLUME_BYTES // 2, VOLUME_BYTES, PLENTY):
        assert store.rest(store.open_cursor(THREAD, None, None), size) == (replay_of(runs), True)
    key = runs[1][0]
    rest = frame(key, "c1", "1b" + "x" * (VOLUME_BYTES + 5)) + replay_of(runs[2:])
    assert store.replay(THREAD, f"{key.token}.c0") == rest


def test_a_bound_that_comes_later_drops_volumes_and_then_runs(place: Place) -> None:
    runs = fill(place.new(), VOLUME_RUNS + 10)
    bounded = place.new(max_runs_per_thread=VOLUME_RUNS)
    runs += fill(bounded, 1)
    # A volume goes as a whole, when none of its runs is among those that are kept.
    assert bounded.replay(THREAD) == replay_of(runs)
    runs += fill(bounded, VOLUME_RUNS - 11)
    assert bounded.replay(THREAD) == replay_of(runs[-VOLUME_RUNS:])
    runs += fill(bounded, 2)
    assert bounded.replay(THREAD) == replay_of(runs[-VOLUME_RUNS:])


def test_a_deleted_thread_has_no_volumes_and_one_of_its_id_has_its_own(place: Place) -> None:
    store = place.new()
    fill(store, RUNS)
    cursor = store.open_cursor(THREAD, None, None)
    begun = store.read(cursor, 50)
    assert isinstance(begun, Batch)
    assert store.delete_thread(THREAD)
    assert isinstance(store.read(begun.cursor, 50), LogGone)
    assert store.replay(THREAD) == b""
    runs = fill(store, VOLUME_RUNS + 1)
    assert isinstance(store.read(cursor, 50), LogGone)
    assert store.replay(THREAD) == replay_of(runs)
    live = store.opened(THREAD, "live").key
    store.clear()
    assert store.replay(THREAD) == b""
    store.close_run(live, 0, frame(live, 0), result_of(live, "1"))
    assert store.replay(THREAD) == result_of(live, "1").frames
