"""What the command serves: the demo, a runtime of the user's own, remote agents."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.command import APP, get, import_without, run, running
from support.running_model import running_model
from support.upstream import SSE, upstream

from copilot_bindings import cli
from sansio_copilot.sse import Parser
from sansio_copilot.testing import run_input


@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
def test_the_demo_of_a_model_asks_that_model(binding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_model() as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        with running("demo", "--model", "openai/gpt-4o-mini", "--binding", binding) as url:
            agents = json.loads(get(f"{url}/api/copilotkit/info"))["agents"]
            assert agents["default"]["description"] == "Talks to openai/gpt-4o-mini."
            assert (
                run(f"{url}/api/copilotkit", "default", "call current_time").count(
                    "TOOL_CALL_RESULT"
                )
                == 1
            )
        assert model.calls[0].tools[0] == "current_time"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("gpt-4o-mini", "the model 'gpt-4o-mini' is none: give 'openai/gpt-4o-mini'"),
        ("nobody/gpt", "the model 'nobody/gpt' cannot be used"),
    ],
)
def test_the_demo_tells_why_a_model_cannot_be_used(
    model: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert cli.main(["demo", "--store", "memory", "--model", model]) == 1
    assert said in capsys.readouterr().err


def test_the_demo_of_a_model_names_the_extra_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_without(monkeypatch, "pydantic_ai", "agents", "demo.model")
    assert cli.main(["demo", "--store", "memory", "--model", "openai/gpt-4o-mini"]) == 1
    said = capsys.readouterr().err
    assert "needs pydantic_ai: pip install 'sansio-copilot[model]'" in said


@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
def test_remote_agents_are_served_without_any_python(binding: str) -> None:
    ids = {"threadId": "t", "runId": "r"}
    events = [{"type": "RUN_STARTED", **ids}, {"type": "RUN_FINISHED", **ids}]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    with upstream([SSE + body]) as far:
        given = ("--agent", far.url, "--agent", f"other={far.url}", "--binding", binding)
        with running("serve", *given) as url:
            info = json.loads(get(f"{url}/api/copilotkit/info"))
            assert {name: agent["className"] for name, agent in info["agents"].items()} == {
                "default": "HttpAgent",
                "other": "HttpAgent",
            }
            asked = urllib.request.Request(
                f"{url}/api/copilotkit/agent/other/run",
                json.dumps(run_input("t", "r")).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(asked) as answer:
                said = Parser().feed(answer.read())
    assert [json.loads(event.data)["type"] for event in said] == ["RUN_STARTED", "RUN_FINISHED"]


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        (["ftp://host/"], "the agent's url is an absolute http or https one"),
        (["http://a/", "http://b/"], "two agents have the id 'default': give --agent ID=URL"),
        (["http://host/?a=b", "x=/path"], "not '/path'"),
    ],
)
def test_the_command_tells_why_remote_agents_cannot_be_served(
    agents: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for agent in agents for part in ("--agent", agent)]
    assert cli.main(["serve", *given, "--port", "0"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["serve", "--agent", "ftp://me:secret@host/"],
        ["serve", "--agent", "http://me:sec/secret@host/"],
        ["serve", "--agent", "http://me:sec?secret@host/"],
        ["serve", "--agent", "http://me:secret@[::1/"],
        ["demo", "--store", "mysql://me:secret@host/"],
        ["demo", "--store", "redis://me:secret/secret@host/"],
        ["demo", "--store", "redis://host/0?password=secret&no_such=secret"],
        ["demo", "--store", "postgresql://me:secret%zz@host/"],
        ["demo", "--store", "postgresql://me:secret@[::1/"],
        ["demo", "--store", "postgres:me:secret"],
        ["dashboard", "http://me:secret@host/metrics"],
        ["dashboard", "http://me:secret/secret@host/metrics"],
    ],
)
def test_a_password_in_what_is_no_url_is_not_told(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*given, "--port", "0"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "secret" not in line


@pytest.mark.parametrize("where", ["app:runtime", "app"])
def test_the_command_serves_a_runtime_of_the_users_own(where: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with running("serve", where, cwd=tmp_path) as url:
        assert "RUN_FINISHED" in run(f"{url}/api/copilotkit", "mine")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("no_such_module:runtime", "No module named 'no_such_module'"),
        ("app:nothing", "cannot find app:nothing: AttributeError: module 'app' has no attribute"),
        (
            "app:a\nb",
            "cannot find 'app:a\\nb': AttributeError: module 'app' has no attribute 'a b'",
        ),
        ("app:" + "x" * 300, "module 'app' has no attribute 'xxx"),
        ("app:other", "'app:other' is a int, expected a CopilotRuntime"),
        (":runtime", "expected module:attribute"),
        (".", "expected module:attribute"),
        ("../app:runtime", "expected module:attribute"),
        ("a b:runtime", "expected module:attribute"),
        ("x" * 300 + "/:runtime", "expected module:attribute"),
        ("app.py:runtime", "expected a module: app:runtime"),
        ("broken:runtime", "'broken' fails when it is imported: ValueError: two lines (broken"),
        ("typo:runtime", "fails when it is imported: SyntaxError"),
        ("leaves:runtime", "fails when it is imported: SystemExit: 3"),
        ("imports:runtime", "No module named 'nothing_of_the_kind'"),
        ("cancels:runtime", "fails when it is imported: CancelledError: x"),
        ("lazy:runtime", "'lazy:runtime' fails: RuntimeError: not now"),
    ],
)
def test_a_target_that_cannot_be_served_is_told(
    where: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "broken.py").write_text("raise ValueError('two\\nlines')")
    (tmp_path / "typo.py").write_text("runtime = (")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    (tmp_path / "imports.py").write_text("import nothing_of_the_kind")
    (tmp_path / "cancels.py").write_text("import asyncio; raise asyncio.CancelledError('x')")
    (tmp_path / "lazy.py").write_text("def __getattr__(name): raise RuntimeError('not now')")
    assert cli.main(["serve", where]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message.replace("(broken", f"({tmp_path / 'broken'}") in line
    assert len(line) < 400
