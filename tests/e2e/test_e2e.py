"""The real front end in a real browser: each scenario of scenarios/*.mjs is a test of its own.

Without more, those marked as core run, against the asyncio binding. With E2E=all (`make e2e`) all
run, against asyncio and ASGI and, to compare, against the reference runtime; what each showed is
written to results/index.html, with a screenshot of its end.
"""

from __future__ import annotations

import html
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.agents import AGENTS

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ALL = os.environ.get("E2E") == "all"

START_SECONDS = 60
SCENARIO_SECONDS = 300
END_SECONDS = 20

_SCENARIO = re.compile(r'^(core|more)\("([^"]+)"', re.MULTILINE)

SCENARIOS = {
    name: kind
    for file in sorted((HERE / "scenarios").glob("*.mjs"))
    for kind, name in _SCENARIO.findall(file.read_text())
}
TARGETS = ("asyncio", "asgi", "reference") if ALL else ("asyncio",)

_CORS = (
    "its policy with credentials allows the headers `*`, by which browsers then mean one of that "
    "name, so no page can send JSON"
)
REFERENCE_CANNOT = {
    "stop": "replays an unfinished text behind the error of its run, and after the next question",
    "stop in the middle of a call": "leaves the call open, and replays it behind the run's error",
    "messages of two tabs at once": "answers the second one with 200 and an empty stream",
    "routes and a single endpoint at once": "takes one or the other",
    "cookies over CORS": _CORS,
    "401": _CORS,
    "dashboard": "has no metrics",
    "dashboard of a hostile server": "has no dashboard",
    "threads": "lists threads; to rename, archive and delete them takes the hosted platform",
}
"""The scenarios that fail beside the reference (@copilotkit/runtime 1.75.0), and why: what it
does not have, or where it is broken. One that passes there after all fails the test."""

NOT_OFFERED = {
    "CopilotThreadsDrawer": "waits for the license status that only the hosted platform reports, "
    "and says for ever that it is loading",
    "CopilotChat of v1": "is in @copilotkit/react-ui; the pages of v1 here have v2's chat in them",
}
"""The parts of the installed front end that do not work beside any runtime that one can host, or
that are not installed. The table says so."""


