"""Our runtime and the reference, measured side by side: ``make bench``.

Servers take turns (A B A B ...), so that whatever else the machine does meets both. Every response
is checked; one that is wrong ends its section, and is told at the end. Beside each figure of a
server stands what it cost the server in processor time for each operation (a request, a run, an
event), because the load generator shares the machine: a rate is that of the slower of the two, the
cost is the server's own.

    python benchmarks/run.py                    everything
    python benchmarks/run.py --quick            in three minutes, roughly
    python benchmarks/run.py info short long    some sections

The results go to benchmarks/results/ as JSON, as a table and as a chart.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import core
import figures
import processes
import serve
import stores
from figures import OURS, REFERENCE, Figure
from processes import Load, Server

RESULTS = Path(__file__).parent / "results"
INFO = "/api/copilotkit/info"
SHORT, LONG = 10, 1000
EXTRA_EVENTS = 4
"""The events of a run beside its deltas: two at the beginning, two at the end."""


@attrs.frozen
class Settings:
    """The sizes and numbers of a benchmark."""

    seconds: float
    warm_seconds: float
    rounds: int
    memory_rounds: int
    concurrency: tuple[int, ...]
    paced_streams: tuple[int, ...]
    readers: tuple[int, ...]
    thread_runs: tuple[int, ...]
    idle_streams: int
    many_streams: int
    stored_threads: int
    growth_runs: int
    listed_threads: int


FULL = Settings(
    seconds=3.0,
    warm_seconds=6.0,
    rounds=5,
    memory_rounds=3,
    concurrency=(1, 16, 256),
    paced_streams=(100, 300, 1000),
    readers=(1, 100, 1000),
    thread_runs=(10, 100, 1000),
    idle_streams=5000,
    many_streams=10_000,
    stored_threads=100,
    growth_runs=10_000,
    listed_threads=100_000,
)
QUICK = Settings(
    seconds=0.7,
    warm_seconds=3.0,
    rounds=2,
    memory_rounds=1,
    concurrency=(16,),
    paced_streams=(100,),
    readers=(1, 100),
    thread_runs=(10, 1000),
    idle_streams=1000,
    many_streams=2000,
    stored_threads=10,
    growth_runs=2000,
    listed_threads=10_000,
)
LESS: dict[str, Any] = {"more_is_better": False}
SPARE_FILES = 200
"""The files that a process opens beside the streams."""
# A short warm-up is enough for code that is not compiled while it runs, and for allocators.
BRIEFLY = 0.5


class Bench:
    """The servers and the load generator, begun when they are first needed."""

    def __init__(self, settings: Settings, *, use_wrk: bool) -> None:
        self.settings = settings
        self.use_wrk = use_wrk
        self.load = Load()
        self.done: list[Figure] = []
        self._pair: list[Server] = []

    def pair(self) -> list[Server]:
        """Our asyncio binding and the reference, warm, as they come."""
        if not self._pair:
            self._pair += [processes.ours(), processes.reference()]
            for server in self._pair:
                self.warm(server)
        return self._pair

    @contextlib.contextmanager
    def fresh(self, *servers: Server) -> Iterator[Sequence[Server]]:
        """Servers of a section's own; the common pair is ended, so that it takes nothing."""
        self.end_pair()
        try:
            yield servers
        finally:
            for server in servers:
                server.close()

    def warm(self, server: Server, *, briefly: bool = False) -> None:
        """Let just-in-time compilers and allocators do what they do once.

        The reference needs several seconds of each kind of request until they cost what they cost
        from then on, about half of what they did at first.

        :param briefly: for memory; a heap that has grown for long has room that hides growth.
        """
        briefly = briefly or server.name != REFERENCE
        seconds = {"seconds": BRIEFLY if briefly else self.settings.warm_seconds}
        self.load.ask(server, "info", connections=16, **seconds)
        for turns in (False, True):
            self.runs(server, 16, {"deltas": SHORT, "turns": turns}, **seconds)
            self.runs(server, 4, {"deltas": LONG, "turns": turns}, **seconds)

    def end_pair(self) -> None:
        """End the common servers."""
        for server in self._pair:
            server.close()
        self._pair.clear()

    def restart(self) -> None:
        """Go on with new processes, after a failure that may have left the others in any state."""
        self.close()
        self.load = Load()

    def close(self) -> None:
        """End everything."""
        self.end_pair()
        self.load.close()

    def figure(self, section: str, name: str, unit: str, **more: Any) -> Figure:
        """A new figure for the results."""
        figure = Figure(section, name, unit, **more)
        self.done.append(figure)
        return figure

    def alternate(
        self, servers: Sequence[Server], measure: Callable[[Server], object], rounds: int = 0
    ) -> None:
        """A B A B ..."""
        for _ in range(rounds or self.settings.rounds):
            for server in servers:
                measure(server)

    def runs(
        self, server: Server, connections: int, props: Mapping[str, Any], **more: Any
    ) -> dict[str, Any]:
        """Runs for the usual time."""
        usual = {"connections": connections, "props": props, "seconds": self.settings.seconds}
        return self.load.ask(server, "runs", **(usual | more))


