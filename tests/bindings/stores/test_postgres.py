"""PostgresStore between several processes, and when the server or the network fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conformance.process import wait_until
from support.postgres_server import PostgresServer

from copilot_bindings.stores import StoreError
from copilot_bindings.stores.postgres import PostgresStore, link, reads
from copilot_bindings.stores.postgres.names import lock_of
from copilot_bindings.stores.postgres.subscriber import Subscriber
from sansio_copilot import StoreAnswerLost, StoreUnavailable
from sansio_copilot.stores.protocol import RunOpened, RunRequest, ThreadBusy, ThreadQuery
from sansio_copilot.testing.stores.driven import frame

from .shared import SECONDS, SharedStoreTests

_schemas = count()


class TestPostgresStore(SharedStoreTests):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.server = postgres_server
        self.schema = f"shared{next(_schemas)}"

    def make(self, url: str = "", **options: Any) -> PostgresStore:
        return PostgresStore(url or self.server.url, schema=self.schema, **options)

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()

    def cut_connections(self) -> None:
        self.server.cut_connections()

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self.server.paused():
            yield

    def parts(self) -> tuple[Any, Any]:
        return reads, Subscriber

    def test_a_standby_that_is_promoted_takes_over(self) -> None:
        """No transaction is lost if the primary waits for its standby."""
        standby = PostgresServer(self.server)
        try:
            url = (
                f"postgresql://postgres@127.0.0.1:{self.server.port},127.0.0.1:{standby.port}"
                "/postgres?target_session_attrs=read-write"
            )
            self.server.set("synchronous_standby_names", "'*'")
            here, there = self.process(url=url), self.process(url=url)

            def fail_over() -> None:
                self.server.kill()
                standby.promote()

            self.goes_on(here, there, fail_over)
            for store in self.stores:
                store.close()
        finally:
            standby.close()
            self.server.start()
            self.server.set("synchronous_standby_names", "''")

    def test_a_server_that_becomes_read_only_is_left_for_its_successor(self) -> None:
        here, there = self.process(), self.process()

        def demoting() -> Any:
            name = "default_transaction_read_only"
            yield [("SELECT set_config(%s, 'on', false)", (name,), 0)]

        def demote() -> None:
            # The connection that is made next may write again, as one to a successor does.
            here.store.engine().write(demoting()).result()
            with pytest.raises(StoreUnavailable, match="read-only"):
                here.check()

        self.goes_on(here, there, demote)

    def test_a_full_disk_is_unavailable_until_there_is_room(self) -> None:
        here, there = self.process(), self.process()

        def fill() -> None:
            with self.server.connect() as db:
                db.execute(
                    f"CREATE FUNCTION {self.schema}.no_room() RETURNS trigger"
                    " LANGUAGE plpgsql AS $$ BEGIN RAISE 'No space left on device'"
                    " USING ERRCODE = 'disk_full'; END $$"
                )
                db.execute(
                    f"CREATE TRIGGER no_room BEFORE INSERT ON {self.schema}.frame"
                    f" EXECUTE FUNCTION {self.schema}.no_room()"
                )
                run = here.opened("other")
                with pytest.raises(StoreUnavailable, match="No space left"):
                    here.append(run.key, 0, frame(run.key, 0))
                db.execute(f"DROP TRIGGER no_room ON {self.schema}.frame")

        self.goes_on(here, there, fill)

    def test_a_statement_that_takes_too_long_is_made_again(self) -> None:
        url = f"{self.server.url}?options=-c%20statement_timeout%3D100"
        here, there = self.process(url=url), self.process(url=url)

        def hold() -> None:
            with self.server.connect() as db, db.transaction():
                db.execute(f"LOCK TABLE {self.schema}.frame")
                run = here.opened("other")
                with pytest.raises(StoreUnavailable, match="statement timeout"):
                    here.append(run.key, 0, frame(run.key, 0))

        self.goes_on(here, there, hold)

    def test_a_server_that_hangs_for_long_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(link, "SILENT_SECONDS", 0.5)
        here, there = self.process(), self.process()

        def hang() -> None:
            with self.server.paused(), pytest.raises(StoreAnswerLost, match="no answer for"):
                here.check()

        self.goes_on(here, there, hang)

    def test_a_schema_of_a_newer_release_is_refused(self) -> None:
        self.process()
        with self.server.connect() as db:
            db.execute(f"UPDATE {self.schema}.version SET version = 99")
        store = self.make()
        with pytest.raises(StoreError, match="version 99"):
            store.open()

    def test_a_reader_of_a_run_is_told_that_the_server_has_lost_it(self) -> None:
        here, there = self.process(), self.process()
        run = here.opened()
        one = frame(run.key, 0)
        here.append(run.key, 0, one)
        readers = []
        for store in (here, there):
            cursor = store.open_cursor("t", None, None)
            while (batch := store.read(cursor, 1 << 16)).data:
                cursor = batch.cursor
            told = threading.Event()
            store.watch(batch.cursor, told.set)
            readers.append((store, batch.cursor, told))
        with self.server.connect() as db:
            db.execute(f"DROP SCHEMA {self.schema} CASCADE")
        with pytest.raises(StoreError, match="does not exist"):
            here.close_run(run.key, len(one), b"", None)
        for store, cursor, told in readers:
            assert told.wait(SECONDS)
            with pytest.raises(StoreError, match="does not exist"):
                store.read(cursor, 1 << 16)

    def test_a_process_of_the_release_before_goes_on_behind_a_migration(self) -> None:
        old = (Path(__file__).parent / "postgres_version_1.sql").read_text("utf-8")
        with self.server.connect() as db:
            db.execute(f"CREATE SCHEMA {self.schema}")
            db.execute(f"CREATE TABLE {self.schema}.version AS SELECT 1 AS version")
            db.execute(old.replace("SCHEMA", self.schema))

            def call(name: str, *arguments: str) -> Any:
                said = f"SELECT * FROM {self.schema}.{name}({', '.join(arguments)})"
                return db.execute(said).fetchone()

            def opened() -> int:
                keeping = ("'5 s'", "'1 min'", "4", "0", "false", "'{}'")
                asked = ("1", "'t'", "'-'", "'r'", "'agent'", "'old'", "1", "'9 s'", *keeping)
                run: int = call("open_run", *asked)[1]
                return run

            def append(run: int, frames: str) -> Any:
                nothing = ("false", "NULL", "NULL", "NULL", "NULL", "NULL", "0")
                return call("append", "1", f"{run}", "'old'", "0", "'9 s'", frames, *nothing)

            def close(run: int, at: int, ended: int) -> Any:
                keeping = ("'1 min'", "4", "0", "1")
                left = ("'{0}'", "'{data}'", "'[1]'", "NULL", "'{}'", f"{ended}")
                return call("close_run", "1", f"{run}", f"{at}", "'y'", *keeping, *left)

            assert close(opened(), 0, 5)[0] == "closed"
            run = opened()
            assert append(run, "'x'")[0] == 0
            store = self.process()
            (record,) = store.listed(ThreadQuery())
            assert (record.thread_id, record.updated_at, record.waits_for) == ("t", 5.0, None)
            assert append(run, "'x'")[0] == 0
            assert close(run, 1, 6)[0] == "closed"
        assert store.history("t", "messages") == b"[1]"
        assert store.history("t", "frames") == b"datadata"
        store.ended("t", "4", waits_for=b"{}", ended_at=7.0)
        assert store.listed(ThreadQuery(waiting=True))[0].updated_at == 7.0

    @pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
    def test_of_runs_that_are_opened_at_once_one_begins_at_any_isolation(self, level: str) -> None:
        escaped = level.replace(" ", "\\ ")
        option = quote(f"-c default_transaction_isolation={escaped}")
        hosts = [self.process(url=f"{self.server.url}?options={option}") for _ in range(2)]
        hosts[0].ended("t", "0", waits_for=b"{}")
        outcomes: list[Any] = []

        def open_run(host: Any) -> None:
            outcomes.append(host.open_run(RunRequest("t", "again", "agent")))

        threads = [threading.Thread(target=open_run, args=(host,)) for host in hosts]
        with self.server.connect() as db, db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (lock_of(b"t"),))
            for thread in threads:
                thread.start()

            def both_wait() -> bool:
                waiting = (
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                )
                return bool(db.execute(waiting).fetchone() == (2,))

            wait_until(both_wait, "both hosts wait for the lock of the thread")
        for thread in threads:
            thread.join(SECONDS)
        (begun,) = [outcome for outcome in outcomes if isinstance(outcome, RunOpened)]
        assert begun.waits_for == b"{}"
        assert ThreadBusy("again") in outcomes

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
    def test_an_option_that_makes_no_sense_is_refused_at_once(self, url: str, options: Any) -> None:
        with pytest.raises(ValueError, match=r"schema|lease|on_concurrent_run|URL"):
            PostgresStore(url, **options)
