"""A store whose threads the system does not begin: it is unavailable, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.threads import no_thread_is_left

from copilot_bindings.stores import PostgresStore, RedisStore, SQLiteStore
from sansio_copilot import StoreUnavailable
from sansio_copilot.stores.protocol import ThreadQuery
from sansio_copilot.testing.stores import Driven

from .places import Place

THREADS = {
    SQLiteStore: ["copilot-sqlite"],
    PostgresStore: ["copilot-pg-reader", "copilot-pg", "copilot-news"],
    RedisStore: ["copilot-redis", "copilot-news"],
}
"""The threads of each kind, in the order in which they begin."""
TIMES = 5


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The names of threads that the system does not begin."""
    names: set[str] = set()
    start = threading.Thread.start

    def begin(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", begin)
    yield names
    names.clear()


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_threads_that_were_begun_are_ended_again(place: Place, refused: set[str]) -> None:
    store = place.new()
    for name in THREADS[type(place.opened[0])]:
        refused.add(name)
        with no_thread_is_left():
            before = descriptors()
            for _ in range(TIMES):
                with pytest.raises(StoreUnavailable, match="can't start new thread"):
                    store.open()
        assert descriptors() == before
        refused.clear()
    store.open()
    assert not store.listed(ThreadQuery())


def test_a_file_that_was_not_begun_has_no_lock(tmp_path: Path, refused: set[str]) -> None:
    refused.add("copilot-sqlite")
    store = SQLiteStore(tmp_path / "threads.db")
    with pytest.raises(StoreUnavailable):
        store.open()
    assert not list(tmp_path.glob("*-owner-*"))


def test_a_thread_that_reads_does_what_another_one_would(tmp_path: Path, refused: set[str]) -> None:
    store = SQLiteStore(tmp_path / "threads.db")
    driven = Driven(store, lambda awaitable: awaitable)
    refused.add("copilot-sqlite-reader")
    with pytest.raises(StoreUnavailable, match="can't start new thread"):
        driven.listed(ThreadQuery())
    refused.clear()
    release = threading.Event()
    busy = store.engine().read(lambda db: release.wait(30))
    refused.add("copilot-sqlite-reader")
    waiting = store.engine().read(lambda db: db.execute("SELECT 1").fetchone())
    assert not waiting.done()
    release.set()
    assert busy.result(30)
    assert waiting.result(30) == (1,)
    store.close()
