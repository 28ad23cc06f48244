"""The plugin for pytest, as whoever has installed the package gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
from types import MappingProxyType

from sansio_copilot import CopilotRuntime
from sansio_copilot.testing import ScriptedAgent, fail

AGENT = ScriptedAgent(lambda input: f"You said {input.messages[-1].content}")

def test_an_agent(copilot_client, run_input, assert_valid_stream):
    answer = copilot_client(AGENT).run(run_input(text="hi"))
    assert answer.text() == "You said hi"
    assert_valid_stream(answer)

def test_several_runs(copilot_client, run_input):
    client = copilot_client({"one": AGENT}, base_path="/ai")
    inputs = [run_input(text="hi"), run_input(text="ho"), run_input("other", "mine")]
    assert [each["runId"] for each in inputs] == ["run-1", "run-2", "mine"]
    assert [client.run(each, "one").text() for each in inputs[:2]] == ["You said hi", "You said ho"]

def test_a_runtime(copilot_client, run_input):
    runtime = CopilotRuntime({"default": AGENT})
    assert copilot_client(runtime).runtime is runtime
    try:
        copilot_client(runtime, cors=False)
    except TypeError as error:
        assert "without cors" in str(error)

CLOSED = []

def close(name):
    CLOSED.append(name)
    raise ValueError(f"{name} cannot be closed")

def test_two_that_cannot_be_closed(copilot_client):
    for name in ("one", "two"):
        agents = MappingProxyType({"default": AGENT})
        copilot_client(agents, on_close=lambda name=name: close(name))

def test_both_were_closed():
    assert CLOSED == ["two", "one"]

def test_a_failure(copilot_client, run_input, assert_valid_stream):
    client = copilot_client(ScriptedAgent(fail("no")))
    assert client.run(run_input()).run_error() == "no"
    assert_valid_stream(client.run(run_input()).events()[:-1])
"""


def pytest_in(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    options = ["-p", "no:cacheprovider", "-p", "no:langsmith_plugin"]
    command = [sys.executable, "-m", "pytest", *options, *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_fixtures_of_the_plugin_run_and_judge_an_agent(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    done = pytest_in(tmp_path)
    assert "5 passed" in done.stdout, done.stdout
    assert "1 failed" in done.stdout
    assert "1 error" in done.stdout
    assert "AssertionError: the stream ends with RUN_STARTED, before the end of its run" in (
        done.stdout
    )


def test_the_plugin_imports_nothing_that_is_not_used(tmp_path: Path) -> None:
    """A run of pytest without its fixtures loads neither the core nor what that needs."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_what_is_loaded():\n"
        "    assert 'copilot_bindings.pytest_plugin' in sys.modules\n"
        "    for name in ('sansio_copilot', 'pydantic', 'ag_ui', 'msgspec'):\n"
        "        assert name not in sys.modules, name\n"
        "    ours = {name for name in sys.modules if name.startswith('copilot_bindings')}\n"
        "    assert ours == {'copilot_bindings', 'copilot_bindings.pytest_plugin'}\n"
    )
    done = pytest_in(tmp_path, "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert "1 passed" in done.stdout, done.stdout


def test_the_fixtures_of_the_plugin_explain_themselves(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    shown = pytest_in(tmp_path, "--fixtures").stdout
    for name in ("copilot_client", "run_input", "assert_valid_stream"):
        assert f"\n{name} -- " in shown


def test_the_core_has_no_need_of_pytest() -> None:
    program = "import sansio_copilot.testing, sys; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
