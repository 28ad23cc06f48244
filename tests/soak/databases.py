"""Places where the threads of a soak are kept, and faults of these places.

Each :class:`Database` keeps the threads somewhere else. While the load goes on, a
:class:`Trouble` makes it fail at random moments: a server is killed and begun again, its
connections are cut off, it answers nothing for a while, a file is locked by somebody else. No
outage is longer than what runs and requests are promised to outlast.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

_SHORT, _LONG = 0.3, 5.0
"""Seconds of most outages, and of one in ten. What begins again takes its time as well."""
_CALM = 2.0
"""Seconds between two outages, at most: sooner than runs would forget one."""
Fault = Callable[[float], None]


class Database:
    """A place for threads that nothing ever happens to.

    :ivar where: what a server is told to find it.
    """

    where = "memory"

    def faults(self) -> Mapping[str, Fault]:
        """The faults of the database, by name: each is over after so many seconds."""
        return {}

    def close(self) -> None:
        """End the database, because it is not needed any more."""


class SQLiteFile(Database):
    """A file, which somebody else may lock."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="soak-")
        self._path = str(Path(self._directory.name) / "threads.db")
        self.where = f"sqlite:{self._path}"

    def faults(self) -> Mapping[str, Fault]:
        return {"locked": self._lock}

    def _lock(self, seconds: float) -> None:
        with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            db.execute("ROLLBACK")

    def close(self) -> None:
        self._directory.cleanup()


class PostgresDatabase(Database):
    """A PostgreSQL server of the soak's own."""

    def __init__(self) -> None:
        self._server = PostgresServer()
        self.where = self._server.url

    def faults(self) -> Mapping[str, Fault]:
        return {"killed": self._kill, "cut off": self._cut, "silent": self._pause}

    def _kill(self, seconds: float) -> None:
        self._server.kill()
        time.sleep(seconds)
        self._server.start()

    def _cut(self, seconds: float) -> None:
        self._server.cut_connections()

    def _pause(self, seconds: float) -> None:
        with self._server.paused():
            time.sleep(seconds)

    def close(self) -> None:
        self._server.close()


class RedisDatabase(Database):
    """A Redis server of the soak's own."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="soak-")
        self._server = RedisServer(Path(self._directory.name))
        self.where = self._server.url

    def faults(self) -> Mapping[str, Fault]:
        return {"killed": self._kill, "cut off": self._cut, "silent": self._pause}

    def _kill(self, seconds: float) -> None:
        self._server.kill()
        time.sleep(seconds)
        self._server.start()

    def _cut(self, seconds: float) -> None:
        self._server.cut_connections()

    def _pause(self, seconds: float) -> None:
        self._server.pause()
        try:
            time.sleep(seconds)
        finally:
            self._server.go_on()

    def close(self) -> None:
        self._server.close()
        self._directory.cleanup()


DATABASES: Mapping[str, Callable[[], Database]] = {
    "memory": Database,
    "sqlite": SQLiteFile,
    "postgres": PostgresDatabase,
    "redis": RedisDatabase,
}


class Trouble:
    """Has a database fail, again and again, as long as it is asked to.

    :param counts: is told what happened, by the names of faults.
    """

    def __init__(self, database: Database, chance: random.Random, counts: Counter[str]) -> None:
        self._faults = dict(database.faults())
        self._chance = chance
        self._counts = counts

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Meanwhile; afterwards the database is well."""
        over = threading.Event()
        failed: list[BaseException] = []

        def make() -> None:
            try:
                while self._faults and not over.wait(self._chance.random() * _CALM):
                    name = self._chance.choice(sorted(self._faults))
                    longest = _LONG if self._chance.random() < 0.1 else _SHORT
                    self._faults[name](self._chance.random() * longest)
                    self._counts[name] += 1
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=make, name="trouble")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failed:
            raise failed[0]


def store_at(where: str, space: str, **options: Any) -> Any:
    """A store whose threads are kept there.

    :param space: of the same place, keeps them apart from others.
    """
    kind, _, path = where.partition(":")
    if kind == "sqlite":
        from copilot_bindings.stores import SQLiteStore

        return SQLiteStore(f"{path}-{space}" if space != "main" else path, **options)
    if kind == "redis":
        from copilot_bindings.stores import RedisStore

        return RedisStore(where, prefix=space, **options)
    from copilot_bindings.stores import PostgresStore

    return PostgresStore(where, schema=space, **options)
