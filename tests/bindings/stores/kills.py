"""Servers that are killed (``kill -9``) at random moments of a mixed load, and what is left of it.

    PYTHONPATH=tests python -m bindings.stores.kills --store postgres --times 50

Clients start runs, follow them from the other server, stop some, and resume wherever they were cut
off, until each of their runs has ended. Two servers share a store; one of them is killed again and
again, and replaced. Then is checked, of each run:

- what each reader has got is a prefix of one order, with no event twice and none missing;
- the run has ended, well formed, for every reader that has not been stopped by the test's end;
- a replay from the beginning has all of the text that anybody saw.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs
from soak.databases import DATABASES

from sansio_copilot.events import verify_events
from sansio_copilot.sse import Parser
from sansio_copilot.testing import run_input

BASE = "/api/copilotkit/agent/default"
_PATIENCE = 60.0
_GONE = (OSError, http.client.HTTPException)


@attrs.define
class Server:
    """A server of the spawner."""

    pid: int
    port: int


class Spawner:
    """Begins servers over one store, and ends them."""

    def __init__(self, where: str) -> None:
        here = Path(__file__)
        self._process = subprocess.Popen(
            [sys.executable, str(here.with_name("spawner.py")), where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.servers: list[Server] = []

    def start(self) -> Server:
        """Start another server, and wait until it accepts."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("start", file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        pid, port = map(int, line.split())
        server = Server(pid, port)
        self.servers.append(server)
        return server

    def kill(self, server: Server) -> None:
        """End it as nothing can be prevented."""
        self.servers.remove(server)
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)

    def close(self) -> None:
        """End everything."""
        for server in list(self.servers):
            self.kill(server)
        self._process.kill()
        self._process.communicate()


@attrs.define(eq=False)
class Reader:
    """A reader of one run, who comes again until the run has ended."""

    load: Load
    thread: str
    run: str | None
    seen: list[tuple[str, str]] = attrs.field(factory=list)
    ended: bool = False
    resumes: int = 0

    def read(self) -> None:
        """Read to the end of the run."""
        operation = "run" if self.run is not None else "connect"
        while not self.ended and not self.load.over:
            try:
                self._read(operation)
            except _GONE:
                time.sleep(0.01)
            if self.seen:
                operation = "connect"

    def _read(self, operation: str) -> None:
        run_id = self.run or "connect"
        length = self.load.length_of(self.thread)
        body = run_input(self.thread, run_id, forwardedProps={"length": length})
        headers = {"content-type": "application/json"}
        if self.seen:
            headers["last-event-id"] = self.seen[-1][0]
            self.resumes += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.load.port(), timeout=10)
        try:
            connection.request("POST", f"{BASE}/{operation}", json.dumps(body), headers)
            answer = connection.getresponse()
            if operation == "run" and answer.status == 409:
                # The run was begun by a request whose answer was cut off.
                self.run = None
                raise ConnectionError
            if answer.status != 200:
                raise ConnectionError
            parser = Parser()
            while data := answer.read1(1 << 16):
                self.seen += [(event.id, event.data) for event in parser.feed(data)]
            # The body is whole, because http.client raises an error for one that was cut off. A
            # body without events is the answer for a thread that nobody has begun yet.
            self.ended = bool(self.seen)
            if not self.ended:
                time.sleep(0.02)
        finally:
            connection.close()


