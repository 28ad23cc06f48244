"""RedisStore keeps what every store promises: alone, with leases, and where runs supersede."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from conformance.process import wait_until
from support.redis_server import RedisServer

from copilot_bindings.stores.redis import RedisStore
from sansio_copilot.testing.stores import (
    LeasedStoreConformance,
    StoreConformance,
    SupersedingStoreConformance,
)

_prefixes = count()


class _InRedis:
    on_concurrent_run = "reject"

    @pytest.fixture(autouse=True)
    def _stores(self, redis_server: RedisServer) -> Iterator[None]:
        self._made: list[RedisStore] = []
        self._url = redis_server.url
        self._server = redis_server
        yield
        for store in self._made:
            store.close()

    def make_store(self) -> RedisStore:
        store = RedisStore(
            self._url,
            prefix=f"test{next(_prefixes)}",
            on_concurrent_run=self.on_concurrent_run,  # type: ignore[arg-type]
        )
        self._made.append(store)
        return store

    def wait_until(self, reached: Callable[[], bool]) -> None:
        wait_until(reached)


class TestRedisStore(_InRedis, StoreConformance):
    pass


class TestLeases(_InRedis, LeasedStoreConformance):
    def expire(self, store: Any) -> None:
        """Have the leases of all runs end in the past, and begin anew, as another process would."""
        store.close()
        with self._server.client() as client:
            for member in client.zrange(f"{store.prefix}:live", 0, -1):
                client.zadd(f"{store.prefix}:live", {member: 1})
            for key in client.keys(f"{store.prefix}:*:r:*"):
                client.hset(key, "lease", 1)


class TestSuperseding(_InRedis, SupersedingStoreConformance, StoreConformance):
    on_concurrent_run = "supersede"
