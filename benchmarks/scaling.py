"""The costs of many hosts over one kind of store: measured for a call, and then simulated.

    python benchmarks/scaling.py                              100 hosts, 1,000,000 streams
    python benchmarks/scaling.py --hosts 4 --streams 20000 --store postgres

First it measures, for half a minute, what an append costs: the host that makes it, the server that
keeps it, and a host that follows the run. Then it simulates: each stream waits for its user, runs,
and waits again, on a host that chance has chosen; some are followed on a second host. For each
second it adds up what all of that costs, with the figures that were measured, and says how many
processes and servers are needed in the busiest second, and what they cost a month.

It is a model. It knows no network, and a server's processor time is taken to add up, which it does
until the processor is full. So nothing is planned for more than a share of it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import attrs
from stores import Place, places

from copilot_bindings.cli.stores import store_of
from sansio_copilot.stores.protocol import RunOpened, RunRequest

FRAME = b'id: 1.abcdef01.%d\ndata: {"type":"TEXT_MESSAGE_CONTENT","delta":"a token or so "}\n\n'
RUNS = 200

# These figures are those of docs/performance.md for the asyncio binding with a store in memory.
EVENT_US = 15.0
RUN_US = 1300.0
STREAM_KIB = 18.0
FULL = 0.6
"""The share of a processor that is planned for."""
# Prices of a large cloud, on demand, as they are about.
CORE_HOUR, GIB_HOUR, DISK_GIB_MONTH = 0.04, 0.005, 0.10
HOURS = 730.0


@attrs.frozen
class Costs:
    """The measured costs of one kind of store.

    :param host_us: processor time of the host that appends, for each append.
    :param server_us: that of the server.
    :param follower_us: what both take more for a host that follows.
    :param rate: appends a second, of one host that does nothing else.
    :param log_bytes: bytes that the server writes to its log for each append.
    """

    host_us: float
    server_us: float
    follower_us: float
    rate: float
    log_bytes: float


class _Runs:
    """Some runs, to which events are appended in turn."""

    def __init__(self, store: Any, name: str) -> None:
        self._store = store
        self._sizes = [0] * RUNS
        self.keys = []
        for number in range(RUNS):
            request = RunRequest(f"{name}-{number}", "r", "agent", opened_at=1.0)
            opened = store.open_run(request).result()
            assert isinstance(opened, RunOpened)
            self.keys.append(opened.key)

    def append(self, seconds: float) -> int:
        """Append for so long; returns how many events were."""
        sizes, rounds = self._sizes, 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            frame = FRAME % rounds
            waiting = [
                self._store.append(key, size, frame)
                for key, size in zip(self.keys, sizes, strict=True)
            ]
            for at, one in enumerate(waiting):
                one.result()
                sizes[at] += len(frame)
            rounds += 1
        return rounds * RUNS

    def close(self) -> None:
        """End them; they leave nothing."""
        for key, size in zip(self.keys, self._sizes, strict=True):
            self._store.close_run(key, size, b"", None).result()


@contextlib.contextmanager
def _followed(place: Place, runs: _Runs) -> Iterator[None]:
    """Meanwhile another store, which stands for another host, follows the runs."""
    store: Any = store_of(place.where)
    is_over = False

    def read(cursor: Any) -> None:
        if is_over:
            # A store that is called again after its end connects anew.
            return
        batch = store.read(cursor, 1 << 16)
        if isinstance(batch, Future):
            batch.add_done_callback(lambda done: wait(done.result()))
        else:
            wait(batch)

    def wait(batch: Any) -> None:
        if not batch.ended:
            store.watch(batch.cursor, lambda: read(batch.cursor))

    for key in runs.keys:
        read(store.open_cursor(key.thread_id, None, None).result())
    try:
        yield
    finally:
        is_over = True
        store.close()


def measure(place: Place, seconds: float) -> Costs:
    """Measure one kind of store."""
    store: Any = store_of(place.where)
    found = []
    for name in ("alone", "followed"):
        runs = _Runs(store, name)
        with contextlib.nullcontext() if name == "alone" else _followed(place, runs):
            runs.append(seconds / 4)
            mine, theirs, logged = time.process_time(), place.processor(), place.logged()
            begun = time.monotonic()
            count = runs.append(seconds)
            found.append(
                (
                    (time.process_time() - mine) / count * 1e6,
                    (place.processor() - theirs) / count * 1e6,
                    count / (time.monotonic() - begun),
                    (place.logged() - logged) / count,
                )
            )
            runs.close()
    store.close()
    (host, server, rate, log_bytes), (host_both, server_both, _, _) = found
    return Costs(
        host, server, max(host_both - host, 0.0) + max(server_both - server, 0.0), rate, log_bytes
    )


# --- The simulation -----------------------------------------------------------------------------


@attrs.frozen
class Use:
    """The use that people make of the hosts.

    :param think_seconds: between two runs of a stream, on average.
    :param run_seconds: of a run, on average.
    :param rate: events a second of a run.
    :param elsewhere: the share of runs that are followed on another host as well.
    """

    hosts: int
    streams: int
    think_seconds: float = 50.0
    run_seconds: float = 10.0
    rate: float = 20.0
    elsewhere: float = 0.1


@attrs.frozen
class Second:
    """The busiest second of a simulation.

    :param runs: live ones, of all hosts.
    :param host_runs: those of the busiest host.
    :param begun: runs that began in it.
    """

    runs: int
    host_runs: int
    begun: int


def simulate(use: Use, seconds: int, chance: random.Random) -> Second:
    """Let all streams think and run; each host's are counted, second by second."""
    share = use.run_seconds / (use.run_seconds + use.think_seconds)
    per_host = use.streams // use.hosts
    live = [round(per_host * share) for _ in range(use.hosts)]
    busiest = Second(0, 0, 0)
    for _ in range(seconds):
        begun = 0
        for host in range(use.hosts):
            begins = _binomial(per_host - live[host], 1 / use.think_seconds, chance)
            ends = _binomial(live[host], 1 / use.run_seconds, chance)
            live[host] += begins - ends
            begun += begins
        if sum(live) > busiest.runs:
            busiest = Second(sum(live), max(live), begun)
    return busiest


