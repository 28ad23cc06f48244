"""What the process of a server holds, as Linux tells it."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import attrs

_PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen
class Held:
    """What a process and its children hold.

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
    """What ``pid`` and its children hold now. One that has ended holds nothing."""
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
    """Whether the process does something of its own at a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, mask = line.partition(":")
        if name == "SigCgt":
            return bool(int(mask, 16) >> (number - 1) & 1)
    return False


def is_open(port: int, client_port: int) -> bool:
    """Whether the process that listens on ``port`` holds that client's connection open."""
    ours, theirs, established = f":{port:04X}", f":{client_port:04X}", "01"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if (local[8:], remote[8:], state) == (ours, theirs, established):
            return True
    return False
