"""A mixed load on one server for as long as is wanted, and whether the server bears it.

The load comes in rounds. In each, some callers take scenario after scenario from a pack that they
shuffle, until the round is over; then all of them are waited for, so that nothing goes on, and what
the server holds is written down. The first event of any stream that is not the one that had to come
ends the soak; at the end so does what has grown (growth.py says how that is told).
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
from conformance.contract import find_server
from conformance.process import Server, wait_until
from conformance.resources import has_connections

from .databases import DATABASES, Database, Trouble
from .growth import FEWEST, grown
from .runtime import TAILS
from .scenarios import SCENARIOS, Caller

BINDINGS = {
    "asyncio": "asyncio_server",
    "trio": "trio",
    "sockets": "sockets",
    "asgi": "uvicorn",
    "wsgi": "gunicorn",
}
"""The server that stands for each binding, by its name in the conformance suite."""
CALLERS = 12
LONGEST_ROUND = 10.0
"""Seconds."""
MIB = 2**20
SLACK = {
    "memory": 16 * MIB,
    "blocks of memory": 3000,
    "objects": 500,
    "descriptors": 1,
    # A store forgets what its readers have let go of at its next call, and nobody makes one then.
    "sansio_copilot.stores.memory.eviction._Unread": CALLERS,
}
KEPT_SLACK = {
    "memory": 48 * MIB,
    "blocks of memory": 20_000,
    "objects": 10_000,
    "copilot_bindings.stores.tails._Tail": 1000,
    # A pool has its connections when it needs them first, and has others when a database was away.
    "copilot_bindings.stores.sqlite.connection.Busy": 8,
    "copilot_bindings.stores.postgres.link._Impatient": 8,
    "descriptors": 16,
}
"""The growth that a process may have whose threads are kept elsewhere: the ends of a thousand
runs, and what clients of databases keep. A leak of one object a run would be more than that."""
POOLED = {"sockets": 20, "wsgi": 20}
"""How many threads the pool of a binding, or of its server, may begin late; where nothing is said,
those in which hooks are called for all callers at once."""
LIVE = ("sansio_copilot.runs.machine.Run", "sansio_copilot.exchange.machine.Exchange")
"""The classes whose objects exist only as long as something goes on."""
CONNECTION = "copilot_bindings.http1.connection.HTTPConnection"
"""The class that has an object for each connection, until its thread or task has ended."""


class SoakFailure(AssertionError):
    """The server did not bear it."""


class SoakServer(Server):
    """A server with the runtime of the soak."""

    runtime = "soak.runtime"


@attrs.define
class Summary:
    """The summary of a soak: the actions of the load, and what the server held at each quiet point.

    :ivar counts: by what was counted, and by the name of each scenario.
    :ivar troubles: how often what happened to the place of the threads.
    """

    binding: str
    store: str
    seed: int
    seconds: float = 0.0
    counts: Counter[str] = attrs.field(factory=Counter)
    troubles: Counter[str] = attrs.field(factory=Counter)
    held: list[dict[str, float]] = attrs.field(factory=list)

    def __str__(self) -> str:
        lines = [f"{self.binding} over {self.store}: {self.seconds:.0f} s, seed {self.seed}"]
        for name in ("requests", "runs", "events", "resumes", "stops"):
            count = self.counts[name]
            lines.append(f"  {count:9,} {name}, {count / self.seconds:,.0f} a second")
        scenarios = (f"{each.__name__} {self.counts[each.__name__]:,}" for each in SCENARIOS)
        lines.append(f"  {', '.join(scenarios)}")
        if self.troubles:
            happened = (f"{name} {count:,}" for name, count in sorted(self.troubles.items()))
            lines.append(f"  meanwhile the database was: {', '.join(happened)}")
        if self.held:
            first, last = self.held[0], self.held[-1]
            lines.append(f"  at {len(self.held)} quiet points, the first and the last:")
            for name in (
                "memory",
                "blocks of memory",
                "objects",
                "descriptors",
                "threads",
                "tasks",
            ):
                unit, of = ("MiB", MIB) if name == "memory" else ("", 1)
                values = f"{first.get(name, 0) / of:,.0f} {last.get(name, 0) / of:,.0f}"
                lines.append(f"    {name}: {values} {unit}".rstrip())
        return "\n".join(lines)


def soak(
    binding: str,
    seconds: float,
    store: str = "memory",
    *,
    seed: int | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Summary:
    """Load a server for so many seconds, a fifth of them to warm it up.

    :param store: where the threads are kept, with all that goes wrong there.
    :param seed: of all that is left to chance but the order in which things happen.
    :param tell: is told of each quiet point.
    :raises SoakFailure: if anything was not as it must be.
    """
    seed = random.randrange(2**31) if seed is None else seed
    # The server runs without strictness, which takes twice the time, and memory of its own.
    file = attrs.evolve(find_server(BINDINGS[binding]), python_options=())
    summary = Summary(binding, store, seed)
    with contextlib.closing(DATABASES[store]()) as database:
        return _soak(SoakServer(file, database.where), database, summary, seconds, tell)


def _soak(
    server: Server,
    database: Database,
    summary: Summary,
    seconds: float,
    tell: Callable[[str], object],
) -> Summary:
    try:
        server.wait_ready()
        _Soak(server, database, summary, tell).go_on_for(seconds)
        problems = server.end()
    except BaseException:
        server.kill()
        server.close_log()
        raise
    if problems:
        raise SoakFailure(problems[0])
    return summary


class _Soak:
    def __init__(
        self,
        server: Server,
        database: Database,
        summary: Summary,
        tell: Callable[[str], object],
    ) -> None:
        chance = random.Random(f"{summary.seed} trouble")
        self._trouble = Trouble(database, chance, summary.troubles)
        self._server = server
        self._summary = summary
        self._tell = tell
        self._failed = threading.Event()
        self._callers = [
            Caller(
                *(server, f"caller-{number}", random.Random(f"{summary.seed} {number}")),
                loses_answers=bool(database.faults()),
            )
            for number in range(CALLERS)
        ]
        self._packs = [_pack(caller.chance) for caller in self._callers]
        self._loaded = 0.0
        self._idle = self._quiet_point()

    def go_on_for(self, seconds: float) -> None:
        """All rounds."""
        length = min(LONGEST_ROUND, seconds * 0.8 / FEWEST)
        warm = seconds * 0.2
        with ThreadPoolExecutor(CALLERS) as pool:
            # A round takes as long as the scenarios that it began last.
            while self._loaded < seconds - length / 2 or len(self._summary.held) < FEWEST:
                self._round(pool, length)
                held = self._quiet_point()
                if self._loaded >= warm:
                    self._summary.held.append(held)
                memory = held["memory"] / MIB
                self._tell(
                    f"{self._loaded:.0f} s: {self._counts()['events']:,} events, {memory:.0f} MiB"
                )
        self._summary.seconds = self._loaded
        self._summary.counts = self._counts()
        slack = {**SLACK, "threads": POOLED.get(self._summary.binding, CALLERS)}
        if self._summary.store != "memory":
            slack |= KEPT_SLACK
        if found := grown(self._summary.held, slack):
            raise SoakFailure("\n".join([*found, str(self._summary)]))

    def _counts(self) -> Counter[str]:
        return sum((caller.counts for caller in self._callers), Counter())

    def _round(self, pool: ThreadPoolExecutor, seconds: float) -> None:
        begun = time.monotonic()
        each = zip(self._callers, self._packs, strict=True)
        with self._trouble.going_on():
            tasks = [pool.submit(self._call, *one, begun + seconds) for one in each]
            for task in tasks:
                task.result()
        self._loaded += time.monotonic() - begun

    def _call(self, caller: Caller, pack: Iterator[Callable[[Caller], None]], until: float) -> None:
        while time.monotonic() < until and not self._failed.is_set():
            scenario = next(pack)
            caller.counts[scenario.__name__] += 1
            try:
                scenario(caller)
            except Exception as error:
                self._failed.set()
                where = f"{scenario.__name__} of {caller.name}, seed {self._summary.seed}"
                log = self._server.log()
                own = [line for line in log.splitlines() if f"{caller.name}-" in line]
                told = "\n".join([*own[-12:], "...", log[-2000:]])
                raise SoakFailure(f"{where}: {error!r}\n{told}") from error
        caller.hang_up()

    def _quiet_point(self) -> dict[str, float]:
        """Return how much the server holds when all that was going on has ended."""
        self._server.request("POST", "/threads/clear", config="small")
        found: dict[str, float] = {}

        def quiet() -> bool:
            nonlocal found
            found = self._held()
            # The question itself is an exchange, and comes by a connection.
            is_idle = sum(found.get(name, 0) for name in LIVE) == 1
            return is_idle and found.get(CONNECTION, 0) <= 1

        try:
            wait_until(quiet, "runs, exchanges and connections have ended")
        except AssertionError as error:
            live = {name: found.get(name, 0) for name in (*LIVE, CONNECTION)}
            raise SoakFailure(f"{error}: {live}\n{self._server.log()[-2000:]}") from None
        return found

    def _held(self) -> dict[str, float]:
        told: dict[str, Any] = json.loads(self._server.request("GET", "/soak/held").body)
        # The connection of the question is held, as any other that its client has closed, until
        # the server has noticed.
        wait_until(lambda: not has_connections(self._server.port), "connections are closed")
        process = self._server.held()
        # The tails are left out of what may grow, because they fill up to a bound, however long the
        # soak takes. They are not told while the store is away, when the answer is an error.
        resident = process.resident - told.pop(TAILS, 0)
        return {
            **told,
            "memory": resident,
            "descriptors": process.descriptors,
            "threads": process.threads,
        }


def _pack(chance: random.Random) -> Iterator[Callable[[Caller], None]]:
    """Yield each scenario as often as any other, in another order each time."""
    while True:
        yield from chance.sample(SCENARIOS, len(SCENARIOS))
