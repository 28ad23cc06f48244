"""The resources that the process of a server holds, as Linux tells them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import attrs

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ESTABLISHED, _LISTEN = "01", "0A"
"""States of a socket in /proc/net/tcp (Linux, include/net/tcp_states.h)."""


@attrs.frozen
class Held:
    """The resources that a process and its children hold.

    :param resident: bytes of memory.
    """

    descriptors: int = 0
    threads: int = 0
    resident: int = 0

    def __add__(self, other: Held) -> Held:
        return Held(
            self.descriptors + other.descriptors,
            self.threads + other.threads,
            self.resident + other.resident,
        )


def held_by(pid: int) -> Held:
    """Return what ``pid`` and its children hold now. A process that has ended holds nothing."""
    process, held = Path(f"/proc/{pid}"), Held()
    with contextlib.suppress(OSError):
        held = Held(
            len(os.listdir(process / "fd")),
            len(os.listdir(process / "task")),
            int((process / "statm").read_text().split()[1]) * _PAGE,
        )
        for children in process.glob("task/*/children"):
            for child in children.read_text().split():
                held += held_by(int(child))
    return held


def handles(pid: int, number: signal.Signals) -> bool:
    """Return whether the process does something of its own at a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, mask = line.partition(":")
        if name == "SigCgt":
            return bool(int(mask, 16) >> (number - 1) & 1)
    return False


def is_open(port: int, client_port: int) -> bool:
    """Return whether the process that listens on ``port`` holds that client's connection open."""
    return any(
        remote == client_port and state == _ESTABLISHED
        for remote, state, inode in _connections(port)
    )


def has_connections(port: int) -> bool:
    """Return whether the process that listens on ``port`` has not yet closed all that it accepted.

    A client that has closed its end is still held until the server has noticed it.
    """
    return any(state != _LISTEN and inode != "0" for _, state, inode in _connections(port))


def _connections(port: int) -> Iterator[tuple[int, str, str]]:
    """Yield for each socket on ``port``: the client's port, its state, 0 if no process holds it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1][9:], 16) == port:
            yield int(fields[2][9:], 16), fields[3], fields[9]