class Load:
    """Clients that run, follow and stop."""

    def __init__(self, spawner: Spawner, seed: int) -> None:
        self.spawner = spawner
        self.random = random.Random(seed)
        self.over = False
        self.readers: list[Reader] = []
        self._lengths: dict[str, int | None] = {}
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count()

    def port(self) -> int:
        """The port of one of the servers."""
        servers = self.spawner.servers
        return self.random.choice(servers).port if servers else 1

    def length_of(self, thread: str) -> int | None:
        """Return how far the thread's agent counts; None for one that has to be stopped."""
        return self._lengths[thread]

    def begin(self) -> None:
        """Begin a run of a new thread, with two who follow it, and perhaps one who stops it."""
        thread = f"t{next(self._numbers)}"
        endless = self.random.random() < 0.3
        self._lengths[thread] = None if endless else self.random.choice((0, 5, 50, 150))
        for run in ("r", None, None):
            reader = Reader(self, thread, run)
            self.readers.append(reader)
            self._spawn(reader.read)
        if endless:
            self._spawn(self._stop, thread)

    def _spawn(self, function: Any, *args: Any) -> None:
        one = threading.Thread(target=function, args=args, daemon=True)
        one.start()
        self._threads.append(one)

    def _stop(self, thread: str) -> None:
        """Stop the thread's run, and each that follows because nobody has seen it begin."""
        time.sleep(0.2)
        mine = [one for one in self.readers if one.thread == thread]
        while not self.over and not all(one.ended for one in mine):
            connection = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=10)
            try:
                connection.request("POST", f"{BASE}/stop/{thread}")
                connection.getresponse().read()
            except _GONE:
                pass
            finally:
                connection.close()
            time.sleep(0.05)

    def join(self) -> None:
        """Wait until every reader has read its run to the end."""
        until = time.monotonic() + _PATIENCE
        for one in self._threads:
            one.join(max(until - time.monotonic(), 0.0))
        self.over = True
        waiting = [(one.thread, one.run, len(one.seen)) for one in self.readers if not one.ended]
        assert not waiting, f"they did not end: {waiting}"


def check(load: Load) -> None:
    """Check that the parts of every run that readers have got fit together."""
    by_thread: dict[str, list[Reader]] = {}
    for reader in load.readers:
        by_thread.setdefault(reader.thread, []).append(reader)
    for thread, readers in by_thread.items():
        order: dict[str, str] = {}
        for reader in readers:
            for event_id, data in reader.seen:
                assert order.setdefault(event_id, data) == data, (thread, event_id)
            for before, after in itertools.pairwise(reader.seen):
                check_order(before[0], after[0])
        for reader in readers:
            events = [json.loads(data) for _, data in reader.seen]
            verify_events(events)
            assert events[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR"), thread
        replay = Reader(load, thread, None)
        load.over = False
        replay.read()
        load.over = True
        told = text_of(replay)
        assert told == text_of(max(readers, key=lambda one: len(text_of(one)))), thread
        assert told == "".join(f"{number} " for number in range(len(told.split()))), thread


def check_order(before: str, after: str) -> None:
    """Check that an event id follows another: the next of its run, or the first of another run."""
    (run, _, place), (next_run, _, next_place) = before.rpartition("."), after.rpartition(".")
    if run == next_run:
        assert place.startswith("c") == next_place.startswith("c"), (before, after)
        assert int(next_place.lstrip("c")) == int(place.lstrip("c")) + 1, (before, after)
    else:
        assert int(next_run.partition(".")[0]) > int(run.partition(".")[0]), (before, after)
        assert next_place.lstrip("c") == "0", (before, after)


def text_of(reader: Reader) -> str:
    """Return the agent's text, as this reader has got it."""
    events = [json.loads(data) for _, data in reader.seen]
    return "".join(event.get("delta", "") for event in events)


def kill_at_random(where: str, times: int, seed: int) -> Load:
    """Kill servers at random moments of a load; returns what the load has seen, checked.

    :param where: the store, as :func:`.spawner.store_at` takes it.
    """
    with contextlib.closing(Spawner(where)) as servers:
        load = Load(servers, seed)
        servers.start()
        servers.start()
        for _ in range(times):
            for _ in range(load.random.randint(1, 3)):
                load.begin()
            time.sleep(load.random.random() * 0.3)
            servers.kill(load.random.choice(servers.servers))
            servers.start()
        load.join()
        check(load)
    return load


def main() -> None:
    """Do it for one kind of store, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    kept = [name for name in DATABASES if name != "memory"]
    parser.add_argument("--store", choices=kept, default="sqlite")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    sys.stdout.write(f"{options.store}: {options.times} kills, seed {options.seed}\n")
    with contextlib.closing(DATABASES[options.store]()) as database:
        load = kill_at_random(database.where, options.times, options.seed)
    resumes = sum(reader.resumes for reader in load.readers)
    events = sum(len(reader.seen) for reader in load.readers)
    sys.stdout.write(
        f"{len(load.readers)} readers got {events} events, resumed {resumes} times: all is whole\n"
    )


if __name__ == "__main__":
    main()
