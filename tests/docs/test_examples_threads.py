"""Each example of a server with threads is started as it is, talked to, and told to end."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sansio_copilot.testing import run_input

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

COMMANDS = {
    "sockets": ["sockets_server.py"],
    "own accept loop": ["own_accept_loop.py"],
    "gunicorn": ["-m", "gunicorn", "wsgi_app:app"],
    "waitress": ["waitress_server.py"],
    "wsgiref": ["wsgiref_server.py"],
    "Flask": ["flask_app.py"],
    "Django": ["django_app.py"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_an_example_serves(command: list[str], tmp_path: Path) -> None:
    """It answers a run, and a page of the application around it, and ends at SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder)
    for example in folder.glob("*.py"):
        example.write_text(example.read_text("utf-8").replace("4000", str(port)), "utf-8")
    with (tmp_path / "log").open("w+b") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            assert b"RUN_FINISHED" in _post(f"{url}/api/copilotkit/agent/default/run", process)
            if "app.py" in command[0]:
                with urllib.request.urlopen(url) as response:
                    assert b"a page of" in response.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        written = log.read().decode()
    assert "Traceback" not in written, written
    assert "Warning" not in written, written


def _post(url: str, process: subprocess.Popen[bytes]) -> bytes:
    """Post a run as soon as the server is there; the whole stream."""
    request = urllib.request.Request(url, json.dumps(run_input("t")).encode())
    deadline = time.monotonic() + 15
    while True:
        assert process.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(request) as response:
                body: bytes = response.read()
                return body
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
