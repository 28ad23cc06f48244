"""Tests of what is read ahead for a reader of a long thread, and of how much of it is kept."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

from copilot_bindings.stores import SQLiteStore
from copilot_bindings.stores.cursors import Cursor
from copilot_bindings.stores.read_ahead import Ahead
from sansio_copilot.stores.protocol import Batch, LogGone
from sansio_copilot.testing.stores import Driven

SIZE = 100


def pages_of(begin: Cursor, count: int) -> list[Batch]:
    """Pages of one run that follow each other from ``begin`` on."""
    ends = [begin.offset + number * SIZE for number in range(1, count + 1)]
    return [Batch(b"x" * SIZE, begin.at(begin.index, end), False) for end in ends]


def test_a_reader_that_keeps_up_is_given_what_was_read_ahead() -> None:
    ahead, cursor = Ahead(), Cursor(1, (1, 2))
    for pages in (1, 4, 8, 8):
        assert ahead.take(cursor, SIZE) == pages
        batches = pages_of(cursor, pages)
        assert ahead.keep(batches, pages) is batches[0]
        for before, batch in pairwise(batches):
            assert ahead.take(before.cursor, SIZE) is batch
        # A page that was taken is gone, because it is given once.
        assert pages == 1 or ahead.take(batches[0].cursor, SIZE) == 1
        cursor = batches[-1].cursor


def test_the_first_page_is_read_with_the_place_where_it_begins() -> None:
    ahead, begin = Ahead(total_bytes=3 * SIZE), Cursor(1, (1, 2))
    assert ahead.room() == 0, "nobody has asked for a page, so that its size is not known"
    ahead.take(begin, SIZE)
    for cursor in (begin, Cursor(1, (3, 4)), Cursor(1, (5, 6))):
        assert ahead.room() == SIZE
        (page,) = pages_of(cursor, 1)
        ahead.begin(cursor, (page,))
    assert ahead.room() == 0, "there is no room for another one"
    (page,) = pages_of(begin, 1)
    assert ahead.take(begin, SIZE) == page
    assert ahead.room() == SIZE
    assert ahead.take(page.cursor, SIZE // 4) == 4


def test_a_reader_that_takes_its_time_begins_anew() -> None:
    ahead, begin = Ahead(seconds=0.0), Cursor(1, (1, 2))
    pages = pages_of(begin, 3)
    ahead.keep(pages, 4)
    assert ahead.take(pages[0].cursor, SIZE) == 1
    assert ahead.take(pages[2].cursor, SIZE) == 1


def test_no_reader_is_read_ahead_for_when_there_is_no_room() -> None:
    ahead = Ahead(total_bytes=10 * SIZE)
    first, second = Cursor(1, (1, 2)), Cursor(2, (3, 4))
    # The same page kept twice takes no room twice.
    for _ in range(3):
        pages = pages_of(first, 3)
        ahead.keep(pages, 4)
    ahead.keep(pages_of(second, 1), 4)
    at = second.at(0, SIZE)
    assert ahead.take(at, SIZE) == 8
    ahead.keep(pages_of(second, 1), 4)
    ahead.keep(pages_of(Cursor(3, (5,)), 2), 2)
    assert ahead.take(at, SIZE) == 1
    # A page that is kept is given nevertheless, and makes room.
    assert ahead.take(pages[0].cursor, SIZE) is pages[1]
    ahead.keep(pages_of(second, 1), 4)
    assert ahead.take(at, SIZE) == 8


def test_a_page_longer_than_is_asked_for_is_none() -> None:
    ahead, begin = Ahead(), Cursor(1, (1, 2))
    pages = pages_of(begin, 2)
    ahead.keep(pages, 2)
    assert ahead.take(pages[0].cursor, SIZE - 1) == 1


def test_another_row_of_the_same_runs_is_another_readers() -> None:
    ahead, begin = Ahead(), Cursor(1, (1, 2))
    pages = pages_of(begin, 2)
    ahead.keep(pages, 2)
    there = pages[0].cursor
    assert ahead.take(Cursor(1, (*begin.parts[:1], 2), there.index, there.offset), SIZE) == 1


def test_no_page_is_kept_behind_the_end_or_in_front_of_a_live_run() -> None:
    ahead = Ahead()
    for parts in ((1,), (1, -2)):
        last = Batch(b"x", Cursor(1, parts, 1), len(parts) == 1)
        ahead.keep([last], 1)
        assert ahead.take(last.cursor, SIZE) == 1


def test_a_thread_that_is_deleted_is_forgotten(tmp_path: Path) -> None:
    store = Driven(SQLiteStore(tmp_path / "threads.db"), lambda awaitable: awaitable)
    for forget in ("delete_thread", "clear"):
        store.ended("t", *("x" * SIZE for _ in range(20)))
        page = store.read(store.open_cursor("t", None, None), SIZE)
        page = store.read(page.cursor, SIZE)
        assert isinstance(page, Batch)
        getattr(store, forget)(*(["t"] if forget == "delete_thread" else []), None)
        assert isinstance(store.read(page.cursor, SIZE), LogGone)
    store.close()


def test_a_page_that_is_read_during_the_deletion_is_forgotten_too(tmp_path: Path) -> None:
    inner = SQLiteStore(tmp_path / "threads.db")
    store = Driven(inner, lambda awaitable: awaitable)
    store.ended("t", *("x" * SIZE for _ in range(20)))
    page = store.read(store.open_cursor("t", None, None), SIZE)
    assert isinstance(page, Batch)
    # The deletion has to wait, because another process writes meanwhile.
    other = sqlite3.connect(tmp_path / "threads.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    deletion = inner.delete_thread("t")
    # The first of these has the next one read ahead.
    for _ in range(2):
        page = store.read(page.cursor, SIZE)
        assert isinstance(page, Batch)
    other.execute("ROLLBACK")
    other.close()
    assert deletion.result(60) is True
    assert isinstance(store.read(page.cursor, SIZE), LogGone)
    store.close()
