"""Runs the clients' own tests, in Node, against a server in a process of its own.

The `*.test.mjs` files say what the clients must be able to do; here is only what it takes to run
them. By hand: start `server.py`, set COPILOT_URL, COPILOT_SINGLE_URL and COPILOT_BOTH_URL to what
it prints, and `node --test` a file.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
START_SECONDS = 60
DRAIN_SECONDS = 20
NODE_SECONDS = 120


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URLs of a running server, by name. The server must also end well after the tests."""
    log = tmp_path_factory.mktemp("server") / "stderr"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, HERE / "server.py"], stdout=subprocess.PIPE, stderr=stderr
        ) as server,
    ):
        try:
            assert server.stdout is not None
            ready, _, _ = select.select([server.stdout], [], [], START_SECONDS)
            line = server.stdout.readline() if ready else b""
            assert line, f"the server did not start:\n{log.read_text()}"
            urls = json.loads(line)
            yield {
                "COPILOT_URL": urls["url"],
                "COPILOT_SINGLE_URL": urls["singleUrl"],
                "COPILOT_BOTH_URL": urls["bothUrl"],
            }
            server.send_signal(signal.SIGTERM)
            status = server.wait(DRAIN_SECONDS)
        finally:
            # The call has no effect on a server that has ended, so no check is needed before it.
            server.kill()
    said = log.read_text()
    assert status == 0, f"the server ended with status {status}:\n{said}"
    assert "Traceback" not in said, f"the server complained:\n{said}"


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_each_file_of_tests_of_the_unmodified_clients_passes(
    name: str, urls: dict[str, str]
) -> None:
    assert (HERE / "node_modules").is_dir(), (
        "run `make test` (or npm install in tests/clients) first"
    )
    finished = subprocess.run(
        ["node", "--test", "--test-reporter=spec", name],
        cwd=HERE,
        env=os.environ | urls | {"COPILOTKIT_TELEMETRY_DISABLED": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=NODE_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, f"{name} failed:\n{finished.stdout}"
