"""The stores that ``run.py stores`` compares: their servers, and what is measured of them alone.

PostgreSQL and Redis are servers of the benchmark's own, on this machine, from the same packages as
those of the tests (or the ones that ``POSTGRES_BIN`` and ``REDIS_SERVER`` name). They are set to
lose nothing that is usual to be kept: PostgreSQL commits to the disk (``fsync``), Redis writes its
append-only file at once and to the disk once a second.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs
import processes

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

from copilot_bindings.cli.stores import store_of
from sansio_copilot import CopilotRuntime
from sansio_copilot.stores.protocol import RunOpened, RunRequest, RunResult, ThreadQuery
from sansio_copilot.testing import Client, run_input

NAMES = ("memory", "sqlite", "postgres", "redis")
_PAGE = 50
_ROWS = (
    "INSERT INTO copilot.thread"
    " (thread_id, owner, agent_id, created_at, updated_at, runs, messages)"
    " SELECT convert_to('listed-' || n, 'UTF8'), 'omany', 'default', n, n, 1, '[]'"
    " FROM generate_series(0, %s - 1) n",
    "INSERT INTO copilot.run (thread, lock, thread_id, run_id, agent_id, state, process, lease,"
    " opened_at, ended_at) SELECT id, 0, thread_id, 'r', 'default', 1, '', now(), updated_at,"
    " updated_at FROM copilot.thread WHERE owner = 'omany' LIMIT %s",
)
_AT_ONCE = 500


@attrs.define
class Place:
    """A place where a store has its threads.

    :param where: as the command's ``--store`` takes it.
    """

    name: str
    where: str
    _server: Any = None
    _directory: Path = attrs.field(default=Path())

    def size(self) -> int:
        """Bytes that the threads take there: of files, or of the server's memory."""
        if self.name == "postgres":
            with self._server.connect() as db:
                db.execute("CHECKPOINT")
                row = db.execute("SELECT pg_database_size(current_database())").fetchone()
                return int(row[0])
        if self.name == "redis":
            with self._server.client() as client:
                return int(client.info("memory")["used_memory"])
        return sum(path.stat().st_size for path in self._directory.iterdir())

    def add_threads(self, threads: int) -> None:
        """Add threads of one run each to PostgreSQL as rows, since by runs it takes minutes."""
        with self._server.connect() as db:
            for statement in _ROWS:
                db.execute(statement, (threads,))
            # A server that is used does that by itself.
            db.execute("VACUUM ANALYZE")

    def processor(self) -> float:
        """Seconds of processor time that its server has used; 0 for a file."""
        return 0.0 if self._server is None else processes.processor_seconds(self._server.pid)

    def logged(self) -> int:
        """Bytes that were written ahead, or to the append-only file."""
        if self.name == "postgres":
            with self._server.connect() as db:
                row = db.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
                return int(row[0])
        if self.name == "redis":
            with self._server.client() as client:
                return int(client.info("persistence")["aof_current_size"])
        return self.size()


@contextlib.contextmanager
def places() -> Iterator[list[Place]]:
    """A place for each kind of store, which is empty."""
    with contextlib.ExitStack() as stack:
        directories = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="copilot-bench-")))
            for _ in range(2)
        ]
        settings = {"fsync": "on", "shared_buffers": "128MB"}
        postgres = stack.enter_context(contextlib.closing(PostgresServer(settings=settings)))
        redis = stack.enter_context(
            contextlib.closing(RedisServer(directories[1], appendfsync="everysec"))
        )
        yield [
            Place("memory", "memory"),
            Place("sqlite", f"sqlite:{directories[0] / 'threads.db'}", directory=directories[0]),
            Place("postgres", postgres.url, postgres),
            Place("redis", redis.url, redis),
        ]


def first_page(place: Place, threads: int) -> float:
    """Milliseconds that a store of so many threads takes for the first page of its list.

    The threads are made beside those that are there.
    """
    store: Any = store_of(place.where)
    try:
        if place.name == "postgres":
            place.add_threads(threads)
        else:
            _run_once(store, threads)
        query = ThreadQuery(owner="many", limit=_PAGE)
        taken = []
        for _ in range(100):
            begun = time.perf_counter()
            page = store.list_threads(query).result()
            taken.append(time.perf_counter() - begun)
            assert len(page.threads) == min(_PAGE, threads)
        return statistics.median(taken) * 1000
    finally:
        store.close()


def _run_once(store: Any, threads: int) -> None:
    """Threads of one run each."""
    waiting: deque[Future[Any]] = deque()
    for number in range(threads):
        thread = f"listed-{number}"
        request = RunRequest(thread, "r", "default", opened_at=float(number), owner="many")
        waiting.append(store.open_run(request))
        if len(waiting) >= _AT_ONCE or number == threads - 1:
            _close(store, waiting)


def _close(store: Any, opened: deque[Future[Any]]) -> None:
    closing = []
    while opened:
        run = opened.popleft().result()
        assert isinstance(run, RunOpened)
        result = RunResult(b"", b"[]", None, ended_at=float(run.key.thread_id.rpartition("-")[2]))
        closing.append(store.close_run(run.key, 0, b"", result))
    for one in closing:
        one.result()


def event_bytes(agent: Any, deltas: int) -> tuple[float, float]:
    """Bytes of an event as it is appended, and of its share of the compacted history."""
    client = Client(CopilotRuntime({"default": agent}))
    body = run_input("t", "r", forwardedProps={"deltas": deltas})
    raw = client.post("/api/copilotkit/agent/default/run", json=body)
    compacted = client.post("/api/copilotkit/agent/default/connect", json=run_input("t", "c"))
    count = len(raw.events())
    return len(raw.body) / count, len(compacted.body) / count
