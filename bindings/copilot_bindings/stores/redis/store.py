"""RedisStore: threads in Redis or Valkey, for the processes of many machines.

A run is a string that grows, and a thread has a few keys besides (:mod:`.lua_functions` lists all
keys). Each process has one connection for commands (:mod:`..round_trips`), one for notifications
(:mod:`.subscriber`), and the tails of the runs that are followed in it (:mod:`..tails`), so that a
thousand readers of a run cost the server no more than one.

Four rules make it right:

- **Steps that must be atomic are one script.** For example, an append checks who owns the run, and
  adds its frames.
- **Readers and owners are told only of frames that the server has taken.** The server's settings
  decide how safe these are: with ``appendonly yes`` and ``appendfsync everysec`` a power failure
  loses a second, with ``always`` nothing.
- **Time is the server's.** Each append renews the lease of a run, and the server's clock decides
  whether a lease has run out. A process that takes a run over fences the former owner out.
- **A notification may be lost.** It carries frames, so that they need not be read again; the keys
  have the same frames, and are looked at once a second.

A connection is never used in a fork of the process that has made it.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from concurrent.futures import Future
from typing import Any

import attrs

from sansio_copilot.stores.protocol import RunKey

from ...net.shown_url import without_secrets
from ..cursors import Cursor
from ..remote import Changes, Reads, RemoteEngine, RemoteStore
from ..retention import Evictions
from ..round_trips import Command, PipelineThread, RoundTrips
from . import reads, threads
from .link import Link, connect
from .names import Names
from .runs import Runs
from .subscriber import Subscriber

_SLOTS = 32


class _Engine(RemoteEngine[Names, Runs]):
    """A process's part of a server: its connections, its operating system threads, its tails."""

    reads: Reads[Names] = reads
    changes: Changes[Names, Runs] = threads

    def __init__(self, store: RedisStore, evictions: Evictions) -> None:
        self.namespace = Names(store.prefix)
        self._retention = store.retention
        super().__init__(evictions)
        process = uuid.uuid4().hex
        self.runs = Runs(
            *(process, self.owned, self.tails, store.retention),
            store.on_concurrent_run == "supersede",
            self.namespace,
            int(store.lease * 1000),
        )
        link = Link(connect(store.url), store.shown, self.namespace.version)
        # Reads use the connection that writes, because the server does one command after the other.
        self.pipelines = (PipelineThread("copilot-redis", link.send, link.close),)
        with contextlib.ExitStack() as begun:
            begun.callback(self.pipelines[0].close, 0)
            self.subscriber = Subscriber(
                *(connect(store.url, reconnects=True), self.pipelines[0], self.namespace, process),
                *(self.owned, self.tails, self._tick, store.shown),
            )
            # The stack is emptied, because the engine is complete: from here on its close() ends
            # the operating system thread of the pipeline.
            begun.pop_all()

    def tidy(self) -> Future[bool]:
        return self.write(threads.retire(self.runs, self._evictions))

    def name_of(self, cursor: Cursor, run: int) -> tuple[str, int]:
        return str(cursor.thread), run

    def own_name(self, key: RunKey) -> tuple[str, int]:
        return self.namespace.thread(key.thread_id), key.seq

    def _tick(self) -> None:
        if self._retention.drops_threads:
            self._tidying.look()


def _prefix(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value or set(value) & set("{} \n"):
        raise ValueError(f"{attribute.name} must be a text without braces or spaces, got {value!r}")


@attrs.define(eq=False, on_setattr=attrs.setters.frozen)
class RedisStore(RemoteStore[_Engine]):
    """Threads in Redis (6.2 or later) or Valkey: in one server, and not in a cluster of several.

    :param url: the URL of the server: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes
        it.
    :param prefix: the prefix of all keys, so that several stores can share a server.
    :param on_concurrent_run: what a second run on a busy thread does; see
        :class:`~sansio_copilot.MemoryStore`.
    :param retention: what is kept, and for how long; by default everything. ``max_bytes`` is
        compared with what the whole server takes.
    :param lease: seconds after which the owner of a run is taken for dead; 1 to 15.
    :raises ValueError: for an argument that makes no sense.
    """

    url: str = attrs.field(repr=False, validator=attrs.validators.instance_of(str))
    prefix: str = attrs.field(default="copilot", kw_only=True, validator=_prefix)

    def __attrs_post_init__(self) -> None:
        connect(self.url).close()

    @property
    def shown(self) -> str:
        """The store as errors name it, without a password."""
        return f"RedisStore({without_secrets(self.url).rpartition('://')[2]!r})"

    # Its life

    def open(self) -> Future[None]:
        """Connect, and bring the keys to the version of this release.

        :raises StoreUnavailable: if there is no connection to be had for now.
        :raises StoreError: if a newer release has written the keys, or the server is one of several
            servers of a cluster.
        """
        engine = self.engine()

        def trips() -> RoundTrips[None]:
            # The keys lie in many slots, of which a cluster has some on other servers.
            yield [("EXISTS", f"{engine.namespace.prefix}:{number}") for number in range(_SLOTS)]
            yield [self._checking(engine)]

        return engine.write(trips())

    def check(self) -> Future[None]:
        """Find out whether the server accepts writes.

        :raises StoreUnavailable: if it does not, for now.
        """
        engine = self.engine()

        def trips() -> RoundTrips[None]:
            yield [self._checking(engine)]

        return engine.write(trips())

    def _checking(self, engine: _Engine) -> Command:
        return "SET", f"{engine.namespace.prefix}:checked", time.time(), "PX", 60_000

    def _begin(self) -> _Engine:
        return _Engine(self, self._evictions)
