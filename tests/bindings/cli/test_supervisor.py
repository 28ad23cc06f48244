"""Several processes of the command, which share a socket and are replaced."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.process import wait_until
from support.command import ended, started

from copilot_bindings import cli
from sansio_copilot.sse import Parser
from sansio_copilot.testing import run_input

WHO = """
import os
from sansio_copilot import CopilotRuntime, text_agent

@text_agent
def who(input, context):
    yield f"{os.getpid()} {VERSION}"

VERSION = 1
runtime = CopilotRuntime({"who": who})
"""


def who_answers(url: str) -> tuple[int, str]:
    """The process id of the worker that answers, and the version of the application that it has."""
    body = run_input(f"t{time.monotonic_ns()}")
    request = urllib.request.Request(
        f"{url}/api/copilotkit/agent/who/run",
        json.dumps(body).encode(),
        {"connection": "close"},
    )
    with urllib.request.urlopen(request) as response:
        events = [json.loads(event.data) for event in Parser().feed(response.read())]
    said = "".join(event.get("delta", "") for event in events)
    process_id, version = said.split()
    return int(process_id), version


def both_workers(url: str) -> set[int]:
    """The process ids of two workers, once both have answered."""
    answered: set[int] = set()

    def both_answer() -> bool:
        answered.add(who_answers(url)[0])
        return len(answered) == 2

    wait_until(both_answer, "both workers answer")
    return answered


def kill(worker: int) -> None:
    """Kill a worker, which may accept one more connection before it is gone."""
    os.kill(worker, signal.SIGKILL)

    def is_gone() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, 0)
            return False
        return True

    wait_until(is_gone, "it is gone")


@contextlib.contextmanager
def workers(tmp_path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    (tmp_path / "app.py").write_text(WHO)
    given = ["serve", "app:runtime", "--store", f"sqlite:{tmp_path}/t.db", "--port", "0", *options]
    with started(*given, cwd=tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].rstrip("/")
        yield process, url


def test_workers_share_a_socket_and_are_replaced(tmp_path: Path) -> None:
    with workers(tmp_path, "--workers", "2") as (process, url):
        answered = both_workers(url)
        killed = answered.pop()
        kill(killed)
        wait_until(lambda: who_answers(url)[0] not in answered | {killed}, "a third one answers")

        (tmp_path / "app.py").write_text(WHO.replace("VERSION = 1", "VERSION = 2"))
        process.send_signal(signal.SIGHUP)
        # No connection is refused while the workers are replaced.
        wait_until(lambda: who_answers(url)[1] == "2", "a worker has read the application anew")
        wait_until(
            lambda: all(who_answers(url)[1] == "2" for _ in range(20)), "all workers are new"
        )
        ended(process)


@pytest.mark.parametrize("asked", [["--reload"], ["--workers", "2"]], ids=" ".join)
def test_a_new_application_that_fails_leaves_the_former_one(
    tmp_path: Path, asked: list[str]
) -> None:
    def replace(application: str) -> None:
        (tmp_path / "app.py").write_text(application)
        if "--reload" not in asked:
            process.send_signal(signal.SIGHUP)

    # The lines of each run are left out, because nobody reads them, and a pipe that is full stops
    # the worker.
    with workers(tmp_path, *asked, "--log-level", "warning") as (process, url):
        assert who_answers(url)[1] == "1"
        replace("syntax error")
        errors = process.stderr
        assert errors is not None
        wait_until(lambda: "former ones go on" in errors.readline(), "it is told")
        assert all(who_answers(url)[1] == "1" for _ in range(5))
        replace(WHO.replace("VERSION = 1", "VERSION = 3"))
        wait_until(lambda: who_answers(url)[1] == "3", "it is mended")
        ended(process, signal.SIGINT)


def test_the_others_go_on_if_the_successor_of_a_worker_does_not_serve(tmp_path: Path) -> None:
    with workers(tmp_path, "--workers", "2") as (process, url):
        answered = both_workers(url)
        (tmp_path / "app.py").write_text("syntax error")
        killed = answered.pop()
        kill(killed)
        errors = process.stderr
        assert errors is not None
        wait_until(lambda: "former ones go on" in errors.readline(), "it is told")
        assert {who_answers(url)[0] for _ in range(5)} == answered
        (tmp_path / "app.py").write_text(WHO)
        wait_until(lambda: who_answers(url)[0] not in answered | {killed}, "a third one answers")
        ended(process)


def test_workers_that_do_not_serve_yet_end_when_others_are_asked_for(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.touch()
    waiting = f"""
import os, time
with open({str(begun)!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
time.sleep(600)
"""

    def process_ids() -> list[int]:
        return [int(line) for line in begun.read_text().splitlines()]

    with workers(tmp_path, "--workers", "2") as (process, url):
        assert who_answers(url)[1] == "1"
        (tmp_path / "app.py").write_text(waiting)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(process_ids()) == 2, "new workers begin")
        first = process_ids()
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: all(map(has_gone, first)), "they make room for others")
        wait_until(lambda: len(process_ids()) == 4, "which begin")
        assert who_answers(url)[1] == "1"
        ended(process)


def has_gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with workers(tmp_path, "--workers", "2") as (process, url):
        worker, _ = who_answers(url)
        process.kill()
        process.wait()
        wait_until(lambda: has_gone(worker), "the worker has ended")


def test_workers_over_memory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(WHO)
    given = ["serve", "app:runtime", "--workers", "2", "--port", "0"]
    with started(*given, cwd=tmp_path) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "--workers needs a store that processes share" in errors
    assert "Traceback" not in errors


def test_workers_share_one_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("127.0.0.2", 0))]
    monkeypatch.setattr("copilot_bindings.net.listeners.addresses_of", lambda *where: found)
    assert cli.main(["demo", "--workers", "2", "--port", "0"]) == 1
    assert "'127.0.0.1' has several addresses" in capsys.readouterr().err
