"""SQLiteStore keeps what every store promises: alone, with leases, and where runs supersede."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.process import wait_until

from copilot_bindings.stores import SQLiteStore
from sansio_copilot.testing.stores import (
    LeasedStoreConformance,
    StoreConformance,
    SupersedingStoreConformance,
)


class _InAFile:
    on_concurrent_run = "reject"
    _stores: list[SQLiteStore]
    _directory: Path

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> Iterator[None]:
        self._stores, self._directory = [], tmp_path
        yield
        for store in self._stores:
            store.close()

    def make_store(self) -> SQLiteStore:
        path = tempfile.mktemp(suffix=".db", dir=self._directory)
        store = SQLiteStore(path, on_concurrent_run=self.on_concurrent_run)  # type: ignore[arg-type]
        self._stores.append(store)
        return store

    def wait_until(self, reached: Callable[[], bool]) -> None:
        wait_until(reached)


class TestSQLiteStore(_InAFile, StoreConformance):
    pass


class TestLeases(_InAFile, LeasedStoreConformance):
    def expire(self, store: Any) -> None:
        """Let go of the file, with runs that are open, and begin anew, as another process would."""
        store.close()


class TestSuperseding(_InAFile, SupersedingStoreConformance, StoreConformance):
    on_concurrent_run = "supersede"
