"""The ``sansio-copilot`` command, in a process of its own, and requests to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.scripts import SERVING, start_program

from sansio_copilot.sse import Parser
from sansio_copilot.testing import run_input

APP = """
from sansio_copilot import CopilotRuntime, text_agent

@text_agent
def hello(input, context):
    yield "Hello"

runtime = CopilotRuntime({"mine": hello})
other = 5
"""


MODEL = ("copilot_bindings.demo.model",)
"""The module that the demo of a model imports besides, which takes two seconds more."""


@contextlib.contextmanager
def running(
    *arguments: str, cwd: Path | None = None, signals: Sequence[signal.Signals] = (signal.SIGTERM,)
) -> Iterator[str]:
    """The command, in a fork; gives its URL, and checks that ``signals`` end it."""
    imports = [*SERVING, *(MODEL if "--model" in arguments else ())]
    given = ["-m", "copilot_bindings.cli", *arguments, "--port", "0"]
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as errors, open(reading) as output:
        with open(writing, "wb") as theirs:
            process = start_program(given, theirs, errors, cwd=cwd or Path.cwd(), imports=imports)
        try:
            line = output.readline()
            found = re.search(r"http://\S+/", line)
            assert found, line
            yield found[0].rstrip("/")
        finally:
            for number in signals:
                process.send_signal(number)
            try:
                process.wait(60)
            finally:
                process.kill()
            errors.seek(0)
            said = errors.read().decode()
    assert process.returncode == 0, said
    assert "Traceback" not in said


@contextlib.contextmanager
def launched(
    *arguments: str, cwd: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and its URL."""
    command = [sys.executable, "-m", "copilot_bindings.cli", *arguments, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+/", process.stdout.readline())
            assert found, process.communicate()[1]
            yield process, found[0].rstrip("/")
        finally:
            process.kill()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as response:
        content: bytes = response.read()
    return content


def run(url: str, agent_id: str, said: str = "hi") -> list[str]:
    body = run_input("t", messages=[{"id": "u", "role": "user", "content": said}])
    request = urllib.request.Request(f"{url}/agent/{agent_id}/run", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        return [json.loads(event.data)["type"] for event in Parser().feed(response.read())]


def import_without(monkeypatch: pytest.MonkeyPatch, missing: str, *parts: str) -> None:
    """Have ``parts`` of the bindings imported anew, where the package ``missing`` is not there."""
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [f"copilot_bindings.{part}" for part in parts]:
        parent, _, child = name.rpartition(".")
        if name in sys.modules:
            # The attribute is set to the same value, so that it is restored in the end, because the
            # import puts the new module there.
            monkeypatch.setattr(sys.modules[parent], child, sys.modules[name])
        for module in [other for other in sys.modules if f"{other}.".startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, module)


@contextlib.contextmanager
def started(
    *arguments: str, cwd: Path, descriptors: Sequence[int] = (), **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, whatever it listens on; the test ends it."""
    command = [sys.executable, "-m", "copilot_bindings.cli", *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | environ,
        pass_fds=descriptors,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    """Tell it to end; returns its standard error."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return errors
