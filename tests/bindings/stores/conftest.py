"""Database servers of the tests' own, one for each module that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer


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