def cost_of(result: Mapping[str, Any], count: float | None = None) -> dict[str, Any]:
    """Return what a figure is told beside its value.

    :param count: the operations, if they are others than those counted by the load generator.
    """
    cost = {"cpu": result["cpu"], "count": result["count"] if count is None else count}
    if "client_cpu" in result:
        cost["client"] = result["client_cpu"] / result["seconds"]
    return cost


# --- Sections -----------------------------------------------------------------------------------


def run_core(bench: Bench) -> None:
    """The core alone, without a socket."""
    for name, microseconds in core.measure():
        figure = bench.figure("core", f"core: {name}", "us", more_is_better=False)
        figure.add(OURS, microseconds)


def measure_info(bench: Bench, figure: Figure, server: Server) -> None:
    """GET /info on 16 connections."""
    seconds = bench.settings.seconds
    if bench.use_wrk:
        checked = bench.load.ask(server, "info", connections=1, seconds=0.1)
        result = processes.wrk(server, INFO, 16, seconds)
        if abs(result["bytes"] / result["count"] - checked["size"]) > 1:
            raise processes.BenchmarkError(f"{server.name}: responses of another length")
    else:
        result = bench.load.ask(server, "info", connections=16, seconds=seconds)
    figure.add(server.name, result["count"] / result["seconds"], **cost_of(result))


def run_info(bench: Bench) -> None:
    """GET /info."""
    figure = bench.figure("info", "GET /info", "requests/s", target=2)
    bench.alternate(bench.pair(), lambda server: measure_info(bench, figure, server))


HOW = ((True, "each in a turn"), (False, "all at once"))


def short_runs(bench: Bench, figure: Figure, servers: Sequence[Server], turns: bool) -> None:
    """Short runs on 16 connections, each beginning when the one before has ended."""

    def measure(server: Server) -> None:
        result = bench.runs(server, 16, {"deltas": SHORT, "turns": turns})
        figure.add(server.name, result["rate"], **cost_of(result))

    bench.alternate(servers, measure)


def long_runs(bench: Bench, figure: Figure, servers: Sequence[Server], turns: bool) -> None:
    """Measure long runs on 4 connections."""

    def measure(server: Server) -> None:
        result = bench.runs(server, 4, {"deltas": LONG, "turns": turns})
        events = result["count"] * (LONG + EXTRA_EVENTS)
        figure.add(server.name, events / result["seconds"], **cost_of(result, events))

    bench.alternate(servers, measure)


def run_short(bench: Bench) -> None:
    """Short runs."""
    for turns, how in HOW:
        name = f"runs of {SHORT} deltas, {how}"
        figure = bench.figure("short", name, "runs/s", target=5)
        short_runs(bench, figure, bench.pair(), turns)


def run_long(bench: Bench) -> None:
    """Measure long runs, all at once and each event in a turn."""
    for turns, how in HOW:
        name = f"runs of {LONG:,} deltas, {how}"
        figure = bench.figure("long", name, "events/s", target=5)
        long_runs(bench, figure, bench.pair(), turns)


def run_first(bench: Bench) -> None:
    """Time to the first event: as fast as runs go, and with agents that take their time."""
    for streams in bench.settings.concurrency:
        for pause, how in ((0, "back to back"), (20, "20 ms an event")):
            first_event(bench, streams, pause, how)


def first_event(bench: Bench, streams: int, pause: int, how: str) -> None:
    """The same of so many streams."""
    middle = bench.figure(
        "first",
        f"time to first event, {streams} streams, {how}",
        "ms",
        more_is_better=False,
        target=0.25 if streams == 16 else None,
    )
    worst = bench.figure(
        "first", f"the same, 99th percentile ({streams}, {how})", "ms", more_is_better=False
    )

    def measure(server: Server) -> None:
        result = bench.runs(server, streams, {"deltas": SHORT, "turns": True, "pause": pause})
        middle.add(server.name, result["first"]["median"], **cost_of(result))
        worst.add(server.name, result["first"]["p99"])

    bench.alternate(bench.pair(), measure)


