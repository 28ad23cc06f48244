"""A server under test: its process, how a test talks to it, and how it has to end."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sansio_copilot.events import verify_events

from .agents import TO_THE_END
from .client import TIMEOUT, Answer, Client
from .contract import ServerFile
from .forks import Forking
from .resources import Held, handles, held_by
from .runtimes import CONFIG_HEADER

START_TIMEOUT = 60.0
END_TIMEOUT = 30.0
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1
_LAUNCHER = Path(__file__).parent / "launch.py"
_COMPLAINTS = (
    "Traceback",
    "ResourceWarning",
    "was never awaited",
    "was never retrieved",
    "Task was destroyed",
    "Exception ignored",
)

_forking = Forking()
atexit.register(_forking.end)
_claims: list[socket.socket] = []
"""The sockets that keep the ports which were given to one test from others."""


def wait_until(
    reached: Callable[[], bool], what: str = "it is reached", timeout: float = TIMEOUT
) -> None:
    """Poll until ``reached()``, ever more seldom: to ask takes time from what is waited for."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while not reached():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.3, _LONGEST_PAUSE)


class Server:
    """A server that runs, to be talked to. :meth:`end` ends it and says what it did wrong.

    :param limits: which of :data:`LIMITS_OF_A_SERVER` it has.
    """

    runtime = "conformance.runtimes"
    """The module whose ``make_runtime`` makes the runtime that it serves."""

    def __init__(self, file: ServerFile, limits: str = "main") -> None:
        self.file = file
        self.limits = limits
        self.port = free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        command = [*file.python_options, str(_LAUNCHER), self.runtime]
        self.process = _forking.fork(command, str(file.path), [self.port, limits], self._log)

    def wait_ready(self) -> None:
        """Return when it answers, and would end at a signal as it should."""

        def is_ready() -> bool:
            assert self.process.poll() is None, f"{self.file.name} has ended:\n{self.log()}"
            try:
                socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()
                self.request("GET", "/info")
            except ConnectionError:
                return False
            return "clean-exit" in self.file.cannot or handles(self.process.pid, signal.SIGTERM)

        wait_until(is_ready, f"{self.file.name} answers", START_TIMEOUT)

    def log(self, since: int = 0) -> str:
        """Return what the server wrote to stdout and stderr, behind the first ``since`` bytes."""
        # read() would move the place in the file, which is the process's too, and it may be
        # writing.
        file = self._log.fileno()
        return os.pread(file, self.log_size() - since, since).decode("utf-8", "replace")

    def log_size(self) -> int:
        """Return how many bytes it has written."""
        return os.fstat(self._log.fileno()).st_size

    def held(self) -> Held:
        """Return what the server holds now: descriptors, threads, memory."""
        return held_by(self.process.pid)

    def end(self, number: signal.Signals = signal.SIGTERM) -> list[str]:
        """End it by a signal; returns what is wrong with how it ended."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> list[str]:
        """Wait for its end; returns what is wrong with it."""
        wrong = []
        try:
            self.process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            wrong.append(f"it still runs {END_TIMEOUT} s after the signal")
        self.kill()
        log = self.log()
        if self.process.returncode != 0 and "clean-exit" not in self.file.cannot:
            wrong.append(f"its exit status is {self.process.returncode}")
        wrong += [f"its log has {complaint!r}" for complaint in _COMPLAINTS if complaint in log]
        self.close_log()
        return [f"{self.file.name}: {', '.join(wrong)}:\n{_excerpt(log)}"] if wrong else []

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.wait()

    def close_log(self) -> None:
        """Close the log, because nobody is going to read it any more."""
        self._log.close()

    # Talking to it

    def client(self, config: str = "main", *, receive_buffer: int = 0) -> Client:
        """A new connection; if its buffer is small, the server notices when it does not read."""
        return Client(self.port, self.file.base_path, {CONFIG_HEADER: config}, receive_buffer)

    @contextlib.contextmanager
    def clients(self, count: int, config: str = "main") -> Iterator[list[Client]]:
        """Open ``count`` new connections."""
        with contextlib.ExitStack() as opened:
            yield [opened.enter_context(self.client(config)) for _ in range(count)]

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        config: str = "main",
    ) -> Answer:
        """A whole request on a connection of its own; ``path`` is below the base path."""
        with self.client(config) as client:
            return client.request(method, path, body, headers)

    def run(self, operation: str, thread: str, *, config: str = "main", **options: Any) -> Answer:
        """A whole stream on a connection of its own; see :meth:`Client.stream`."""
        with self.client(config) as client:
            return client.stream(operation, thread, **options).receive()

    def stop(self, thread: str, *, agent: str = "default", config: str = "main") -> bool:
        """Ask for the thread's run to be stopped; whether there was one."""
        answer = self.request("POST", f"/agent/{agent}/stop/{thread}", config=config)
        assert answer.status == 200
        stopped: bool = answer.json()["stopped"]
        return stopped

    # Agents

    def let(self, *threads: str, steps: int = TO_THE_END) -> None:
        """Let the agent of each thread take some steps; by default all that it needs to end."""
        self._control("let", thread=threads, steps=steps)

    def gate(self, thread: str) -> dict[str, Any]:
        """Return what is known of the agents of ``thread``."""
        return self._control("gate", thread=thread)

    def waits(self, thread: str, count: int) -> bool:
        """Return whether so many agents of ``thread`` wait to be let."""
        return bool(self.gate(thread)["waiting"] == count)

    def wait_unwound(self, thread: str, count: int = 1) -> None:
        """Return when so many agents of ``thread`` have ended."""
        wait_until(
            lambda: bool(self.gate(thread)["unwound"] >= count), f"{thread}'s agent has ended"
        )

    def objects(self) -> Counter[str]:
        """Return how many objects of ours are alive in it, by type."""
        return Counter(self._control("objects"))

    @contextlib.contextmanager
    def bystander(self, thread: str, config: str = "main") -> Iterator[None]:
        """Another run goes on beside the context, from before it until after it."""
        with self.client(config) as client:
            begun = client.stream("run", thread).events(2)
            yield
            self.let(thread)
            events = begun + client.rest()
        verify_events(events)
        assert "".join(event.get("delta", "") for event in events) == "01234"
        assert events[-1]["type"] == "RUN_FINISHED"

    @contextlib.contextmanager
    def without_collector(self) -> Iterator[None]:
        """Meanwhile objects that refer to each other in a circle stay alive."""
        self._control("collector", runs="")
        try:
            yield
        finally:
            self._control("collector", runs="1")

    @contextlib.contextmanager
    def nothing_is_left(self, *but: str) -> Iterator[None]:
        """No object is left in the end of what is done within the context.

        :param but: types of which there may be more.
        """
        # A store takes note of frames that were dropped when it is used the next time. A metric is
        # made for each route, status and agent that comes for the first time.
        but = (*but, "_Unread", "Counter", "Sum", "Histogram")
        # The objects are counted thrice, because a bystander may be between two states, and what it
        # has in either is no leak.
        before = self.objects() | self.objects() | self.objects()
        yield
        left: Counter[str] = Counter()

        def is_clean() -> bool:
            nonlocal left
            left = self.objects() - before
            return not left.keys() - set(but)

        try:
            wait_until(is_clean, "nothing is left")
        except AssertionError:
            raise AssertionError(f"there are more than before: {dict(left)}") from None

    def _control(self, command: str, **query: Any) -> dict[str, Any]:
        answer = self.request("POST", f"/control/{command}?{urlencode(query, doseq=True)}")
        assert answer.status == 200, answer
        known: dict[str, Any] = json.loads(answer.body)
        return known


