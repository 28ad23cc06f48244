"""What is read ahead for a reader of a long thread, and how much of it is kept."""

from __future__ import annotations

from pathlib import Path

from copilot_bindings.stores import SQLiteStore
from copilot_bindings.stores.ahead import Ahead
from copilot_bindings.stores.cursors import Cursor
from sansio_copilot.stores.protocol import Batch, LogGone
from sansio_copilot.testing.stores import Driven

SIZE = 100


def pages_of(begin: Cursor, count: int) -> list[Batch]:
    """Pages of one run that follow each other from ``begin`` on."""
    return [
        Batch(
            b"%d" % number * SIZE, begin.at(begin.index, begin.offset + (number + 1) * SIZE), False
        )
        for number in range(count)
    ]


def test_a_reader_that_keeps_up_is_given_what_was_read_ahead() -> None:
    ahead, begin = Ahead(), Cursor(1, (1, 2))
    assert ahead.take(begin, SIZE) == 8
    pages = pages_of(begin, 3)
    assert ahead.keep(pages) is pages[0]
    assert ahead.take(pages[0].cursor, SIZE) is pages[1]
    assert ahead.take(pages[1].cursor, SIZE) is pages[2]
    # It has kept up, so that it is read ahead for again.
    assert ahead.take(pages[2].cursor, SIZE) == 8
    # What was taken is there no more.
    assert ahead.take(pages[0].cursor, SIZE) == 1


def test_one_that_takes_its_time_is_read_for_page_by_page() -> None:
    ahead, begin = Ahead(seconds=0.0), Cursor(1, (1, 2))
    pages = pages_of(begin, 3)
    ahead.keep(pages)
    assert ahead.take(pages[0].cursor, SIZE) == 1
    assert ahead.take(pages[2].cursor, SIZE) == 1


def test_nobody_is_read_ahead_for_when_there_is_no_room() -> None:
    ahead = Ahead(total_bytes=8 * SIZE + 2 * SIZE)
    first, second = Cursor(1, (1, 2)), Cursor(2, (3, 4))
    # To keep the same twice takes no room twice.
    for _ in range(3):
        ahead.keep(pages_of(first, 3))
    assert ahead.take(second, SIZE) == 8
    pages = pages_of(first, 4)
    ahead.keep(pages)
    assert ahead.take(second, SIZE) == 1
    assert ahead.take(pages[0].cursor, SIZE) is pages[1]
    assert ahead.take(second, SIZE) == 8


def test_a_page_longer_than_is_asked_for_is_none() -> None:
    ahead, begin = Ahead(), Cursor(1, (1, 2))
    pages = pages_of(begin, 2)
    ahead.keep(pages)
    assert ahead.take(pages[0].cursor, SIZE - 1) == 8


def test_another_row_of_the_same_runs_is_another_readers() -> None:
    ahead, begin = Ahead(), Cursor(1, (1, 2))
    pages = pages_of(begin, 2)
    ahead.keep(pages)
    there = pages[0].cursor
    assert ahead.take(Cursor(1, (*begin.parts[:1], 2), there.index, there.offset), SIZE) == 1


def test_what_is_deleted_is_forgotten(tmp_path: Path) -> None:
    store = Driven(SQLiteStore(tmp_path / "threads.db"), lambda awaitable: awaitable)
    for forget in ("delete_thread", "clear"):
        store.ended("t", *("x" * SIZE for _ in range(20)))
        page = store.read(store.open_cursor("t", None, None), SIZE)
        page = store.read(page.cursor, SIZE)
        assert isinstance(page, Batch)
        getattr(store, forget)(*(["t"] if forget == "delete_thread" else []), None)
        assert isinstance(store.read(page.cursor, SIZE), LogGone)
    store.close()
