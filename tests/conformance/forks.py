"""Processes of servers that are forks of one process, which has imported what all of them need.

The imports of a server take a second of processor time and a fork some milliseconds, and the tests
start several hundred servers. A process that forks has no thread, no event loop and nothing under
way, so that a fork differs from a process of its own in nothing but that the imports are done: it
has its arguments, its log, its signals, and an interpreter that ends with it.

Who asks, and what forks, talk over a pair of sockets that keep messages apart. A message to the
process is the JSON of what a fork is given, with a socket on which is told what becomes of that
fork (its process id, later its exit status), and maybe a file for what the fork writes, or one for
its standard output and one for its standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

_MESSAGE_BYTES = 65536
# Python's development mode guards every block of memory too, which finds faults of extensions that
# are written in C, and takes a tenth of the time.
_ENVIRONMENT = {"PYTHONMALLOC": "pymalloc"}


class Fork:
    """A process that was forked, as :class:`subprocess.Popen` would present it."""

    def __init__(self, by: socket.socket, given: Any, *logs: BinaryIO) -> None:
        self.socket, theirs = _pair()
        """The socket on which the fork takes messages, if it is one that forks."""
        self.returncode: int | None = None
        with theirs:
            files = [theirs.fileno(), *(log.fileno() for log in logs)]
            socket.send_fds(by, [json.dumps(given).encode()], files)
        self.pid: int = self._told()

    def poll(self) -> int | None:
        """Its exit status, or minus the number of the signal that ended it; None if it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return what :meth:`poll` would.

        :raises subprocess.TimeoutExpired: if it still runs after so many seconds.
        """
        if self.returncode is None:
            # A poll is made, because select() takes no descriptor above 1,023.
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
            self.returncode = self._told()
            self.socket.close()
        return self.returncode

    def threads(self) -> list[int]:
        """The numbers that the system has for its threads; the main thread's is the first."""
        return sorted(int(name) for name in os.listdir(f"/proc/{self.pid}/task"))

    def send_signal(self, number: int, to: int | None = None) -> None:
        """Send it a signal, unless it has ended.

        :param to: one of :meth:`threads`, which then is the one that the system interrupts.
        """
        if self.poll() is None:
            # The process may end now, and then its number is free for others.
            with contextlib.suppress(ProcessLookupError):
                if to is None:
                    os.kill(self.pid, number)
                else:
                    ctypes.CDLL(None).tgkill(self.pid, to, number)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Meanwhile it does nothing, and what is sent to it waits for it."""
        self.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it whatever it does."""
        self.send_signal(signal.SIGKILL)

    def _told(self) -> int:
        message = self.socket.recv(_MESSAGE_BYTES)
        assert message, "the process that forks has ended"
        told: int = json.loads(message)
        return told


class Forking:
    """Programs that fork, of each program one with the same options."""

    def __init__(self) -> None:
        self._programs: dict[Sequence[str], tuple[subprocess.Popen[bytes], socket.socket]] = {}
        self._forks: dict[tuple[Sequence[str], str], Fork] = {}

    def fork(self, command: Sequence[str], first: str, given: Any, *logs: BinaryIO) -> Fork:
        """Start a fork of a program that has been given ``first``.

        :param command: the interpreter's options, the program, and its arguments.
        :param first: what a fork of the program makes before it forks in its turn.
        :param given: what the fork of that is given.
        :param logs: a file for all that it writes, or one for each of its two outputs.
        """
        command = tuple(command)
        if (command, first) not in self._forks:
            self._forks[command, first] = Fork(self._program(command), first)
        return Fork(self._forks[command, first].socket, given, *logs)

    def _program(self, command: Sequence[str]) -> socket.socket:
        if command not in self._programs:
            ours, theirs = _pair()
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, *command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=os.environ | _ENVIRONMENT,
                )
            self._programs[command] = process, ours
        return self._programs[command][1]

    def end(self) -> None:
        """End the programs and all of their forks."""
        programs, self._programs = self._programs, {}
        forks, self._forks = self._forks, {}
        for fork in forks.values():
            fork.socket.close()
        for process, ours in programs.values():
            ours.close()
            process.wait()


def forks(told: socket.socket) -> tuple[Any, socket.socket]:
    """Fork as often as ``told`` says; returns only in the forks, with what each is given and its
    socket.

    Ends the process, and the forks that are left, when nobody is there any more to tell it.
    """
    # The objects that exist by now are frozen, because they are no garbage, and a fork whose
    # collector looked at them would copy all of their memory.
    gc.collect()
    gc.freeze()
    # SIGINT is ignored in this process, because the test run that asks it for servers ends it.
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, tuple[int, socket.socket]] = {}
    """The process id and socket of each fork, by the descriptor that tells its end."""
    writing: set[int] = set()
    """The process ids of those that do not hear themselves that nobody is there any more."""
    while True:
        sources: list[Any] = [told, *running]
        ready, _, _ = select.select(sources, [], [])
        for end in ready:
            if end is told:
                message, files, _, _ = socket.recv_fds(told, _MESSAGE_BYTES, 3)
                if not message:
                    for pid in writing:
                        os.kill(pid, signal.SIGKILL)
                    for pid, _ in running.values():
                        os.waitpid(pid, 0)
                    os._exit(0)
                its_socket = socket.socket(fileno=files[0])
                if (pid := os.fork()) == 0:
                    signal.signal(signal.SIGINT, on_interrupt)
                    told.close()
                    for descriptor, (_, others) in running.items():
                        os.close(descriptor)
                        others.close()
                    for output, log in zip((1, 2), 2 * files[1:], strict=False):
                        os.dup2(log, output)
                    for log in files[1:]:
                        os.close(log)
                    return json.loads(message), its_socket
                for log in files[1:]:
                    os.close(log)
                    writing.add(pid)
                _tell(its_socket, pid)
                running[os.pidfd_open(pid)] = pid, its_socket
            else:
                pid, its_socket = running.pop(end)
                os.close(end)
                _, status = os.waitpid(pid, 0)
                writing.discard(pid)
                _tell(its_socket, os.waitstatus_to_exitcode(status))
                its_socket.close()


def _tell(its_socket: socket.socket, what: int) -> None:
    # The error is passed over, because the process that asked may have ended.
    with contextlib.suppress(BrokenPipeError):
        its_socket.send(json.dumps(what).encode())


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