class Servers:
    """The servers that are running, all of one file; others take their place when asked for."""

    def __init__(self) -> None:
        self._running: dict[str, Server] = {}

    def get(self, file: ServerFile, limits: str = "main") -> Server:
        """The server made of ``file`` with ``limits``, which tests share."""
        problems = []
        if any(server.file != file for server in self._running.values()):
            problems = self.end()
        if limits not in self._running:
            self._running[limits] = Server(file, limits)
            self._running[limits].wait_ready()
        assert not problems, "\n".join(problems)
        return self._running[limits]

    def end(self) -> list[str]:
        """End the servers, if there are any; returns what is wrong with how they ended."""
        running, self._running = self._running, {}
        return [problem for server in running.values() for problem in server.end()]


def _excerpt(log: str) -> str:
    """Return the part of a log that tells why it is complained about: a whole one is megabytes."""
    first = min((log.index(complaint) for complaint in _COMPLAINTS if complaint in log), default=-1)
    return log[-6000:] if first < 0 else log[max(first - 3000, 0) : first + 3000]


def free_port() -> int:
    """A port that no other test has been given.

    It is below those that a system gives to clients, who could take it before the server does.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            # The name keeps other processes from this port until this process ends, because each
            # claims the name of a port before it uses the port.
            claim.bind(f"\0sansio-copilot-tests/{port}")
            _claims.append(claim)
            return port
