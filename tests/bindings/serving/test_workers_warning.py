"""Several workers over a MemoryStore: the log says so, by whatever server."""

from __future__ import annotations

import errno
import http.client
import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conformance.process import free_port

from copilot_bindings.serving import workers_warning
from copilot_bindings.serving.workers_warning import WARNING, warn_of_workers
from sansio_copilot import MemoryStore

HERE = Path(__file__).parent
SERVERS = {
    "uvicorn": "uvicorn workers_app:asgi --port {port} --workers {workers}",
    "hypercorn": "hypercorn workers_app:asgi -b 127.0.0.1:{port} -w {workers}",
    "granian": "granian workers_app:asgi --interface asgi --port {port} --workers {workers}",
    "granian-wsgi": "granian workers_app:wsgi --interface wsgi --port {port} --workers {workers}",
    "gunicorn": "gunicorn workers_app:wsgi -b 127.0.0.1:{port} -w {workers} --preload",
}


def warnings_of(server: str, log: Path, workers: int) -> list[int]:
    """How often it has warned when each worker has served a store that may be shared, and one that
    is its own."""
    port = free_port()
    command = SERVERS[server].format(port=port, workers=workers).split()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=HERE, stdout=stream, stderr=stream
        )
    warned = []
    try:
        deadline = time.monotonic() + 60
        for base in ("/shared", "/alone"):
            seen: set[str] = set()
            # The system decides which worker answers.
            while len(seen) < workers:
                assert process.poll() is None
                assert time.monotonic() < deadline, log.read_text()
                seen |= ask(port, base)
            warned.append(log.read_text().count(WARNING))
    finally:
        process.terminate()
        process.wait(30)
    return warned


def ask(port: int, base: str) -> set[str]:
    """Ask on a connection of its own; the worker that has answered, if there is one."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", f"{base}/info", headers={"connection": "close"})
        return set(json.loads(client.getresponse().read())["agents"])
    except ConnectionError:
        time.sleep(0.02)
        return set()
    finally:
        client.close()


@pytest.mark.parametrize("server", SERVERS)
def test_two_workers_are_warned_of_unless_their_store_may_be_shared(
    server: str, tmp_path: Path
) -> None:
    # Under gunicorn each worker learns their number; under the other servers only the second worker
    # warns, because it finds the first.
    expected = 2 if server == "gunicorn" else 1
    assert warnings_of(server, tmp_path / "log", 2) == [0, expected]


def test_a_single_worker_is_not_warned(tmp_path: Path) -> None:
    assert warnings_of("uvicorn", tmp_path / "log", 1) == [0, 0]


def test_the_warning_comes_once_and_not_for_test_clients(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    monkeypatch.setattr(workers_warning, "known", set())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        # The port is one that no other test uses, because other tests of this process have made the
        # name of port 80.
        other.bind(f"\0sansio-copilot/{os.getppid()}/65001")
        for host in ("testserver", "localhost", ""):
            warn_of_workers(store, host, 65001)
        assert not caplog.records
        for _ in range(2):
            warn_of_workers(store, "127.0.0.1", 65001)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_nobody_is_warned_without_a_descriptor(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(workers_warning, "known", set())
    monkeypatch.setattr(socket, "socket", exhausted)
    warn_of_workers(MemoryStore(), "127.0.0.1", 65002)
    assert not caplog.records
