"""The supervisor, a process that serves nothing itself but keeps workers alive, which serve.

All workers listen on one socket, which the supervisor has bound and never closes while it lives, so
that no connection is refused while one worker takes another's place. A worker is a new process and
not a fork, so that it reads the application anew.

========= =========================================================================================
SIGTERM,  each worker is told to end, as a server is; when all have ended, the supervisor ends. A
SIGINT    second signal kills the workers.
SIGHUP    new workers are begun; when all of them serve, the former workers are told to end. Workers
          that an earlier SIGHUP has begun, and that do not serve yet, end at once.
========= =========================================================================================

A worker that ends by itself is replaced a second later. If its successor ends before it serves, the
other workers go on, and another successor is begun five seconds later. If no worker serves, the
supervisor ends, because a further worker would fail like the others.

A worker ends when its supervisor has gone, for whatever reason, because it waits for the end of a
pipe.
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
"""The environment variable that tells a worker three descriptors: of its socket, of the pipe to say
that it serves, and of the pipe whose end says that the supervisor has gone."""

_PAUSE: Final = 1.0
_LONG_PAUSE: Final = 5.0
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

    @property
    def serves(self) -> bool:
        """Whether it serves, and has not been told to end."""
        return self.ready == -1 and not self.is_told_to_end and self.process.poll() is None

    def end(self) -> None:
        if not self.is_told_to_end and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.is_told_to_end = True


class Supervisor:
    """Keeps workers alive; see the module's description.

    :param arguments: the arguments of the command, which each worker gets as well.
    :param count: the number of workers.
    :param listener: the socket that all workers listen on.
    :param watched: a directory; a change of its Python files acts like a SIGHUP. None to watch
        none.
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
        self._is_complete = False
        """Whether this generation has served, so that its workers are replaced if they end."""
        self._replace_at: float | None = None
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
            # A process that nohup(1) began ignores SIGHUP, and goes on ignoring it.
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
            self._obey_signals()
            self._look_after()
            self._replace()
            if self._watched is not None and not self._ending:
                now = self._stamps()
                if now != stamps:
                    stamps = now
                    logger.info("a Python file has changed: new workers begin")
                    self._begin_generation()
        return 1 if self._failed else 0

    # Workers

    def _begin_generation(self) -> None:
        for worker in self._workers:
            if worker.ready != -1:
                worker.end()
        self._generation += 1
        self._is_complete, self._replace_at = False, None
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
        # A process that the worker has begun may hold the other end, and outlive the worker.
        os.set_blocking(ready, False)
        worker = _Worker(process, ready, self._generation)
        self._workers.append(worker)
        self._selector.register(ready, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> None:
        """Take what a worker has told: it serves, or has ended."""
        try:
            has_begun = bool(os.read(worker.ready, 1))
        except BlockingIOError:
            has_begun = False
        self._selector.unregister(worker.ready)
        os.close(worker.ready)
        worker.ready = -1
        if self._ending or worker.is_told_to_end or worker.generation != self._generation:
            return
        if not has_begun:
            self._give_up(worker)
        elif all(each.ready == -1 for each in self._workers if self._is_latest(each)):
            self._is_complete = True
            for each in self._workers:
                if not self._is_latest(each):
                    each.end()

    def _is_latest(self, worker: _Worker) -> bool:
        return worker.generation == self._generation

    def _give_up(self, worker: _Worker) -> None:
        """Give up a worker of the latest generation that has ended before it served. It has said
        why."""
        worker.end()
        if self._is_complete:
            others = [each for each in self._workers if each.serves]
        else:
            others = [each for each in self._workers if each.serves and not self._is_latest(each)]
            for each in self._workers:
                if self._is_latest(each):
                    each.end()
        if others:
            logger.error("a new worker does not serve: the former ones go on")
            for each in others:
                each.generation = self._generation
            self._is_complete = True
            self._replace_at = time.monotonic() + _LONG_PAUSE
        elif self._watched is not None:
            logger.error("a worker does not serve: change a Python file to try again")
            self._is_complete = False
        else:
            self._failed = self._ending = True

    def _look_after(self) -> None:
        """Forget the workers that have ended."""
        for worker in list(self._workers):
            if worker.process.poll() is None:
                continue
            if worker.ready != -1:
                self._hear(worker)
            self._workers.remove(worker)
            if self._is_latest(worker) and not worker.is_told_to_end and not self._ending:
                logger.error(
                    "worker %d has ended with status %d, another one takes its place",
                    worker.process.pid,
                    worker.process.returncode,
                )

    def _replace(self) -> None:
        """Begin workers in the place of those that have ended by themselves, after a pause."""
        if self._ending or not self._is_complete:
            return
        live = [each for each in self._workers if self._is_latest(each) and not each.is_told_to_end]
        missing = self._count - len(live)
        now = time.monotonic()
        if missing <= 0:
            self._replace_at = None
        elif self._replace_at is None:
            self._replace_at = now + _PAUSE
        elif now >= self._replace_at:
            self._replace_at = None
            for _ in range(missing):
                self._begin()

    def _obey_signals(self) -> None:
        signals = self._signals[:]
        del self._signals[: len(signals)]
        # A SIGHUP that came with others is obeyed once, because each would undo the one before.
        if signal.SIGHUP in signals and not self._ending:
            logger.info("SIGHUP: new workers begin")
            self._begin_generation()
        for number in signals:
            if number != signal.SIGHUP:
                self._end()

    def _end(self) -> None:
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
                    # A missing file is passed over, because an editor may be about to replace it.
                    continue


@attrs.frozen
class Duty:
    """The duty of a worker, as its supervisor has given it.

    :param sock: the socket to listen on.
    """

    sock: socket.socket
    _serves: int
    _life: int

    @classmethod
    def taken(cls) -> Duty | None:
        """Take the duty of this process, once; None if the process is no worker.

        :raises OSError: if no supervisor has set the environment variable.
        """
        given = os.environ.pop(WORKER, None)
        if given is None:
            return None
        try:
            listener, serves, life = map(int, given.split(","))
            return cls(socket.socket(fileno=listener), serves, life)
        except (ValueError, OverflowError, OSError) as error:
            raise OSError(
                f"{WORKER} is set, which only a supervisor sets: {error} "
                f"(the number of processes is {WORKER}S)"
            ) from None

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