def run_paced(bench: Bench) -> None:
    """Streams of 50 events a second: from the yield to the receipt."""
    for streams in bench.settings.paced_streams:
        paced_streams(bench, streams)


def paced_streams(bench: Bench, streams: int) -> None:
    """The same for so many."""
    what = f"{streams:,} streams of 50 events/s"
    middle = bench.figure("paced", f"delay, {what}", "ms", more_is_better=False)
    worst = bench.figure(
        "paced", f"the same, 99th percentile ({streams:,})", "ms", more_is_better=False
    )
    rate = bench.figure("paced", f"delivered of {streams * 50:,} events/s", "events/s")
    slow = set()

    def measure(server: Server) -> None:
        seconds = bench.settings.seconds
        result = bench.load.ask(server, "paced", streams=streams, pause=20, seconds=seconds)
        middle.add(server.name, result["delay"]["median"], **cost_of(result))
        worst.add(server.name, result["delay"]["p99"])
        rate.add(server.name, result["rate"])
        if result["rate"] < result["nominal"] * 0.8:
            slow.add(server.name)

    bench.alternate(bench.pair(), measure, min(2, bench.settings.rounds))
    if slow:
        rate.note = f"did not keep up, so that its delays are those of an overload: {slow}"


def run_fanout(bench: Bench) -> None:
    """Measure a run with many readers."""
    for readers in bench.settings.readers:
        fan_out(bench, readers, 1000 if readers <= 100 else 200)


def fan_out(bench: Bench, readers: int, deltas: int) -> None:
    """The same for so many readers."""
    name = f"one run of {deltas:,} deltas, {readers:,} readers"
    figure = bench.figure("fanout", name, "events*readers/s")

    def measure(server: Server) -> None:
        result = bench.load.ask(server, "fanout", readers=readers, deltas=deltas)
        # The cost in processor time is left out, because the readers connect before the clock
        # starts.
        figure.add(server.name, result["count"] / result["seconds"])

    bench.alternate(bench.pair(), measure)


def run_connect(bench: Bench) -> None:
    """Connect to a thread of many runs."""
    servers = (processes.ours(unbounded=True), processes.reference(unbounded=True))
    with bench.fresh(*servers):
        for runs in bench.settings.thread_runs:
            connect_to(bench, servers, runs)


def connect_to(
    bench: Bench, servers: Sequence[Server], runs: int, section: str = "connect"
) -> None:
    """The same to a thread of so many."""
    of = {"runs": runs, "deltas": SHORT}
    threads = {server.name: bench.load.ask(server, "fill", **of) for server in servers}
    whole = bench.figure(
        section,
        f"connect to {runs:,} runs of {SHORT} deltas, whole",
        "ms",
        more_is_better=False,
        target=0.1 if (runs, section) == (1000, "connect") else None,
    )
    first = bench.figure(section, f"the same, first event ({runs:,})", "ms", more_is_better=False)

    def measure(server: Server) -> None:
        thread = threads[server.name]
        where = {"thread": thread["thread"], "run": thread["run"]}
        seconds = bench.settings.seconds
        result = bench.load.ask(server, "connect", seconds=seconds, **of, **where)
        whole.add(server.name, result["whole"]["median"], **cost_of(result))
        first.add(server.name, result["first"]["median"])

    bench.alternate(servers, measure)


def settled_memory(bench: Bench, server: Server) -> int:
    """Resident bytes after garbage was collected, twice, since much of it dies in stages."""
    for _ in range(2):
        props = {"collect": True, "deltas": 1}
        bench.load.ask(server, "runs", connections=1, count=1, props=props)
        time.sleep(0.3)
    return server.memory()


def memory_servers(*, unbounded: bool) -> Iterator[Callable[[], Server]]:
    """Yield each server anew, because memory that a server has let go stays resident."""
    yield lambda: processes.ours(unbounded=unbounded)
    yield lambda: processes.reference(unbounded=unbounded)


