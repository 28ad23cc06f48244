"""A process that serves nothing itself: it keeps others alive that do.

All of them listen on one socket, which the supervisor has bound and never closes while it lives, so
that no connection is refused while one worker takes another's place. A worker is a process of its
own and not a fork, so that a new one has read the application anew.

========= =========================================================================================
SIGTERM,  each worker is told to end, as a server is; when all have, so does the supervisor. A
SIGINT    second one kills them.
SIGHUP    new workers are begun; when all of them serve, the former are told to end.
========= =========================================================================================

A worker that ends by itself is replaced a second later. One that ends before it has served is not,
since the next would fare no better: the supervisor ends with it, or keeps the workers that it has.
A worker ends when its supervisor has gone, however that went, because it waits for a pipe's end.
"""

from __future__ import annotations

import itertools
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

logger = logging.getLogger(__name__)

WORKER: Final = "SANSIO_COPILOT_WORKER"
"""Tells a worker the descriptors of its socket, of the pipe to say that it serves, and of the one
whose end is the supervisor's."""

_PAUSE: Final = 1.0
_LOOK_SECONDS: Final = 0.5
_MOST_FILES: Final = 20_000
_NOT_WATCHED: Final = frozenset({"node_modules", "__pycache__", "venv"})


@attrs.define(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    ready: int
    """The end of a pipe that has a byte once the worker serves; -1 after that."""
    generation: int
    is_told_to_end: bool = False

    def end(self) -> None:
        if not self.is_told_to_end and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.is_told_to_end = True


class Supervisor:
    """Keeps workers alive; see the module's description.

    :param arguments: those of the command, which each worker gets as well.
    :param count: how many workers there are.
    :param listener: the socket that all of them listen on.
    :param watched: a directory, a change of whose Python files is as a SIGHUP; None to watch none.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        count: int,
        listener: socket.socket,
        watched: Path | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "copilot_bindings.cli", *arguments]
        self._count = count
        self._listener = listener
        self._watched = watched
        self._workers: list[_Worker] = []
        self._generation = 0
        self._signals: list[int] = []
        self._ending = False
        self._failed = False
        self._selector = selectors.DefaultSelector()
        self._life, self._end_of_life = os.pipe()

    def run(self) -> int:
        """Supervise until a signal, or a failure, ends it; returns the exit status."""
        wake, waker = socket.socketpair()
        wake.setblocking(False)
        waker.setblocking(False)
        self._selector.register(wake, selectors.EVENT_READ, None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # nohup(1) has a process ignore SIGHUP.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, frame: self._signals.append(number))
        stamps = self._stamps()
        self._begin_generation()
        while self._workers or not self._ending:
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if key.data is None:
                    wake.recv(4096)
                else:
                    self._hear(key.data)
            while self._signals:
                self._obey(self._signals.pop(0))
            self._look_after()
            if self._watched is not None and not self._ending:
                now = self._stamps()
                if now != stamps:
                    stamps = now
                    logger.info("a Python file has changed: new workers begin")
                    self._begin_generation()
        return 1 if self._failed else 0

    # Workers

    def _begin_generation(self) -> None:
        self._generation += 1
        for _ in range(self._count):
            self._begin()

    def _begin(self) -> None:
        ready, serves = os.pipe()
        descriptors = (self._listener.fileno(), serves, self._life)
        environ = os.environ | {WORKER: ",".join(map(str, descriptors))}
        process = subprocess.Popen(
            self._command,
            env=environ,
            pass_fds=descriptors,
            # A terminal's signals are for the supervisor, which passes them on once.
            start_new_session=True,
        )
        os.close(serves)
        worker = _Worker(process, ready, self._generation)
        self._workers.append(worker)
        self._selector.register(ready, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> None:
        """The worker serves, or has ended."""
        has_begun = bool(os.read(worker.ready, 1))
        self._selector.unregister(worker.ready)
        os.close(worker.ready)
        worker.ready = -1
        if not has_begun:
            self._give_up(worker)
            return
        latest = [each for each in self._workers if each.generation == self._generation]
        if all(each.ready == -1 for each in latest):
            for each in self._workers:
                if each.generation != self._generation:
                    each.end()

    def _give_up(self, worker: _Worker) -> None:
        """A worker has ended before it has served, and has said why."""
        worker.process.wait()
        if self._ending or worker.is_told_to_end or worker.generation != self._generation:
            return
        former = [each for each in self._workers if each.generation != self._generation]
        for each in self._workers:
            if each.generation == self._generation:
                each.end()
        if any(each.process.poll() is None and not each.is_told_to_end for each in former):
            logger.error("a new worker does not serve: the former ones go on")
            for each in former:
                each.generation = self._generation
        elif self._watched is not None:
            logger.error("a worker does not serve: change a Python file to try again")
        else:
            self._failed = self._ending = True

    def _look_after(self) -> None:
        """Replace the workers that have ended by themselves."""
        for worker in list(self._workers):
            if worker.process.poll() is None or worker.ready != -1:
                continue
            self._workers.remove(worker)
            is_current = worker.generation == self._generation
            if is_current and not worker.is_told_to_end and not self._ending:
                logger.error(
                    "worker %d has ended with status %d, another one takes its place",
                    worker.process.pid,
                    worker.process.returncode,
                )
                time.sleep(_PAUSE)
                self._begin()

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP:
            if not self._ending:
                logger.info("SIGHUP: new workers begin")
                self._begin_generation()
            return
        again, self._ending = self._ending, True
        for worker in self._workers:
            if again:
                worker.process.kill()
            else:
                worker.end()

    # Files

    def _stamps(self) -> dict[str, float]:
        """The times of all Python files that are watched."""
        if self._watched is None:
            return {}
        return dict(itertools.islice(_times_in(self._watched), _MOST_FILES))


def _times_in(directory: Path) -> Iterator[tuple[str, float]]:
    for place, directories, files in os.walk(directory):
        directories[:] = [
            each for each in directories if each not in _NOT_WATCHED and not each.startswith(".")
        ]
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(place, name)
                try:
                    yield path, os.stat(path).st_mtime
                except OSError:
                    # An editor may be about to put another file there.
                    continue


@attrs.frozen
class Duty:
    """What a worker has been given by its supervisor.

    :param sock: the socket to listen on.
    """

    sock: socket.socket
    _serves: int
    _life: int

    @classmethod
    def taken(cls) -> Duty | None:
        """That of this process; None if it is no worker. It is taken once."""
        given = os.environ.pop(WORKER, None)
        if given is None:
            return None
        listener, serves, life = map(int, given.split(","))
        return cls(socket.socket(fileno=listener), serves, life)

    def watch(self, end: Callable[[], object]) -> None:
        """Call ``end`` in a thread when the supervisor has gone."""

        def wait() -> None:
            os.read(self._life, 1)
            end()

        threading.Thread(target=wait, name="supervisor", daemon=True).start()

    def say_ready(self) -> None:
        """Tell the supervisor that this process serves."""
        os.write(self._serves, b"1")
        os.close(self._serves)
