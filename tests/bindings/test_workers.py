"""Several workers over a MemoryStore: the log says so, by whatever server."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bindings.wire import BASE

from copilot_bindings import _workers
from copilot_bindings._workers import WARNING, warn_of_workers
from sansio_copilot import MemoryStore

HERE = Path(__file__).parent
SERVERS = {
    "uvicorn": "uvicorn {app}asgi --port {port} --workers {workers}",
    "hypercorn": "hypercorn {app}asgi -b 127.0.0.1:{port} -w {workers}",
    "granian": "granian {app}asgi --interface asgi --port {port} --workers {workers}",
    "granian-wsgi": "granian {app}wsgi --interface wsgi --port {port} --workers {workers}",
    "gunicorn": "gunicorn {app}wsgi -b 127.0.0.1:{port} -w {workers} --preload",
}


def serve_and_ask(server: str, log: Path, workers: int, app: str = "") -> str:
    """Have each worker answer a request; returns what the server has logged."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = SERVERS[server].format(app=f"workers_app:{app}", port=port, workers=workers).split()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=HERE, stdout=stream, stderr=stream
        )
    try:
        deadline = time.monotonic() + 60
        seen = 0
        # Which worker answers is the system's to decide, so it is asked until it has warned.
        while seen < 20 or (workers > 1 and not app and WARNING not in log.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline, log.read_text()
            seen += ask(port)
    finally:
        process.terminate()
        process.wait(30)
    return log.read_text()


def ask(port: int) -> int:
    """Ask on a connection of its own; whether it was answered."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", f"{BASE}/info", headers={"connection": "close"})
        assert client.getresponse().read()
    except ConnectionError:
        time.sleep(0.02)
        return 0
    finally:
        client.close()
    return 1


@pytest.mark.parametrize("server", SERVERS)
def test_two_workers_are_warned_of(server: str, tmp_path: Path) -> None:
    log = serve_and_ask(server, tmp_path / "log", 2)
    # gunicorn tells each, of the others the second finds the first.
    assert log.count(WARNING) in ((1, 2) if server.startswith("gunicorn") else (1,))


def test_one_worker_is_not(tmp_path: Path) -> None:
    assert WARNING not in serve_and_ask("uvicorn", tmp_path / "log", 1)


def test_nor_is_a_store_that_may_be_shared(tmp_path: Path) -> None:
    assert WARNING not in serve_and_ask("gunicorn", tmp_path / "log", 2, "shared_")


def test_it_is_said_once_and_not_of_test_clients(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    monkeypatch.setattr(_workers, "_known", set())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        # A port of its own, because other tests of this process have made the name of port 80.
        other.bind(f"\0sansio-copilot/{os.getppid()}/65001")
        for host in ("testserver", "localhost", ""):
            warn_of_workers(store, host, 65001)
        assert not caplog.records
        for _ in range(2):
            warn_of_workers(store, "127.0.0.1", 65001)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
