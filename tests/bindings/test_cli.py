"""The ``sansio-copilot`` command, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.upstream import SSE, upstream

from copilot_bindings import cli, cli_stores
from copilot_bindings.stores import SQLiteStore
from sansio_copilot import MemoryStore, __version__
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


@contextlib.contextmanager
def running(
    *arguments: str, cwd: Path | None = None, signals: Sequence[signal.Signals] = (signal.SIGTERM,)
) -> Iterator[str]:
    """The command in a process of its own; gives its URL, and checks that ``signals`` end it."""
    command = [sys.executable, "-m", "copilot_bindings.cli", *arguments, "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+/", process.stdout.readline())
        assert found, process.communicate()[1]
        yield found[0].rstrip("/")
    finally:
        for number in signals:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as response:
        content: bytes = response.read()
    return content


def run(url: str, agent_id: str) -> list[str]:
    body = run_input("t", messages=[{"id": "u", "role": "user", "content": "hi"}])
    request = urllib.request.Request(f"{url}/agent/{agent_id}/run", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        return [json.loads(event.data)["type"] for event in Parser().feed(response.read())]


@pytest.mark.parametrize(
    "options",
    [
        *(["--binding", binding] for binding in ("asyncio", "trio", "sockets")),
        ["--uvloop"],
    ],
    ids=" ".join,
)
def test_demo(options: list[str]) -> None:
    with running("demo", *options) as url:
        assert get(url).startswith(b"<!doctype html>")
        agents = json.loads(get(f"{url}/api/copilotkit/info"))["agents"]
        assert list(agents) == ["default", "echo"]
        for agent_id in agents:
            types = run(f"{url}/api/copilotkit", agent_id)
            assert (types[0], types[-1]) == ("RUN_STARTED", "RUN_FINISHED")


@pytest.fixture(autouse=True)
def _users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's file is among the data of a user who has none yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def threads(url: str) -> list[str]:
    known = json.loads(get(f"{url}/api/copilotkit/threads"))["threads"]
    return [thread["id"] for thread in known]


def test_the_demo_keeps_its_conversations_over_a_restart(tmp_path: Path) -> None:
    with running("demo") as url:
        run(f"{url}/api/copilotkit", "echo")
    with running("demo") as url:
        assert threads(url) == ["t"]
    assert (tmp_path / "data/sansio-copilot/demo.db").exists()
    with running("demo", "--store", "memory") as url:
        assert threads(url) == []


def test_the_demo_says_where_it_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, line = cli_stores.demo_store()
    assert isinstance(store, SQLiteStore)
    store.close()
    assert line.startswith(f"conversations are kept in {tmp_path}/data/sansio-copilot/demo.db")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    store, line = cli_stores.demo_store()
    assert isinstance(store, MemoryStore)
    assert line.startswith("conversations are kept in memory, because ")


def test_a_runtime_of_the_users_own_keeps_them_where_the_command_says(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    for _ in range(2):
        with running("serve", "app", "--store", "sqlite:kept.db", cwd=tmp_path) as url:
            before = threads(url)
            run(f"{url}/api/copilotkit", "mine")
    assert before == ["t"]
    with running("serve", "app", cwd=tmp_path) as url:
        assert threads(url) == []


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
def test_remote_agents_that_are_none(
    agents: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for agent in agents for part in ("--agent", agent)]
    assert cli.main(["serve", *given, "--port", "0"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (
            "mysql://x",
            "--store is memory, sqlite:PATH, postgresql://... or redis://..., not",
        ),
        ("sqlite:", "--store is memory, sqlite:PATH"),
        ("memory:x", "--store is memory, sqlite:PATH"),
        ("redis://host:x/", "Port could not be cast"),
        ("sqlite::memory:", "SQLiteStore needs the path of a file"),
        ("sqlite:/no/such/directory/x.db", "there is no directory '/no/such/directory'"),
    ],
)
@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
def test_a_store_that_is_none(
    store: str, message: str, binding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--binding", binding, "--store", store, "--port", "0"]
    assert cli.main(arguments) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("where", ["app:runtime", "app"])
def test_serve_a_runtime_of_the_users_own(where: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with running("serve", where, cwd=tmp_path) as url:
        assert "RUN_FINISHED" in run(f"{url}/api/copilotkit", "mine")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("no_such_module:runtime", "No module named 'no_such_module'"),
        ("app:nothing", "has no attribute 'nothing'"),
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
    ],
)
def test_what_cannot_be_served(
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
    assert cli.main(["serve", where]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message.replace("(broken", f"({tmp_path / 'broken'}") in line
    assert len(line) < 400


@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
@pytest.mark.parametrize("host", ["x" * 300, "x." * 150, "no.such.host.invalid", "a\x00b"])
def test_a_host_that_is_none(host: str, binding: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--binding", binding, "--host", host, "--port", "0"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert len(line) < 400


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "http://[::1]:5/"), ("", "http://0.0.0.0:5/"), ("h", "http://h:5/")]
)
def test_where_it_says_that_it_serves(
    host: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Server:
        port = 5

    cli._say_where(host)(Server())
    assert capsys.readouterr().out == f"serving on {url}\n"


def test_what_an_agent_ends_by_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from copilot_bindings.serving.service import LoopEnded

    for error, status in ((SystemExit(), 1), (LoopEnded(), 1), (KeyboardInterrupt(), 130)):
        error.__cause__ = ValueError("why")

        def fails(*args: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setitem(cli._BINDINGS, "asyncio", fails)
        assert cli.main(["demo"]) == status
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
def test_a_hang_up_ends_it_gracefully(binding: str) -> None:
    with running("demo", "--binding", binding, signals=[signal.SIGHUP]) as url:
        assert get(url)


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [(signal.SIGTERM, -signal.SIGTERM, ""), (signal.SIGINT, 130, "sansio-copilot: interrupted\n")],
)
def test_a_signal_ends_it_at_once_while_it_imports(
    number: signal.Signals, status: int, told: str, tmp_path: Path
) -> None:
    """Nothing listens yet, so there is nothing to be ended with grace."""
    (tmp_path / "app.py").write_text(f"import signal; signal.raise_signal({int(number)})\n{APP}")
    command = [sys.executable, "-m", "copilot_bindings.cli", "serve", "app:runtime", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", told)


def test_a_hang_up_that_nohup_ignores_does_not() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running("demo", signals=[signal.SIGHUP, signal.SIGTERM]) as url:
            assert get(url)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_uvloop_is_for_asyncio(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--uvloop", "--binding", "trio"]) == 1
    assert "--uvloop goes with --binding asyncio" in capsys.readouterr().err


def test_a_binding_whose_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "h11", None)
    parts = ("asyncio", "http1", "serving")
    packages = tuple(f"copilot_bindings.{part}" for part in parts)
    for name in [name for name in sys.modules if name.startswith(packages)]:
        monkeypatch.delitem(sys.modules, name)
    assert cli.main(["demo"]) == 1
    assert "pip install 'sansio-copilot[asyncio]'" in capsys.readouterr().err


def test_an_address_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["demo", "--port", str(taken.getsockname()[1])]) == 1
    assert "address already in use" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_a_port_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", "--port", "99999"])
    assert "99999 is not a port" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["abc", "-1", "1.5", "1_0", "65536", "9" * 5000])
def test_a_port_that_is_no_whole_number(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", f"--port={port}"])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "--port: a whole number from 0 to 65535" in line
    assert len(line) < 300
