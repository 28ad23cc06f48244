"""Each example of a server is started as it is, talked to, and told to end in mid-stream."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest
from conformance.forks import Fork
from conformance.process import free_port
from support.scripts import start_program

from sansio_copilot.testing import run_input

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RUN = "/api/copilotkit/agent/default/run"

UVICORN = ["-m", "uvicorn", "--port", "4000"]
GRANIAN = ["-m", "granian", "--port", "4000", "--interface", "asgi"]
COMMANDS = {
    "asyncio": ["asyncio_server.py"],
    "trio": ["trio_server.py"],
    "sockets": ["sockets_server.py"],
    "own accept loop": ["own_accept_loop.py"],
    "uvicorn": ["uvicorn_server.py"],
    "uvicorn's command": [*UVICORN, "uvicorn_server:app"],
    "hypercorn": ["hypercorn_server.py"],
    "hypercorn with trio": ["hypercorn_trio_server.py"],
    "granian": ["granian_server.py"],
    "granian's command": [*GRANIAN, "granian_server:app"],
    "FastAPI": [*UVICORN, "fastapi_app:app"],
    "FastAPI in granian": [*GRANIAN, "fastapi_app:app"],
    "Starlette": [*UVICORN, "starlette_app:app"],
    "gunicorn": ["-m", "gunicorn", "wsgi_app:app"],
    "waitress": ["waitress_server.py"],
    "wsgiref": ["wsgiref_server.py"],
    "Flask": ["flask_app.py"],
    "Django": ["django_app.py"],
}
WITH_A_PAGE = ("FastAPI", "FastAPI in granian", "Starlette", "Flask", "Django")


def test_every_example_is_tested() -> None:
    started = " ".join(part for command in COMMANDS.values() for part in command)
    # These files are not started, because they are settings or helpers of other examples, or the
    # conformance suite tests them.
    parts = {"gunicorn.conf", "own_server", "toy_binding", "toy_io"}
    for example in EXAMPLES.glob("*.py"):
        assert example.stem in parts or example.stem in started


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_serves(name: str, tmp_path: Path) -> None:
    """An example answers a run, and ends at SIGTERM when the stream that is open has ended."""
    port = free_port()
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder)
    for example in folder.glob("*.py"):
        example.write_text(example.read_text("utf-8").replace("4000", str(port)), "utf-8")
    command = [part.replace("4000", str(port)) for part in COMMANDS[name]]
    with (tmp_path / "log").open("w+b") as log:
        process = start(command, folder, log)
        try:
            client = connect(port, process)
            if name in WITH_A_PAGE:
                client.request("GET", "/")
                assert b"a page of" in client.getresponse().read()
            client.request("POST", RUN, json.dumps(run_input("t")))
            stream = client.getresponse()
            begun = stream.read1()
            assert b"RUN_STARTED" in begun
            process.send_signal(signal.SIGTERM)
            assert b"RUN_FINISHED" in begun + stream.read()
            client.close()
            # uvicorn ends by the signal that it got, unless the process sees to it.
            expected = -signal.SIGTERM if "uvicorn" in command else 0
            assert process.wait(30) == expected
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        written = log.read().decode()
    assert "Traceback" not in written, written
    assert "Warning" not in written, written


def start(command: list[str], folder: Path, log: BinaryIO) -> subprocess.Popen[bytes] | Fork:
    """Run a program in a fork, unless it begins processes that import its main module again."""
    if "granian" in command:
        return subprocess.Popen([sys.executable, *command], cwd=folder, stdout=log, stderr=log)
    return start_program(command, log, cwd=folder)


def connect(port: int, process: subprocess.Popen[bytes] | Fork) -> http.client.HTTPConnection:
    """A connection, as soon as the server is there."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the server has ended"
        try:
            client.connect()
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        else:
            return client
