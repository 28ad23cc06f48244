"""Database servers of the tests' own, one for each module that asks for it, and places in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

from copilot_bindings.stores import PostgresStore, RedisStore, SQLiteStore

from .places import Place

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres", "redis"])
def database(request: pytest.FixtureRequest) -> Any:
    """The server of that kind; None for files."""
    return None if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def place(database: Any, tmp_path: Path) -> Iterator[Place]:
    """A place of its own in the database."""
    name = f"test{next(_numbers)}"
    if database is None:
        place = Place(lambda **options: SQLiteStore(tmp_path / "threads.db", **options))
    elif isinstance(database, PostgresServer):
        place = Place(lambda **options: PostgresStore(database.url, schema=name, **options))
    else:
        place = Place(lambda **options: RedisStore(database.url, prefix=name, **options))
    yield place
    for store in place.opened:
        store.close()
