"""PostgresStore between several processes, and when the server or the network fails."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from support.postgres_server import PostgresServer

from copilot_bindings.stores import StoreError
from copilot_bindings.stores.postgres import PostgresStore, reads
from copilot_bindings.stores.postgres.listener import Listener
from sansio_copilot import StoreUnavailable

from .shared import SharedStoreTests

_schemas = count()


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


class TestPostgresStore(SharedStoreTests):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.server = postgres_server
        self.schema = f"shared{next(_schemas)}"

    def make(self, **options: Any) -> PostgresStore:
        return PostgresStore(self.server.url, schema=self.schema, **options)

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()

    def cut_connections(self) -> None:
        self.server.cut_connections()

    def parts(self) -> tuple[Any, Any]:
        return reads, Listener

    def test_a_schema_of_a_newer_release_is_refused(self) -> None:
        self.process()
        with self.server.connect() as db:
            db.execute(f"UPDATE {self.schema}.version SET version = 99")
        store = self.make()
        with pytest.raises(StoreError, match="version 99"):
            store.open()

    def test_a_password_is_not_told(self) -> None:
        store = PostgresStore("postgresql://me:secret@127.0.0.1:1/threads")
        assert "secret" not in repr(store)
        with pytest.raises(StoreUnavailable) as caught:
            store.open()
        assert "secret" not in str(caught.value)
        assert "PostgresStore('threads' at '127.0.0.1')" in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("redis://host/", {}),
            ("postgresql://host/", {"schema": "a; DROP TABLE users"}),
            ("postgresql://host/", {"lease": 16}),
            ("postgresql://host/", {"on_concurrent_run": "queue"}),
        ],
    )
    def test_what_makes_no_sense_is_refused_at_once(self, url: str, options: Any) -> None:
        with pytest.raises(ValueError, match=r"schema|lease|on_concurrent_run|URL"):
            PostgresStore(url, **options)
