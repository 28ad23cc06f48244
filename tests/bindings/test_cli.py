"""The ``sansio-copilot`` command, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conformance.process import wait_until
from support.running_model import running_model
from support.scripts import SERVING, start_program
from support.upstream import SSE, upstream

from copilot_bindings import cli
from copilot_bindings.cli import logs, options, stores
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


@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
def test_the_demo_of_a_model(binding: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_the_demo_of_a_model_that_cannot_be_used(
    model: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert cli.main(["demo", "--store", "memory", "--model", model]) == 1
    assert said in capsys.readouterr().err


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


def test_the_demo_of_a_model_without_its_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_without(monkeypatch, "pydantic_ai", "agents", "demo.model")
    assert cli.main(["demo", "--store", "memory", "--model", "openai/gpt-4o-mini"]) == 1
    said = capsys.readouterr().err
    assert "needs pydantic_ai: pip install 'sansio-copilot[model]'" in said


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
    store, line = stores.demo_store()
    assert isinstance(store, SQLiteStore)
    store.close()
    assert line.startswith(f"conversations are kept in {tmp_path}/data/sansio-copilot/demo.db")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    store, line = stores.demo_store()
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
        ("redis://host:x/", "RedisStore needs the URL of a server"),
        ("redis://host/0?no_such=1", "RedisStore needs the URL of a server"),
        ("rediss://host/0?ssl_cert_reqs=x", "RedisStore needs the URL of a server"),
        ("postgresql://host/?no_such=1", "PostgresStore needs the URL of a database"),
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


@pytest.mark.parametrize("command", ["copy-threads", "claim-threads"])
def test_a_store_that_is_no_database_is_told_in_a_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database " * 100)
    second = "memory" if command == "copy-threads" else "os:fspath"
    assert cli.main([command, f"sqlite:{path}", second]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "it is no SQLite database" in line


def test_a_socket_of_datagrams_is_no_place_to_listen(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handed:
        given = ["demo", "--store", "memory", "--fd", str(os.dup(handed.fileno()))]
        assert cli.main(given) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "is no stream socket" in line


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


@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
@pytest.mark.parametrize("host", ["x" * 300, "x." * 150, "no.such.host.invalid", "a\x00b"])
def test_a_host_that_is_none(host: str, binding: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--binding", binding, "--host", host, "--port", "0"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert len(line) < 400


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "http://[::1]:5/"), ("", "http://0.0.0.0:5/"), ("h", "http://h:5/")]
)
def test_the_address_that_the_command_tells(
    host: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Server:
        port = 5

    async def serve(runtime: object, *, ready: Callable[[Server], None], **place: object) -> None:
        ready(Server())

    monkeypatch.setattr("copilot_bindings.asyncio.server.serve", serve)
    assert cli.main(["demo", "--host", host]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"serving on {url}"


def test_the_exit_of_an_agent_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from copilot_bindings.serving.shutdown import LoopEnded

    for error, status in ((SystemExit(), 1), (LoopEnded(), 1), (KeyboardInterrupt(), 130)):
        error.__cause__ = ValueError("why")

        def fails(*args: object, error: BaseException = error, **place: object) -> None:
            raise error

        monkeypatch.setattr("copilot_bindings.sockets.server.serve", fails)
        assert cli.main(["demo", "--binding", "sockets"]) == status
        assert len(capsys.readouterr().err.splitlines()) == 1


INTERRUPTED = """
import anyio
from sansio_copilot import CopilotRuntime, Hooks

# Both wait first, because in the turn of a request nobody would answer its client.
async def agent(input, context):
    yield {"type": "RUN_STARTED", "threadId": "t", "runId": "run-1"}
    await anyio.sleep(0.01)
    raise KeyboardInterrupt

async def hook(context):
    if context.path.endswith("/info"):
        await anyio.sleep(0.01)
        raise KeyboardInterrupt

