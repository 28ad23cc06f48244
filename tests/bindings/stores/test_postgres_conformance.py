"""PostgresStore keeps what every store promises: alone, with leases, and where runs supersede."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from conformance.process import wait_until
from support.postgres_server import PostgresServer

from copilot_bindings.stores.postgres import PostgresStore
from sansio_copilot.testing.stores import (
    LeasedStoreConformance,
    StoreConformance,
    SupersedingStoreConformance,
)

_schemas = count()


class _InPostgres:
    on_concurrent_run = "reject"

    @pytest.fixture(autouse=True)
    def _stores(self, postgres_server: PostgresServer) -> Iterator[None]:
        self._made: list[PostgresStore] = []
        self._server = postgres_server
        yield
        for store in self._made:
            store.close()

    def make_store(self) -> PostgresStore:
        store = PostgresStore(
            self._server.url,
            schema=f"test{next(_schemas)}",
            on_concurrent_run=self.on_concurrent_run,  # type: ignore[arg-type]
        )
        self._made.append(store)
        return store

    def wait_until(self, reached: Callable[[], bool]) -> None:
        wait_until(reached)


class TestPostgresStore(_InPostgres, StoreConformance):
    pass


class TestLeases(_InPostgres, LeasedStoreConformance):
    def expire(self, store: Any) -> None:
        """Have the leases of all runs end in the past, and begin anew, as another process would."""
        store.close()
        with self._server.connect() as db:
            db.execute(f"UPDATE {store.schema}.run SET lease = now() - interval '1 second'")


class TestSuperseding(_InPostgres, SupersedingStoreConformance, StoreConformance):
    on_concurrent_run = "supersede"