def run_idle(bench: Bench) -> None:
    """The memory of streams whose agents wait."""
    streams = bench.settings.idle_streams
    figure = bench.figure(
        "idle",
        f"memory of an idle stream, of {streams:,}",
        "KiB",
        more_is_better=False,
        target=0.25,
    )
    for _ in range(bench.settings.memory_rounds):
        for start in memory_servers(unbounded=False):
            with bench.fresh(start()) as (server,):
                bench.warm(server, briefly=True)
                before = settled_memory(bench, server)
                bench.load.ask(server, "hold", streams=streams)
                taken = settled_memory(bench, server) - before
                figure.add(server.name, taken / streams / 1024)
                bench.load.ask(server, "release")


def run_many(bench: Bench) -> None:
    """As many streams as the limits of a process and our default ones were made for.

    All of them are open at once, each has its first event, and then each has to receive the rest
    of its run, whole and in order.
    """
    streams = bench.settings.many_streams
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if open_files < streams + SPARE_FILES:
        raise processes.BenchmarkError(
            f"a process may open {open_files} files, {streams + SPARE_FILES} are needed: ulimit -n"
        )
    many = f"{streams:,}"
    each = bench.figure("many", f"memory of each of {many} open streams", "KiB", **LESS)
    whole = bench.figure("many", f"memory of the server with {many}", "MiB", **LESS)
    opening = bench.figure("many", f"opening {many} streams, to the first event", "s", **LESS)
    ending = bench.figure("many", f"the rest of {many} streams", "s", **LESS)
    for _ in range(bench.settings.memory_rounds):
        for start in memory_servers(unbounded=False):
            with bench.fresh(start()) as (server,):
                bench.warm(server, briefly=True)
                before = settled_memory(bench, server)
                opened = bench.load.ask(server, "many", streams=streams, gate="many")
                with_all = settled_memory(bench, server)
                rest = bench.load.ask(server, "rest_of_many", gate="many")
                each.add(server.name, (with_all - before) / streams / 1024)
                whole.add(server.name, with_all / 2**20)
                opening.add(server.name, opened["seconds"], **cost_of(opened))
                ending.add(server.name, rest["seconds"], **cost_of(rest))


def run_stored(bench: Bench) -> None:
    """The memory of stored events."""
    threads, runs, deltas = bench.settings.stored_threads, 20, 500
    figure = bench.figure(
        "stored",
        f"memory of a stored event ({threads} threads of {runs} runs of {deltas} deltas)",
        "bytes",
        more_is_better=False,
    )
    for _ in range(bench.settings.memory_rounds):
        for start in memory_servers(unbounded=True):
            with bench.fresh(start()) as (server,):
                bench.warm(server, briefly=True)
                before = settled_memory(bench, server)
                for _ in range(threads):
                    bench.load.ask(server, "fill", runs=runs, deltas=deltas)
                taken = settled_memory(bench, server) - before
                figure.add(server.name, taken / (threads * runs * (deltas + EXTRA_EVENTS)))


