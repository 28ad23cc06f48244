"""RedisStore between several processes, and when the server or the network fails."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from support.redis_server import RedisServer

from copilot_bindings.stores.redis import RedisStore, reads
from copilot_bindings.stores.redis.listener import Listener
from sansio_copilot import StoreUnavailable

from .shared import SharedStoreTests, insistently

_prefixes = count()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


class TestRedisStore(SharedStoreTests):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.server = redis_server
        self.prefix = f"shared{next(_prefixes)}"

    def make(self, **options: Any) -> RedisStore:
        return RedisStore(self.server.url, prefix=self.prefix, **options)

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()

    def cut_connections(self) -> None:
        with self.server.client() as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)

    def parts(self) -> tuple[Any, Any]:
        return reads, Listener

    def test_scripts_that_the_server_has_forgotten_are_loaded_again(self) -> None:
        store = self.process()
        run = store.opened()
        with self.server.client() as client:
            client.script_flush()
        store.close_run(run.key, 0, b"", None)

    def test_a_server_without_memory_is_unavailable_until_it_has_some(self) -> None:
        store = self.process()
        with self.server.client() as client:
            client.config_set("maxmemory", 1)
            try:
                with pytest.raises(StoreUnavailable, match="RedisStore"):
                    store.opened()
            finally:
                client.config_set("maxmemory", 0)
        insistently(store.opened)

    def test_a_password_is_not_told(self) -> None:
        store = RedisStore("redis://:secret@127.0.0.1:1/0")
        assert "secret" not in repr(store)
        with pytest.raises(StoreUnavailable) as caught:
            store.check().result()
        assert "secret" not in str(caught.value)
        assert "127.0.0.1:1" in str(caught.value)
        store.close()

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("http://host/", {}),
            ("redis://host/", {"prefix": "{a}"}),
            ("redis://host/", {"lease": 16}),
            ("redis://host/", {"on_concurrent_run": "queue"}),
        ],
    )
    def test_what_makes_no_sense_is_refused_at_once(self, url: str, options: Any) -> None:
        with pytest.raises(ValueError, match=r"prefix|lease|on_concurrent_run|scheme"):
            RedisStore(url, **options)
