"""The log of the command, for people and for machines."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.command import APP, ended, get, run, started
from support.upstream import SSE, upstream

from copilot_bindings.cli import logs


def test_each_response_has_a_line_if_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    given = ["serve", "app:runtime", "--access-log", "--json-logs", "--port", "0"]
    with started(*given, cwd=tmp_path) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["level"], first["logger"]) == ("info", "copilot_bindings.cli")
        url = first["text"].split()[-1].rstrip("/")
        run(f"{url}/api/copilotkit", "mine")
        with contextlib.suppress(urllib.error.HTTPError):
            get(f"{url}/nothing")
        lines = [json.loads(line) for line in ended(process).splitlines()]
    assert {"time", "level", "logger", "text"} <= set(lines[0])
    told = [line for line in lines if line["logger"] == "sansio_copilot.access"]
    assert [line["text"] for line in told] == [
        "POST /api/copilotkit/agent/mine/run 200",
        "GET /nothing 404",
    ]
    assert all(line["seconds"] >= 0 for line in told)
    begun = "the agents are 'mine', at /api/copilotkit, with threads in a MemoryStore"
    assert f"starting a server of asyncio: {begun}" in [line["text"] for line in lines]


def test_no_line_has_the_secrets_of_an_agents_url(tmp_path: Path) -> None:
    with upstream([SSE]) as far:
        agent = far.url.replace("//", "//me:secret@")
        given = ["serve", "--agent", agent, "--log-level", "debug", "--port", "0"]
        with started(*given, cwd=tmp_path) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            assert run(f"{url}api/copilotkit", "default")[-1] == "RUN_ERROR"
            said = ended(process)
    assert " is asked: POST" in said
    assert "secret" not in said


def test_lines_below_the_level_are_left_out(tmp_path: Path) -> None:
    given = ["demo", "--log-level", "error", "--port", "0", "--store", "memory"]
    with started(*given, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert ended(process) == ""


def record(**fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("name", logging.ERROR, __file__, 1, "text %d", (1,), None)
    made.created = 1_000.25
    made.__dict__.update(fields)
    return made


def test_a_line_for_machines_is_one_json_object() -> None:
    try:
        raise ValueError("no\nnewline")
    except ValueError:
        failed = record(exc_info=sys.exc_info())
    line = logs.JsonFormatter().format(failed)
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("exception").endswith("ValueError: no\nnewline\n")
    assert told == {
        "time": "1970-01-01T00:16:40.250+00:00",
        "level": "error",
        "logger": "name",
        "text": "text 1",
    }


@pytest.mark.parametrize(
    "text", ["\u2028\u2029\x85\x7f\x00\r\n\x1b[31m", "\ud800", "Grüße", "\\u2028"]
)
def test_a_line_for_machines_has_nothing_that_ends_it_or_cannot_be_written(text: str) -> None:
    line = logs.JsonFormatter().format(record(msg="%s", args=(text,)))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["text"] == text


def test_a_line_whose_arguments_do_not_fit_is_one_nevertheless() -> None:
    line = logs.JsonFormatter().format(record(msg="%d", args=("x",)))
    assert json.loads(line)["text"] == "%d ('x',)"


BREAKS = """
import threading, warnings
from sansio_copilot import CopilotRuntime

class Broken:
    def __del__(self):
        raise ValueError("nobody catches this")

def fail():
    raise KeyError("of a thread")

def on_start():
    warnings.warn("old")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Broken()
    print("its own")

runtime = CopilotRuntime({}, on_start=on_start)
"""


def test_each_line_that_python_writes_is_for_machines(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(BREAKS)
    given = ["serve", "app:runtime", "--json-logs", "--port", "0"]
    with started(*given, cwd=tmp_path) as process:
        assert process.stdout is not None
        # A line that the application prints stays as it is, because it is no line of a log.
        assert process.stdout.readline() == "its own\n"
        json.loads(process.stdout.readline())
        lines = [json.loads(line) for line in ended(process).splitlines()]
    said = [line["text"] + line.get("exception", "") for line in lines]
    for part in ("UserWarning: old", "KeyError: 'of a thread'", "ValueError: nobody catches this"):
        assert any(part in text for text in said), part


@pytest.mark.parametrize("given", [["serve", "nothing:runtime"], ["dashboard", "nowhere"]])
def test_why_the_command_fails_is_a_line_for_machines_as_well(given: list[str]) -> None:
    command = [sys.executable, "-m", "copilot_bindings.cli", *given, "--json-logs"]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert given[1].split(":")[0] in told["text"]


def test_a_line_says_how_long_it_took() -> None:
    timed = record(started_at=1_000.0)
    assert logs.TextFormatter().format(timed) == "ERROR name: text 1 0.250 s"
    assert json.loads(logs.JsonFormatter().format(timed))["seconds"] == 0.25