def run_growth(bench: Bench) -> None:
    """Memory over many runs, with the default limits of both stores (1,000 threads)."""
    runs = bench.settings.growth_runs
    after = bench.figure(
        "growth", f"memory after {runs:,} runs of {SHORT} deltas", "MiB", more_is_better=False
    )
    begin = bench.figure("growth", "the same before the first run", "MiB", more_is_better=False)
    late = bench.figure(
        "growth", "growth over the second half of them", "bytes/run", more_is_better=False
    )
    for start in memory_servers(unbounded=False):
        with bench.fresh(start()) as (server,):
            sizes = [settled_memory(bench, server)]
            for _ in range(2):
                props = {"deltas": SHORT}
                bench.load.ask(server, "runs", connections=16, count=runs // 2, props=props)
                sizes.append(settled_memory(bench, server))
            begin.add(server.name, sizes[0] / 2**20)
            after.add(server.name, sizes[2] / 2**20)
            late.add(server.name, (sizes[2] - sizes[1]) / (runs / 2))


def run_floor(bench: Bench) -> None:
    """Against a server that only sends the same bytes."""
    bench.end_pair()
    with (
        tempfile.TemporaryDirectory(prefix="copilot-bench-") as directory,
        contextlib.closing(processes.ours()) as server,
    ):
        bench.warm(server)
        for turns, how in HOW:
            above_floor(bench, server, Path(directory), SHORT, turns, how)
            above_floor(bench, server, Path(directory), LONG, turns, how)


def above_floor(
    bench: Bench, server: Server, directory: Path, deltas: int, turns: bool, how: str
) -> None:
    """The same for runs of so many deltas."""
    props = {"deltas": deltas, "turns": turns}
    file = directory / f"{deltas}-{turns}"
    recorded = bench.load.ask(server, "record", file=str(file), props=props)
    replay = {"path": "/turns" if turns else "/whole", "ids": recorded["ids"]}
    noun, each, connections = "runs", 1, 16
    if deltas == LONG:
        noun, each, connections = "events", deltas + EXTRA_EVENTS, 4
    name = f"runs of {deltas:,} deltas, {how}"
    target = 1 / 3 if deltas == LONG and turns else None
    figure = bench.figure("floor", f"floor: {name}", f"{noun}/s", against="floor", target=target)

    def measure(one: Server) -> None:
        more = replay if one.name == "floor" else {}
        result = bench.runs(one, connections, props, **more)
        count = result["count"] * each
        figure.add(one.name, count / result["seconds"], **cost_of(result, count))

    with contextlib.closing(processes.floor(file)) as floor:
        bench.alternate((server, floor), measure)


def run_bindings(bench: Bench) -> None:
    """Measure each binding beside the others, and an endpoint of FastAPI that only has runs."""
    names = ["asyncio", "trio", "sockets", "asgi", "wsgi"]
    if importlib.util.find_spec("uvloop"):
        names.insert(1, "uvloop")
    with contextlib.ExitStack() as stack:
        bench.end_pair()
        servers = [stack.enter_context(contextlib.closing(processes.ours(name))) for name in names]
        for server in servers:
            bench.warm(server)
        bare = stack.enter_context(contextlib.closing(processes.bare()))
        info = bench.figure("bindings", "GET /info", "requests/s")
        bench.alternate(servers, lambda server: measure_info(bench, info, server))
        for turns, how in HOW:
            short = bench.figure("bindings", f"runs of {SHORT} deltas, {how}", "runs/s")
            short_runs(bench, short, [*servers, bare], turns)
            long = bench.figure("bindings", f"runs of {LONG:,} deltas, {how}", "events/s")
            long_runs(bench, long, [*servers, bare], turns)


def run_remote(bench: Bench) -> None:
    """A remote agent behind HttpAgent, beside the agent itself, which is asked directly.

    What ours costs is the server in front alone; the agent's own costs the same in both.
    """
    bench.end_pair()
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(contextlib.closing(processes.bare()))
        front = stack.enter_context(contextlib.closing(processes.in_front_of(far)))
        servers = [front, far]
        # The agent is warmed by the same runs, because the front asks it for each.
        bench.warm(front, briefly=True)
        for turns, how in HOW:
            more: dict[str, Any] = {"against": far.name}
            name = f"remote: runs of {SHORT} deltas, {how}"
            short_runs(bench, bench.figure("remote", name, "runs/s", **more), servers, turns)
            name = f"remote: runs of {LONG:,} deltas, {how}"
            long_runs(bench, bench.figure("remote", name, "events/s", **more), servers, turns)
        first = bench.figure("remote", "remote: time to first event", "ms", **LESS, **more)

        def measure(server: Server) -> None:
            result = bench.runs(server, 1, {"deltas": SHORT, "turns": True})
            first.add(server.name, result["first"]["median"])

        bench.alternate(servers, measure)


def run_stores(bench: Bench) -> None:
    """Measure each store beside the others, under asyncio."""
    with contextlib.ExitStack() as stack:
        bench.end_pair()
        places = stack.enter_context(stores.places())
        servers = [
            stack.enter_context(contextlib.closing(processes.with_store(place.name, place.where)))
            for place in places
        ]
        for server in servers:
            bench.warm(server, briefly=True)
        for turns, how in HOW:
            short = bench.figure("stores", f"runs of {SHORT} deltas, {how}", "runs/s")
            short_runs(bench, short, servers, turns)
            long = bench.figure("stores", f"runs of {LONG:,} deltas, {how}", "events/s")
            long_runs(bench, long, servers, turns)
        for streams in (1, 16):
            figure = bench.figure(
                "stores", f"time to first event, {streams} streams, 20 ms an event", "ms", **LESS
            )

            def measure(server: Server, figure: Figure = figure, streams: int = streams) -> None:
                props = {"deltas": SHORT, "turns": True, "pause": 20}
                figure.add(server.name, bench.runs(server, streams, props)["first"]["median"])

            bench.alternate(servers, measure)
        connect_to(bench, servers, max(bench.settings.thread_runs), "stores")
        stored_events(bench, servers, places)
        for server in servers:
            server.close()
        threads = bench.settings.listed_threads
        figure = bench.figure("stores", f"first page of {threads:,} threads", "ms", **LESS)
        for place in places:
            if place.name != "memory":
                figure.add(place.name, stores.first_page(place, threads))


def stored_events(bench: Bench, servers: Sequence[Server], places: Sequence[stores.Place]) -> None:
    """Measure the bytes of a stored event where it is kept, and in the memory of the process."""
    deltas, runs = 500, 20
    raw, compacted = stores.event_bytes(serve.Scripted(), deltas)
    plain = bench.figure("stores", "bytes of an event as it is sent, runs of 500", "bytes", **LESS)
    plain.add("memory", raw)
    saved = bench.figure("stores", "the same, compacted", "bytes", **LESS)
    saved.add("memory", compacted)
    kept = bench.figure("stores", "bytes of a stored event where it is kept", "bytes", **LESS)
    resident = bench.figure("stores", "the same in the memory of the process", "bytes", **LESS)
    for server, place in zip(servers, places, strict=True):
        # The tails that a process keeps of its last runs (32 MiB) are filled first, because their
        # growth is not that of what is stored.
        bench.load.ask(server, "fill", runs=40 * runs, deltas=deltas)
        before, memory = place.size() if place.name != "memory" else 0, server.memory()
        for _ in range(10):
            bench.load.ask(server, "fill", runs=runs, deltas=deltas)
        events = 10 * runs * (deltas + EXTRA_EVENTS)
        resident.add(server.name, max(server.memory() - memory, 0) / events)
        if place.name != "memory":
            kept.add(server.name, (place.size() - before) / events)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "core": run_core,
    "info": run_info,
    "short": run_short,
    "long": run_long,
    "first": run_first,
    "paced": run_paced,
    "fanout": run_fanout,
    "connect": run_connect,
    "idle": run_idle,
    "many": run_many,
    "stored": run_stored,
    "growth": run_growth,
    "floor": run_floor,
    "bindings": run_bindings,
    "remote": run_remote,
    "stores": run_stores,
}


