"""Each example of an ASGI server is started as it is, talked to, and told to end in mid-stream."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sansio_copilot.testing import run_input

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RUN = "/api/copilotkit/agent/default/run"

UVICORN = ["-m", "uvicorn", "--port", "4000"]
GRANIAN = ["-m", "granian", "--port", "4000", "--interface", "asgi"]
COMMANDS = {
    "uvicorn": ["uvicorn_server.py"],
    "uvicorn's command": [*UVICORN, "uvicorn_server:app"],
    "hypercorn": ["hypercorn_server.py"],
    "hypercorn with trio": ["hypercorn_trio_server.py"],
    "granian": ["granian_server.py"],
    "granian's command": [*GRANIAN, "granian_server:app"],
    "FastAPI": [*UVICORN, "fastapi_app:app"],
    "FastAPI in granian": [*GRANIAN, "fastapi_app:app"],
    "Starlette": [*UVICORN, "starlette_app:app"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_an_example_serves(command: list[str], tmp_path: Path) -> None:
    """It answers a run, and ends at SIGTERM when the stream that is open has ended."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder)
    for example in folder.glob("*.py"):
        example.write_text(example.read_text("utf-8").replace("4000", str(port)), "utf-8")
    command = [part.replace("4000", str(port)) for part in command]
    with (tmp_path / "log").open("w+b") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=log, stderr=log)
        try:
            client = connect(port, process)
            if command[-1].endswith("_app:app"):
                client.request("GET", "/")
                assert b"a page of" in client.getresponse().read()
            client.request("POST", RUN, json.dumps(run_input("t")))
            stream = client.getresponse()
            assert b"RUN_STARTED" in stream.read1()
            process.send_signal(signal.SIGTERM)
            assert b"RUN_FINISHED" in stream.read()
            client.close()
            # uvicorn ends by the signal that it got, unless the process sees to it.
            expected = -signal.SIGTERM if "uvicorn" in command else 0
            assert process.wait(15) == expected
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        written = log.read().decode()
    assert "Traceback" not in written, written
    assert "Warning" not in written, written


def connect(port: int, process: subprocess.Popen[bytes]) -> http.client.HTTPConnection:
    """A connection, as soon as the server is there."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    deadline = time.monotonic() + 15
    while True:
        assert process.poll() is None, "the server has ended"
        try:
            client.connect()
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        else:
            return client
