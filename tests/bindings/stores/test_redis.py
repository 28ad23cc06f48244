"""RedisStore between several processes, and when the server or the network fails."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conformance.process import wait_until
from support.proxy import Proxy
from support.redis_server import RedisServer

from copilot_bindings.stores import Retention, StoreError
from copilot_bindings.stores.redis import RedisStore, reads, threads
from copilot_bindings.stores.redis.lua_functions import VERSION
from copilot_bindings.stores.redis.names import Names
from copilot_bindings.stores.redis.subscriber import Subscriber
from sansio_copilot import StoreUnavailable
from sansio_copilot.stores.protocol import ThreadQuery
from sansio_copilot.testing.stores.driven import Told, frame, result_of

from .shared import SECONDS, Reader, SharedStoreTests, insistently

_prefixes = count()


def first_of(trips: Any) -> Any:
    """Make the first round trip of a call; returns its replies."""
    return (yield next(trips))


def rest_of(trips: Any, replies: list[Any]) -> Any:
    """Run ``trips`` on, whose first round trip was answered with ``replies``."""
    try:
        while True:
            replies = yield trips.send(replies)
    except StopIteration:
        return


def replica_is_up(replica: RedisServer) -> bool:
    """Return whether a replica has what its primary has."""
    with replica.client() as client:
        return bool(client.info("replication")["master_link_status"] == "up")


def refusal(call: Callable[[], object]) -> StoreUnavailable | None:
    """Return the error with which a call is refused, or None."""
    try:
        call()
    except StoreUnavailable as error:
        return error
    return None


class TestRedisStore(SharedStoreTests):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.server = redis_server
        self.prefix = f"shared{next(_prefixes)}"

    def make(self, url: str = "", **options: Any) -> RedisStore:
        return RedisStore(url or self.server.url, prefix=self.prefix, **options)

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()

    def cut_connections(self) -> None:
        self.server.cut_connections()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.server.pause()
        try:
            yield
        finally:
            self.server.go_on()

    def parts(self) -> tuple[Any, Any]:
        return reads, Subscriber

    def test_a_server_of_a_cluster_of_several_is_refused(
        self, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        nodes = [RedisServer(tmp_path_factory.mktemp("node"), is_clustered=True) for _ in range(3)]
        try:
            RedisServer.join(nodes)
            for node in nodes:
                store = RedisStore(node.url)
                with pytest.raises(StoreError, match=r"RedisStore\(.*one of several servers of a"):
                    store.open().result()
                store.close()
        finally:
            for node in nodes:
                node.close()

    def test_a_cluster_of_one_shard_will_do(self, tmp_path: Path) -> None:
        node = RedisServer(tmp_path, is_clustered=True)
        try:
            RedisServer.join([node])
            here, there = self.process(url=node.url), self.process(url=node.url)
            here.ended("t", "1", owner="ann", ended_at=1.0)
            run = here.opened("t", "2", owner="ann")
            reader = Reader(there, there.open_cursor("t", None, "ann"))
            one = frame(run.key, 0)
            here.close_run(run.key, 0, one, None)
            reader.until(lambda: reader.ended)
            assert reader.data.endswith(one)
            assert [one.thread_id for one in there.listed(ThreadQuery("ann"))] == ["t"]
            for store in self.stores:
                store.close()
        finally:
            node.close()

    @pytest.mark.parametrize("how", ["killed", "demoted", "demoted, as a script finds"])
    def test_a_replica_that_is_promoted_takes_over(
        self, proxy: Proxy, tmp_path: Path, how: str
    ) -> None:
        """No write that the replica had been sent is lost."""
        replica = RedisServer(tmp_path)
        here, there = self.behind(proxy), self.behind(proxy)

        def fail_over() -> None:
            with self.server.client() as old, replica.client() as new:
                wait_until(lambda: new.info("replication")["master_link_status"] == "up")
                wait_until(lambda: int(old.wait(1, 100)) == 1)
                new.replicaof("NO", "ONE")
                proxy.target = replica.port
                if how == "killed":
                    proxy.cut()
                else:
                    old.replicaof("127.0.0.1", str(replica.port))
                    with pytest.raises(StoreUnavailable, match="read only"):
                        here.check() if how == "demoted" else here.opened("other")

        try:
            with replica.client() as new:
                new.replicaof("127.0.0.1", str(self.server.port))
            self.goes_on(here, there, fail_over)
        finally:
            with self.server.client() as old:
                old.replicaof("NO", "ONE")
            for store in self.stores:
                store.close()
            replica.close()

    def test_a_full_disk_is_unavailable_until_there_is_room(self) -> None:
        here, there = self.process(), self.process()

        def fill() -> None:
            self.server.have_room(False)
            try:
                # The first write that fails has been answered before it is known to.
                wait_until(lambda: "MISCONF" in str(refusal(here.check)))
            finally:
                self.server.have_room(True)

        self.goes_on(here, there, fill)

    def test_scripts_that_the_server_has_forgotten_are_loaded_again(self) -> None:
        store = self.process()
        run = store.opened()
        with self.server.client() as client:
            client.script_flush()
        store.close_run(run.key, 0, b"", None)

    def test_a_thread_is_listed_though_its_closing_was_cut_off_in_the_middle(self) -> None:
        store = self.process()
        engine = store.store.engine()
        run = store.opened("t")
        call = (run.key, 0, b"", result_of(run.key, "1"))
        engine.write(first_of(engine.runs.close(*call))).result()
        assert store.listed(ThreadQuery()) == []
        # The call is made again, because its answer was lost.
        store.close_run(*call)
        assert [record.thread_id for record in store.listed(ThreadQuery())] == ["t"]

    def test_a_thread_that_comes_again_while_it_is_deleted_is_listed(self) -> None:
        here, there = self.process(), self.process()
        engine = here.store.engine()
        here.ended("t", "1")
        deleting = threads.delete(engine.runs, "t", None)
        replies = engine.write(first_of(deleting)).result()
        there.ended("t", "2")
        engine.write(rest_of(deleting, replies)).result()
        assert [record.thread_id for record in here.listed(ThreadQuery())] == ["t"]
        here.delete_thread("t")
        with self.server.client() as client:
            assert client.zcard(f"{self.prefix}:threads") == 0

    def test_a_thread_that_is_only_in_a_list_goes_when_threads_are_let_go(self) -> None:
        store = self.process(retention=Retention(max_threads=1))
        engine = store.store.engine()
        store.ended("gone", "1", ended_at=1.0)
        engine.write(first_of(threads.delete(engine.runs, "gone", None))).result()
        store.ended("t", "1", ended_at=2.0)
        while store.tidy():
            pass
        with self.server.client() as client:
            assert client.zcard(f"{self.prefix}:threads") == 1
        assert [record.thread_id for record in store.listed(ThreadQuery())] == ["t"]

    def test_news_of_a_run_that_is_not_followed_any_more_are_not_heard(self) -> None:
        """The server goes on telling between two commands of the subscriber."""
        store = self.process()
        engine = store.store.engine()
        told = Told()
        run = store.opened()
        store.watch_run(run.key, told)
        channel = engine.namespace.run_channel(engine.namespace.thread("t"), run.key.seq)
        for data in (b"a1220:id: 1.abc.0\ndata: {}\n\n", b"s100", b"e100", b"g", b"look"):
            engine.subscriber.hear(None, channel.encode(), data)
        assert told.signals == []

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

    # Versions of the keys

    def test_keys_of_a_newer_release_are_left_alone(self) -> None:
        self.process().ended("t", "1")
        with self.server.client() as client:
            client.set(f"{self.prefix}:version", VERSION + 1)
            before = set(client.scan_iter(f"{self.prefix}:*"))
            store = self.make()
            self.stores.append(store)
            said = f"version {VERSION + 1}, and this release knows {VERSION}: install the newer"
            for begin in (store.open, store.check, store.list_threads):
                with pytest.raises(StoreError, match=said):
                    begin().result()
            assert set(client.scan_iter(f"{self.prefix}:*")) == before
            # The store need not be begun anew if the keys of the older release are put back.
            client.set(f"{self.prefix}:version", VERSION)
        store.check().result()

    def test_the_log_tells_that_keys_are_brought_to_a_version(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        for _ in range(2):
            store = self.make()
            store.open().result()
            store.close()
        assert caplog.messages == [f"{store.shown}: brought from version 0 to {VERSION}"]

    def test_keys_of_the_first_version_are_brought_to_this_one(self) -> None:
        """The first version wrote no version number, and knew no volumes."""
        self.process().ended("t", "1")
        thread = Names(self.prefix).thread("t")
        with self.server.client() as client:
            client.delete(f"{self.prefix}:version")
            client.hdel(thread, "version")
            store = self.process()
            assert client.get(f"{self.prefix}:version") == b"%d" % VERSION
            assert store.history("t", "frames").endswith(b"\ndata: 1\n\n")
            # A thread is of the version of whoever has changed it last.
            assert client.hget(thread, "version") is None
            run = store.opened("t")
            assert client.hget(thread, "version") == b"%d" % VERSION
            client.hdel(thread, "version")
            store.close_run(run.key, 0, b"", result_of(run.key, "2"))
            assert client.hget(thread, "version") == b"%d" % VERSION

    def test_a_process_lets_a_thread_alone_that_a_newer_one_has_taken_over(self) -> None:
        here, there = self.process(), self.process()
        here.ended("t", "1")
        cursor = here.open_cursor("t", None, None)
        run = here.opened("t")
        one = frame(run.key, 0)
        here.append(run.key, 0, one)
        follower = there.open_cursor("t", None, None)
        while (
            not there.read(follower, 1 << 16).ended
            and (behind := there.read(follower, 1 << 16).cursor) != follower
        ):
            follower = behind
        told, own_told = threading.Event(), threading.Event()
        there.watch(follower, told.set)
        own = here.open_cursor("t", None, None)
        while (batch := here.read(own, 1 << 16)).data:
            own = batch.cursor
        here.watch(batch.cursor, own_told.set)
        names = Names(self.prefix)
        with self.server.client() as client:
            client.hset(names.thread("t"), "version", VERSION + 1)
            size = client.strlen(f"{names.thread('t')}:l:{run.key.seq}")
            for call in (
                lambda: here.append(run.key, len(one), frame(run.key, 1)),
                lambda: here.close_run(run.key, len(one), b"", result_of(run.key, "2")),
                lambda: here.renew(run.key),
                lambda: here.opened("t", "next"),
                lambda: here.request_stop("t", None, None),
                lambda: here.open_cursor("t", None, None),
                lambda: here.read(cursor, 1 << 16),
                lambda: here.history("t", "frames"),
                lambda: here.history("t", "messages"),
                lambda: here.listed(ThreadQuery()),
                lambda: here.update_thread("t", {"name": "mine"}),
                lambda: here.claim_thread("t", "ann"),
                lambda: here.delete_thread("t"),
            ):
                with pytest.raises(StoreError, match=f"version {VERSION + 1}.*install the newer"):
                    call()
            # Readers are told on both hosts, because those of its owner's host follow the run as
            # well once it cannot be closed there.
            for store, reader, is_told in (
                (there, follower, told),
                (here, batch.cursor, own_told),
            ):
                assert is_told.wait(SECONDS)
                with pytest.raises(StoreError, match="install the newer"):
                    store.read(reader, 1 << 16)
            assert client.strlen(f"{names.thread('t')}:l:{run.key.seq}") == size
        # Its other threads are its own as before.
        here.ended("other", "1")
        assert here.history("other", "messages") == b"[]"

    def test_a_store_is_not_made_by_a_replica(self, tmp_path: Path) -> None:
        replica = RedisServer(tmp_path)
        try:
            with replica.client() as client:
                client.replicaof("127.0.0.1", str(self.server.port))
            wait_until(lambda: replica_is_up(replica))
            store = self.make(url=replica.url)
            with pytest.raises(StoreUnavailable, match="read only"):
                store.open().result()
            store.close()
        finally:
            replica.close()

    def test_a_password_is_not_told(self) -> None:
        store = RedisStore("redis://:secret@127.0.0.1:1/0")
        assert "secret" not in repr(store)
        with pytest.raises(StoreUnavailable) as caught:
            store.check().result()
        assert "secret" not in str(caught.value)
        assert "127.0.0.1:1" in str(caught.value)
        store.close()

    def test_a_password_among_the_options_is_not_told(self) -> None:
        store = RedisStore("redis://127.0.0.1:1/0?password=secret")
        with pytest.raises(StoreUnavailable) as caught:
            store.check().result()
        assert str(caught.value).startswith("RedisStore('127.0.0.1:1/0'): ")
        assert "secret" not in str(caught.value)
        store.close()

    def test_a_server_is_reached_over_a_unix_socket(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        # The socket has a folder of its own, because that of a test may have a name that is longer
        # than a Unix socket's may be.
        with tempfile.TemporaryDirectory(prefix="redis-") as folder:
            path = Path(folder) / "redis.sock"
            server = RedisServer(tmp_path, unix=path)
            try:
                store = self.make(url=f"unix://{path}")
                store.open().result()
                assert store.check().result() is None
                assert "late" not in caplog.text
                assert store.shown == f"RedisStore({str(path)!r})"
                store.close()
            finally:
                server.close()

    @pytest.mark.parametrize(
        ("url", "options"),
        [
            ("http://host/", {}),
            ("redis://host/", {"prefix": "{a}"}),
            ("redis://host/", {"lease": 16}),
            ("redis://host/", {"on_concurrent_run": "queue"}),
        ],
    )
    def test_an_option_that_makes_no_sense_is_refused_at_once(self, url: str, options: Any) -> None:
        with pytest.raises(ValueError, match=r"prefix|lease|on_concurrent_run|URL"):
            RedisStore(url, **options)