runtime = CopilotRuntime({"default": agent}, hooks=Hooks(on_request=hook))
"""


@pytest.mark.parametrize("by", ["agent", "hook"])
@pytest.mark.parametrize("options", [["--binding", "asyncio"], ["--uvloop"], ["--binding", "trio"]])
def test_an_interrupt_ends_it_in_one_line(options: list[str], by: str, tmp_path: Path) -> None:
    """Python raises it wherever the main thread is, if nobody has taken over SIGINT."""
    (tmp_path / "app.py").write_text(INTERRUPTED)
    with launched("serve", "app:runtime", *options, cwd=tmp_path) as (process, url):
        if by == "agent":
            assert run(f"{url}/api/copilotkit", "default") == ["RUN_STARTED", "RUN_ERROR"]
        else:
            with pytest.raises(urllib.error.HTTPError, match="500"):
                get(f"{url}/api/copilotkit/info")
        _, errors = process.communicate(timeout=60)
    assert errors.endswith(": shut down\nsansio-copilot: interrupted\n")
    # A request that fails is logged with its traceback.
    assert errors.count("Traceback") == (by == "hook")
    assert process.returncode == 130


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
    """A server that does not listen yet has nothing to end with grace."""
    (tmp_path / "app.py").write_text(f"import signal; signal.raise_signal({int(number)})\n{APP}")
    command = [sys.executable, "-m", "copilot_bindings.cli", "serve", "app:runtime", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", told)


def test_an_interrupt_while_its_own_packages_are_imported_is_told_in_a_line(
    tmp_path: Path,
) -> None:
    """Some packages make another exception of the interrupt, as pydantic does."""
    program = """
        import signal
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("cannot be built")
    """
    (tmp_path / "attrs.py").write_text(textwrap.dedent(program))
    command = [sys.executable, "-m", "copilot_bindings.cli", "demo", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "sansio-copilot: interrupted\n")


def test_a_hang_up_that_nohup_ignores_does_not(tmp_path: Path) -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with started("demo", "--port", "0", cwd=tmp_path) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            process.send_signal(signal.SIGHUP)
            assert get(url)
            ended(process)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_uvloop_is_for_asyncio(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--uvloop", "--binding", "trio"]) == 1
    assert "--uvloop goes with --binding asyncio" in capsys.readouterr().err


def test_a_binding_whose_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_without(monkeypatch, "h11", "asyncio", "http1", "serving")
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


# --- The dashboard --------------------------------------------------------------------------------


def test_the_dashboard_shows_the_metrics_of_the_demo() -> None:
    with running("demo", "--store", "memory") as url, running("dashboard", f"{url}/metrics") as own:
        assert get(own).startswith(b"<!doctype html>")
        wait_until(lambda: json.loads(get(f"{own}/points"))["points"], "the metrics were read")
        told = json.loads(get(f"{own}/points"))
        assert (told["url"], told["since"]) == (f"{url}/metrics", None)


def test_the_dashboard_waits_for_a_server_that_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with running("dashboard", f"http://127.0.0.1:{port}/metrics") as own:
        wait_until(lambda: json.loads(get(f"{own}/points"))["since"], "the server was asked")
        assert "ConnectionRefusedError" in json.loads(get(f"{own}/points"))["trouble"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/nothing", "answers 404: has the runtime a metrics_path, and is it this one?"),
        ("/", "is no Prometheus text: line 1 is '<!doctype html>'"),
        ("/healthz", "is no Prometheus text"),
    ],
)
def test_a_dashboard_of_what_is_no_metrics(
    path: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running("demo", "--store", "memory") as url:
        assert cli.main(["dashboard", url + path, "--port", "0"]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"sansio-copilot: {url}{path} {told}")


def test_a_dashboard_of_no_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dashboard", "localhost:4000"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "an absolute http or https one" in line


def test_a_dashboard_without_the_package_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_without(monkeypatch, "h11", "asyncio", "http1", "serving")
    with upstream([b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n"]) as server:
        assert cli.main(["dashboard", server.url]) == 1
    assert "pip install 'sansio-copilot[asyncio]'" in capsys.readouterr().err


# --- Where it listens -----------------------------------------------------------------------------


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


def get_from(address: Any, path: str = "/api/copilotkit/info") -> int:
    """The status code of a GET request to whatever listens at ``address``."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(60)
        client.connect(address)
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return int(client.makefile("rb").readline().split()[1])


