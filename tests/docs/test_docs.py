"""The documentation is true: its code runs, its diagrams are those of the code."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conformance.process import free_port

from sansio_copilot.testing import run_input

ROOT = Path(__file__).parents[2]
SECURITY = ROOT / "SECURITY.md"
PAGES = [ROOT / "README.md", SECURITY, *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks() -> list[tuple[str, str]]:
    """Return each block of Python in the documentation, by page and line."""
    blocks = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            blocks.append((f"{page.name}:{line}", match[1]))
    return blocks


SERVERS = [block for block in python_blocks() if "asyncio.run(serve(" in block[1]]
TESTS = [block for block in python_blocks() if re.search(r"^def test_", block[1], re.MULTILINE)]
OTHERS = [block for block in python_blocks() if block not in SERVERS + TESTS]


@pytest.mark.parametrize(("where", "code"), OTHERS, ids=[where for where, _ in OTHERS])
def test_code_runs(where: str, code: str) -> None:
    """A block runs by itself, and what it asserts holds."""
    exec(compile(code, where, "exec"), {"__name__": "docs"})


@pytest.mark.parametrize(("where", "code"), TESTS, ids=[where for where, _ in TESTS])
def test_a_file_of_tests_passes(where: str, code: str, tmp_path: Path) -> None:
    """A block that is a file of tests is run by pytest, with the plugin that is installed."""
    (tmp_path / "test_it.py").write_text(code)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:langsmith_plugin", "-p", "no:anyio"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert f"{code.count('def test_')} passed" in done.stdout, done.stdout


@pytest.mark.parametrize(("where", "code"), SERVERS, ids=[where for where, _ in SERVERS])
def test_a_server_serves(where: str, code: str) -> None:
    """A block that serves is started, talked to and stopped."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", code.replace("4000", str(port))])
    try:
        url = f"http://127.0.0.1:{port}/api/copilotkit/agent/default/run"
        request = urllib.request.Request(url, json.dumps(run_input("t")).encode())
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request) as response:
                    body = response.read()
                break
            except OSError:
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.05)
        assert b"RUN_FINISHED" in body
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_the_first_example_is_short() -> None:
    """An agent, a runtime and a server in at most 15 lines."""
    where, code = python_blocks()[0]
    assert where.startswith("README.md")
    assert len(code.splitlines()) <= 15


def test_the_diagrams_are_those_of_the_code() -> None:
    """Run `python docs/diagrams.py` if this fails."""
    path = ROOT / "docs" / "diagrams.py"
    spec = importlib.util.spec_from_file_location("diagrams", path)
    assert spec is not None
    assert spec.loader is not None
    diagrams = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(diagrams)
    page = diagrams.PAGE.read_text()
    assert "IDLE --> " in page
    assert page == diagrams.drawn(page)


def test_links_lead_somewhere() -> None:
    """A link to a file of the project is to one that exists."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def named_tests() -> list[str]:
    """Return the files, and tests in them, that SECURITY.md names as the proofs of promises."""
    return re.findall(r"`(tests/[^`]+)`", SECURITY.read_text())


@pytest.mark.parametrize("named", named_tests())
def test_the_proof_of_a_promise_is_there(named: str) -> None:
    file, *names = named.split("::")
    path = ROOT / file
    assert path.exists(), f"SECURITY.md names {file}"
    scope = ast.parse(path.read_text()).body if names else []
    for name in names:
        found = [one for one in scope if getattr(one, "name", None) == name]
        assert found, f"SECURITY.md names {named}, and {file} has no {name}"
        scope = getattr(found[0], "body", [])


def test_each_promise_has_its_proof() -> None:
    """The promises are numbered, and so are the lines of the table."""
    text = SECURITY.read_text()
    promises = re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)
    proofs = re.findall(r"^\| (\d+)\. .* \| `tests/", text, re.MULTILINE)
    assert promises == proofs == [str(number + 1) for number in range(len(promises))]


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for source in (ROOT / "sansio_copilot", ROOT / "bindings" / "copilot_bindings"):
        for room in source.iterdir():
            if room.is_dir() and room.name != "__pycache__":
                assert f"`{room.name}/`" in text
            elif room.suffix == ".py" and room.stem not in (
                "__init__",
                "version",
                "missing_packages",
            ):
                assert f"`{room.name}`" in text


def test_every_term_of_the_glossary_lives_somewhere() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    glossary = text.partition("## Glossary")[2].partition("\n## ")[0]
    rows = [row.split("|") for row in glossary.splitlines() if row.startswith("| ")][2:]
    terms = [row[1].strip() for row in rows]
    assert len(set(terms)) == len(terms) <= 25
    places = [place for row in rows for place in re.findall("`([^`]+)`", row[3])]
    roots = (ROOT, ROOT / "sansio_copilot", ROOT / "bindings" / "copilot_bindings")
    assert [place for place in places if not any((root / place).exists() for root in roots)] == []