def report(bench: Bench, about: Mapping[str, Any], name: str) -> None:
    """Print the tables, and write everything to the results."""
    pairs = [figure for figure in bench.done if figure.section not in ("bindings", "stores")]
    text = figures.describe(about) + "\n"
    if pairs:
        text += "\n" + figures.table(pairs) + "\n"
    for section in ("bindings", "stores"):
        if every := [figure for figure in bench.done if figure.section == section]:
            text += "\n" + figures.wide_table(every) + "\n"
    for figure in bench.done:
        if figure.note:
            text += f"\n{figure.name}: {figure.note}\n"
    print("\n" + text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    values = {
        "machine": about,
        "settings": attrs.asdict(bench.settings),
        "figures": [figure.as_json() for figure in bench.done],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    (RESULTS / f"{name}.svg").write_text(figures.chart(pairs, about))
    print(f"written to {RESULTS}: {name}.json, {name}.md, {name}.svg")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--rounds", type=int, help="instead of 5, or 2 if quick")
    parser.add_argument("--seconds", type=float, help="of each measurement; else 3, or 0.7")
    parser.add_argument("--no-wrk", action="store_true", help="even if it is installed")
    parser.add_argument("--name", help="of the results; else full, quick, or the sections")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")

    settings = QUICK if options.quick else FULL
    changes = {"rounds": options.rounds, "seconds": options.seconds}
    settings = attrs.evolve(settings, **{key: value for key, value in changes.items() if value})
    name = options.name or "-".join(options.sections) or ("quick" if options.quick else "full")

    # A thousand streams are a thousand files, on either side; inherited by all that is started.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    about = figures.machine()
    cores = os.cpu_count() or 1
    print(figures.describe(about))
    if about["load"] > cores / 4:
        print("The machine is busy with something else: do not believe what follows.")
    # The core says of each 404 that it is one.
    logging.disable(logging.WARNING)
    bench = Bench(settings, use_wrk=not options.no_wrk and shutil.which("wrk") is not None)
    failures = []
    try:
        for section in options.sections or SECTIONS:
            begun = time.monotonic()
            print(f"{section} ...", end=" ", flush=True)
            try:
                SECTIONS[section](bench)
            except processes.BenchmarkError as error:
                # Figures that a section measures before it breaks off count, and so do the other
                # sections.
                failures.append(f"{section} broke off: {error}")
                print("broke off,", end=" ")
                bench.restart()
            print(f"{time.monotonic() - begun:.0f} s")
    finally:
        bench.close()
    report(bench, about, name)
    if failures:
        sys.exit("\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
