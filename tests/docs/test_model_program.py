"""The program of docs/agents.md that serves a model from a command line, against a mock of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from conformance.process import START_TIMEOUT, free_port, wait_until
from support.running_model import running_model

from sansio_copilot.testing import run_input

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"


def program(port: int) -> str:
    """The block of the page, on another port."""
    form = re.compile(r"^```sh\npython -c '\n(.*?)'\n```", re.DOTALL | re.MULTILINE)
    block = form.search(PAGE.read_text())
    assert block is not None
    assert "4000" in block[1]
    return block[1].replace("4000", str(port))


def test_the_program_serves_an_agent_that_calls_a_function_of_the_server(tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}/api/copilotkit"
    asked = 'call randint {"a": 7, "b": 7}'
    body = run_input("t", messages=[{"id": "m", "role": "user", "content": asked}])
    with running_model() as model, (tmp_path / "log").open("w+b") as log:
        environment = os.environ | {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test"}
        command = [sys.executable, "-c", program(port)]
        with subprocess.Popen(command, env=environment, stderr=log) as server:
            try:
                wait_until(lambda: answers(f"{base}/info"), "it serves", START_TIMEOUT)
                request = urllib.request.Request(
                    f"{base}/agent/default/run",
                    json.dumps(body).encode(),
                    {"content-type": "application/json"},
                )
                with urllib.request.urlopen(request) as answer:
                    events = events_of(answer.read())
                server.send_signal(signal.SIGTERM)
                assert server.wait(30) == 0
            finally:
                server.kill()
    results = [event["content"] for event in events if event["type"] == "TOOL_CALL_RESULT"]
    assert results == ["7"]
    assert "".join(event.get("delta", "") for event in events).endswith("The tool said: 7")


def answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        urllib.request.urlopen(url).close()
        return True
    return False


def events_of(stream: bytes) -> list[dict[str, Any]]:
    lines = stream.decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