def ended(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    """Tell it to end; returns its standard error."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return errors


def test_the_command_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with started("demo", "--unix", str(path), "--unix-mode", "600", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving on a Unix socket\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert get_from(str(path)) == 200
        ended(process)


def test_the_command_listens_on_a_socket_that_another_process_has_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        with started("demo", "--fd", str(number), cwd=tmp_path, descriptors=[number]) as process:
            assert get_from(listener.getsockname()) == 200
            ended(process)


def test_the_command_takes_the_socket_that_systemd_hands_over(tmp_path: Path) -> None:
    """The shell tells the command its own process id, as systemd does, and puts the socket at 3."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        script = (
            f"exec 3<&{number}; LISTEN_FDS=1 LISTEN_PID=$$ "
            f"exec {sys.executable} -m copilot_bindings.cli demo"
        )
        process = subprocess.Popen(
            ["bash", "-c", script], pass_fds=[number], stdout=subprocess.PIPE, text=True
        )
        assert get_from(listener.getsockname()) == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("given", "environ", "told"),
    [
        (["--unix-mode", "660"], {}, "--unix-mode goes with --unix"),
        (["--unix", ""], {}, "--unix needs a path, and is empty"),
        (["--unix", "", "--workers", "2"], {}, "--unix needs a path, and is empty"),
        (["--fd", "9999"], {}, "descriptor 9999 is no socket"),
        ([], {"LISTEN_PID": "me", "LISTEN_FDS": "2"}, "systemd hands over 2 sockets, expected one"),
        ([], {"SANSIO_COPILOT_WORKER": "4"}, "number of processes is SANSIO_COPILOT_WORKERS"),
        ([], {"SANSIO_COPILOT_WORKER": "-1,2,3"}, "which only a supervisor sets"),
    ],
)
def test_an_address_on_which_the_command_cannot_listen(
    given: list[str],
    environ: dict[str, str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("me", str(os.getpid())))
    assert cli.main(["demo", "--store", "memory", *given]) == 1
    assert told in capsys.readouterr().err


# --- Arguments from the environment ---------------------------------------------------------------


def parsed(*arguments: str, **environ: str) -> Any:
    return options.parser(["asyncio", "trio"], environ).parse_args(arguments)


def test_environment_variables_stand_for_arguments() -> None:
    found = parsed(
        "serve",
        "app:runtime",
        SANSIO_COPILOT_PORT="5000",
        SANSIO_COPILOT_LOG_LEVEL="debug",
        SANSIO_COPILOT_JSON_LOGS="1",
        SANSIO_COPILOT_ACCESS_LOG="0",
        SANSIO_COPILOT_STORE="memory",
        SANSIO_COPILOT_UNIX_MODE="660",
    )
    assert (found.port, found.log_level, found.json_logs) == (5000, "debug", True)
    assert (found.access_log, found.store, found.unix_mode) == (False, "memory", 0o660)


def test_a_variable_is_looked_at_by_the_command_that_it_is_for() -> None:
    wrong = {"SANSIO_COPILOT_PORT": "x"}
    assert parsed("copy-threads", "memory", "memory", **wrong).source == "memory"
    assert parsed("demo", SANSIO_COPILOT_LOG_LEVEL="INFO").log_level == "info"


def test_an_argument_counts_more_than_its_variable() -> None:
    assert parsed("demo", "--port", "1", SANSIO_COPILOT_PORT="2").port == 1


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"SANSIO_COPILOT_PORT": "x"}, "x is not a port"),
        ({"SANSIO_COPILOT_RELOAD": "maybe"}, "SANSIO_COPILOT_RELOAD is 1 or 0, not maybe"),
        ({"SANSIO_COPILOT_BINDING": "x"}, "SANSIO_COPILOT_BINDING is one of asyncio, trio, not x"),
        ({"SANSIO_COPILOT_UNIX_MODE": "rw"}, "rw is none"),
        ({"SANSIO_COPILOT_UNIX_MODE": "7777"}, "7777 is none"),
        ({"SANSIO_COPILOT_WORKERS": "0"}, "0 is no number of processes"),
        ({"SANSIO_COPILOT_FD": "-1"}, "-1 is no descriptor"),
        ({"SANSIO_COPILOT_FD": "9" * 20}, "is no descriptor"),
    ],
)
def test_a_variable_that_makes_no_sense(
    environ: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed("demo", **environ)
    assert told in capsys.readouterr().err


# --- The log --------------------------------------------------------------------------------------


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
    assert "the agents are 'mine', at /api/copilotkit, with threads in a MemoryStore" in [
        line["text"] for line in lines
    ]


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


# --- Several processes ----------------------------------------------------------------------------

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
    monkeypatch.setattr("copilot_bindings.net.listeners._addresses_of", lambda *where: found)
    assert cli.main(["demo", "--workers", "2", "--port", "0"]) == 1
    assert "'127.0.0.1' has several addresses" in capsys.readouterr().err
