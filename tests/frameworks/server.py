"""The processes that a framework is tried with: its program, and the model that it asks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "docs" / "examples" / "agents"
_MODEL = ROOT / "tests" / "support" / "mock_model.py"
_PATIENCE = 600.0


@contextlib.contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """End ``process``, which is told to end first."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@attrs.frozen
class Model:
    """The model's API that :mod:`support.mock_model` has started."""

    url: str

    def calls(self) -> list[dict[str, Any]]:
        """Return what became of each request so far."""
        with urllib.request.urlopen(f"{self.url}/calls", timeout=30) as response:
            return json.loads(response.read())  # type: ignore[no-any-return]


@contextlib.contextmanager
def model() -> Iterator[Model]:
    """Start a model's API, and end it."""
    command = [sys.executable, str(_MODEL), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout, ended(process):
        yield Model(f"http://127.0.0.1:{int(process.stdout.readline())}")


@contextlib.contextmanager
def program(name: str, python: Path, asked: Model, port: int, folder: Path) -> Iterator[str]:
    """Start the program of a framework as it stands in the documentation, but for its port.

    :param python: the interpreter, which has the framework.
    :param folder: where the program is written to, and its log.
    :returns: the address of the server.
    :raises Exception: what the block has raised, with the end of the program's log as a note.
    """
    text = (PROGRAMS / f"{name}.py").read_text("utf-8")
    copy = folder / f"{name}.py"
    copy.write_text(text.replace("4000", str(port)), "utf-8")
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    surroundings = {
        **kept,
        "OPENAI_API_KEY": "test",
        "OPENAI_BASE_URL": f"{asked.url}/v1",
        "OPENAI_API_BASE": f"{asked.url}/v1",
        "ANTHROPIC_API_KEY": "test",
        "ANTHROPIC_BASE_URL": asked.url,
        # Nothing is to be told to anybody.
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "AGNO_TELEMETRY": "false",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OTEL_SDK_DISABLED": "true",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # The files of a framework go to the folder of the attempt, so that none is left behind.
        "CLAUDE_CONFIG_DIR": str(folder / "claude"),
        "CREWAI_STORAGE_DIR": str(folder / "crewai"),
        "PYTHONUNBUFFERED": "1",
    }
    with (folder / "log").open("ab") as log:
        command = [str(python), str(copy)]
        process = subprocess.Popen(command, cwd=folder, env=surroundings, stdout=log, stderr=log)
        with ended(process):
            try:
                _await(process, port)
                yield f"http://127.0.0.1:{port}/api/copilotkit"
            except Exception as error:
                error.add_note((folder / "log").read_text("utf-8", "replace")[-3000:])
                raise


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    deadline = time.monotonic() + _PATIENCE
    while True:
        if process.poll() is not None:
            raise RuntimeError("the program has ended; see its log")
        try:
            client.connect()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError("the program does not answer; see its log") from None
            time.sleep(0.1)
        else:
            client.close()
            return
