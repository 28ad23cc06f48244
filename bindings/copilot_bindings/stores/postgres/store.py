"""PostgresStore: threads in PostgreSQL, for the processes of many machines.

The tables and functions are in :mod:`.schema`. Each process has one connection to write and one to
read (:mod:`..round_trips`), one for notifications (:mod:`.subscriber`), and the tails of the runs
that are followed in it (:mod:`..tails`), so that a thousand readers of a run cost the server no
more than one.

Four rules make it right:

- **Steps that must not overlap are one function**, and calls that wait at the same time are one
  transaction.
- **Readers and owners are told only of commits.** The server's settings decide how safe a commit
  is: with ``synchronous_commit = on``, the default, a power failure loses nothing.
- **Time is the server's.** Each append renews the lease of a run, and the server's clock decides
  whether a lease has run out. A process that takes a run over fences the former owner out.
- **A notification may be lost.** It carries frames, so that they need not be read again; the tables
  have the same frames, and are looked at once a second.

No lock is held longer than a transaction, and no statement is prepared, so that all connections but
that of the subscriber may go through a proxy that pools transactions. A connection is never used in
a fork of the process that has made it.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict

from ..errors import StoreError
from ..remote import Changes, Reads, RemoteEngine, RemoteStore
from ..retention import Evictions
from ..round_trips import PipelineThread, RoundTrips
from . import reads, threads
from .link import Link, connect, translated
from .runs import Runs
from .schema import NewerSchemaError, migrate
from .subscriber import Subscriber


class _Engine(RemoteEngine[str, Runs]):
    """A process's part of a server: its connections, its operating system threads, its tails."""

    reads: Reads[str] = reads
    changes: Changes[str, Runs] = threads

    def __init__(self, store: PostgresStore, evictions: Evictions) -> None:
        self._prepare(store)
        self.namespace = store.schema
        super().__init__(evictions)
        process = uuid.uuid4().hex[:16]
        self.runs = Runs(
            *(process, self.owned, self.tails, store.retention),
            store.on_concurrent_run == "supersede",
            store.schema,
            timedelta(seconds=store.lease),
        )
        writer, reader = (Link(store.url, store.shown) for _ in range(2))
        with contextlib.ExitStack() as begun:
            reading = PipelineThread("copilot-pg-reader", reader.send, reader.close)
            begun.callback(reading.close, 0)
            writing = PipelineThread("copilot-pg", writer.send, writer.close)
            begun.callback(writing.close, 0)
            self.pipelines = (writing, reading)
            self.subscriber = Subscriber(
                *(store.listen_url or store.url, store.shown, reading, store.schema, process),
                *(self.owned, self.tails, self._tick),
            )
            # The stack is emptied, because the engine is complete: from here on its close() ends
            # the operating system threads of both pipelines.
            begun.pop_all()

    def _prepare(self, store: PostgresStore) -> None:
        try:
            with contextlib.closing(connect(store.url, is_patient=True)) as db:
                migrate(db, store.schema)
        except NewerSchemaError as error:
            raise StoreError(store.shown, str(error)) from None
        except psycopg.Error as error:
            raise translated(store.shown, error) from error

    def tidy(self) -> Future[bool]:
        return self.read(threads.tidy(self.runs, self._evictions))

    def _tick(self) -> None:
        self._tidying.look()


def _schema(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch("[a-z_][a-z0-9_]{0,30}", value):
        raise ValueError(
            f"{attribute.name} must be a name of small letters, digits and _, got {value!r}"
        )


@attrs.define(eq=False, on_setattr=attrs.setters.frozen)
class PostgresStore(RemoteStore[_Engine]):
    """Threads in PostgreSQL (14 or later).

    :param url: the URL of the database, as libpq takes it.
    :param schema: the schema of the tables, which is made if there is none, so that several stores
        can share a database.
    :param listen_url: the URL of the server itself, if ``url`` is that of a proxy that pools
        transactions.
    :param on_concurrent_run: what a second run on a busy thread does; see
        :class:`~sansio_copilot.MemoryStore`.
    :param retention: what is kept, and for how long; by default everything. ``max_bytes`` is
        compared with what the frames of runs take as they were appended.
    :param lease: seconds after which the owner of a run is taken for dead; 1 to 15.
    :raises ValueError: for an argument that makes no sense.
    """

    url: str = attrs.field(repr=False, validator=attrs.validators.instance_of(str))
    schema: str = attrs.field(default="copilot", kw_only=True, validator=_schema)
    listen_url: str | None = attrs.field(default=None, kw_only=True, repr=False)

    def __attrs_post_init__(self) -> None:
        try:
            conninfo_to_dict(self.url)
        except psycopg.Error as error:
            # The text in quotation marks is left out, because it may be a part of the password.
            problem = str(error).strip().partition('"')[0].rstrip(" :")
            raise ValueError(
                "PostgresStore needs the URL of a database, as postgresql://user:password@host/"
                f"name with percent-encoded parts: {problem} ..."
            ) from None

    @property
    def shown(self) -> str:
        """The store as errors name it, without a password."""
        parts = conninfo_to_dict(self.url)
        host, name = parts.get("host", ""), parts.get("dbname", "")
        return f"PostgresStore({name!r} at {host!r})"

    # Its life

    def open(self) -> None:
        """Connect, and bring the schema to the version of this release.

        :raises StoreUnavailable: if there is no connection to be had for now.
        :raises StoreError: if the schema cannot be used.
        """
        self.engine()

    def check(self) -> Future[None]:
        """Find out whether the server accepts writes.

        :raises StoreUnavailable: if it does not, for now.
        """
        engine = self.engine()

        def trips() -> RoundTrips[None]:
            yield [(f"UPDATE {engine.namespace}.version SET version = version RETURNING 1", (), 0)]

        return engine.write(trips())

    def _begin(self) -> _Engine:
        return _Engine(self, self._evictions)