def _binomial(count: int, share: float, chance: random.Random) -> int:
    """Return how many of ``count`` it happens to, by the normal approximation."""
    deviation = math.sqrt(count * share * (1 - share))
    return min(max(round(chance.gauss(count * share, deviation)), 0), count)


def tell(name: str, costs: Costs, use: Use, busiest: Second) -> str:
    """Return what that second takes, and what it costs a month, as lines."""
    events = busiest.runs * use.rate
    host_events = busiest.host_runs * use.rate
    host_begun = busiest.begun / use.hosts
    host_us = EVENT_US + costs.host_us + use.elsewhere * costs.follower_us
    host_cores = (host_events * host_us + host_begun * RUN_US) / 1e6 / FULL
    processes = max(math.ceil(host_cores), 1)
    host_gib = use.streams / use.hosts * STREAM_KIB / 2**20 + processes * 0.25
    server_cores = events * (costs.server_us + use.elsewhere * costs.follower_us / 2) / 1e6 / FULL
    # Redis has one core, and a database of sixteen is still a usual one.
    servers = math.ceil(server_cores / (1 if name == "redis" else 16))
    month = HOURS * (
        use.hosts * (processes * CORE_HOUR + host_gib * GIB_HOUR) + server_cores * CORE_HOUR
    )
    written = events * costs.log_bytes / 2**20
    return "\n".join(
        [
            f"{name}: an append costs its host {costs.host_us:.0f} us, the server "
            f"{costs.server_us:.0f} us, a follower {costs.follower_us:.0f} us; "
            f"{costs.rate:,.0f} a second of one host; {costs.log_bytes:.0f} bytes of log",
            f"  {busiest.runs:,} live runs, {events:,.0f} events a second; the busiest host has "
            f"{busiest.host_runs:,} runs",
            f"  each host: {processes} processes of a core, {host_gib:.1f} GiB",
            f"  {name}: {server_cores:,.0f} cores in {servers} servers, {written:,.0f} MiB of log "
            "a second",
            f"  about ${month:,.0f} a month, ${month / use.streams * 1000:.2f} for 1,000 streams",
        ]
    )


def main() -> None:
    """Measure, simulate, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=20.0, help="events a second of a run")
    parser.add_argument("--store", choices=("sqlite", "postgres", "redis"), action="append")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    use = Use(options.hosts, options.streams, rate=options.rate)
    busiest = simulate(use, 600, random.Random(options.seed))
    with places() as all_places:
        for place in all_places:
            if place.name in (options.store or ("postgres", "redis")):
                print(tell(place.name, measure(place, options.seconds), use, busiest), flush=True)


if __name__ == "__main__":
    main()