class Process:
    """A program that announces itself by a line of JSON, and ends when it is told to."""

    def __init__(self, *command: str | Path, log: Path, **environment: str) -> None:
        self.command = [str(part) for part in command]
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=HERE,
                env=os.environ | environment,
            )
        self.announced: Any = self.receive(START_SECONDS)

    def send(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def receive(self, seconds: float) -> Any:
        """Return the next line of the driver."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        assert self._process.stdout is not None
        line = self._process.stdout.readline() if ready else b""
        assert line, f"{self.command} says nothing:\n{self.said()}"
        return json.loads(line)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> int:
        """End it by a signal, or by the end of its input; returns its exit status."""
        try:
            if number is None:
                assert self._process.stdin is not None
                self._process.stdin.close()
            else:
                self._process.send_signal(number)
            return self._process.wait(END_SECONDS)
        finally:
            # The call has no effect on a process that has ended, so no check is needed before it.
            self._process.kill()
            self._process.__exit__(None, None, None)


class Target:
    """A runtime that the pages are pointed at."""

    def __init__(self, name: str, logs: Path) -> None:
        self.name = name
        self._logs = logs
        self._agents: Process | None = None
        if name == "reference":
            self._agents = self._serve("agui")
            url = self._agents.announced["agents"]
            self._command: list[str | Path] = ["node", HERE / "reference.mjs", url, *AGENTS]
        else:
            self._command = [sys.executable, HERE / "server.py", name]
        self._server = self._start()

    def _serve(self, binding: str) -> Process:
        return Process(
            sys.executable, HERE / "server.py", binding, log=self._logs / f"{binding}.log"
        )

    def _start(self) -> Process:
        return Process(*self._command, log=self._logs / f"{self.name}.log")

    def described(self) -> dict[str, Any]:
        """Return what the driver has to know of the target."""
        if self._agents is not None and not self._server.alive:
            # The reference runtime ends by what some scenarios do; that fails those alone.
            self._server = self._start()
        described = {
            "name": self.name,
            "urls": self._server.announced,
            "command": self._server.command,
        }
        if self._agents is not None:
            described["agents"] = self._agents.announced["agents"]
        return described

    def end(self) -> None:
        """End it, and see that it has nothing to complain about."""
        if self._agents is not None:
            self._server.end()
            self._server = self._agents
        status = self._server.end()
        said = self._server.said()
        assert status == 0, f"{self.name} ended with status {status}:\n{said}"
        assert "Traceback" not in said, f"{self.name} complained:\n{said}"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The browser, and what runs scenarios in it."""
    assert (HERE / "dist" / "index.html").is_file(), (
        "run `make test`, or `npm install` and `npx vite build` in tests/e2e, first"
    )
    log = tmp_path_factory.mktemp("e2e") / "driver.log"
    driver = Process("node", HERE / "driver" / "main.mjs", log=log)
    yield driver
    assert driver.end(None) == 0, driver.said()


@pytest.fixture(scope="module")
def report() -> Iterator[dict[tuple[str, str], dict[str, Any]]]:
    """The outcomes by scenario and target, which become a table."""
    RESULTS.mkdir(exist_ok=True)
    results: dict[tuple[str, str], dict[str, Any]] = {}
    yield results
    (RESULTS / "index.html").write_text(table(results))


@pytest.fixture(scope="module", params=TARGETS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    target = Target(request.param, tmp_path_factory.mktemp(request.param))
    yield target
    target.end()


@pytest.mark.parametrize("name", [name for name in SCENARIOS if ALL or SCENARIOS[name] == "core"])
def test_each_scenario_passes_in_a_browser(
    name: str,
    target: Target,
    driver: Process,
    report: dict[tuple[str, str], dict[str, Any]],
) -> None:
    file = re.sub(r"\W+", "-", f"{name} {target.name}") + ".png"
    driver.send({"name": name, "target": target.described(), "screenshot": str(RESULTS / file)})
    result = driver.receive(SCENARIO_SECONDS)
    assert result["name"] == name
    wrong = [result["error"]] if result.get("error") else []
    wrong += [f"in the page's console: {text}" for text in result["unexpected"]]
    report[name, target.name] = result | {"wrong": wrong}
    if target.name == "reference" and name in REFERENCE_CANNOT:
        assert wrong, f"the reference runtime can do this now: {REFERENCE_CANNOT[name]}"
        return
    assert not wrong, "\n".join(wrong)


def test_every_scenario_is_found() -> None:
    """The driver knows no other scenarios than are found by their source."""
    calls = re.compile(r"^(?:core|more)\(", re.MULTILINE)
    files = sorted((HERE / "scenarios").glob("*.mjs"))
    assert sum(len(calls.findall(file.read_text())) for file in files) == len(SCENARIOS)


def table(results: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The results as a page: a row for each scenario, a column for each target."""
    rows = []
    for name in SCENARIOS:
        cells = []
        for target in TARGETS:
            result = results.get((name, target))
            if result is None:
                cells.append("<td>-</td>")
                continue
            known = REFERENCE_CANNOT.get(name) if target == "reference" else None
            verdict = known or ("fails" if result["wrong"] else "works")
            colour = "#fdd" if result["wrong"] else "#dfd"
            why = html.escape("\n".join(result["wrong"])[:1000])
            shot = result.get("screenshot")
            image = f'<a href="{shot}"><img src="{shot}" width="180" loading="lazy"></a>'
            cells.append(
                f'<td style="background: {colour}" title="{why}">{html.escape(verdict)}, '
                f"{result['seconds']:.1f} s<br>{image if shot else ''}</td>"
            )
        rows.append(f"<tr><th>{html.escape(name)}</th>{''.join(cells)}</tr>\n")
    for name, why in NOT_OFFERED.items():
        cell = f'<td colspan="{len(TARGETS)}">not tried: {html.escape(why)}</td>'
        rows.append(f"<tr><th>{html.escape(name)}</th>{cell}</tr>\n")
    head = "".join(f"<th>{target}</th>" for target in TARGETS)
    return (
        '<!doctype html><meta charset="utf-8"><title>The front end in a browser</title>'
        "<style>td, th { vertical-align: top; text-align: left; padding: 4px }</style>\n"
        f"<table><tr><th>scenario</th>{head}</tr>\n{''.join(rows)}</table>\n"
    )
