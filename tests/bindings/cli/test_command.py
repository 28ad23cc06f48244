"""The ``sansio-copilot`` command, as a user runs it: bindings, signals, and where it listens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import APP, ended, get, import_without, launched, run, running, started

from copilot_bindings import cli


@pytest.mark.parametrize(
    "options",
    [
        *(["--binding", binding] for binding in ("asyncio", "trio", "sockets")),
        ["--uvloop"],
    ],
    ids=" ".join,
)
def test_the_demo_serves_its_page_and_its_agents(options: list[str]) -> None:
    with running("demo", *options) as url:
        assert get(url).startswith(b"<!doctype html>")
        agents = json.loads(get(f"{url}/api/copilotkit/info"))["agents"]
        assert list(agents) == ["default", "echo"]
        for agent_id in agents:
            types = run(f"{url}/api/copilotkit", agent_id)
            assert (types[0], types[-1]) == ("RUN_STARTED", "RUN_FINISHED")


def test_a_socket_of_datagrams_is_no_place_to_listen(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handed:
        given = ["demo", "--store", "memory", "--fd", str(os.dup(handed.fileno()))]
        assert cli.main(given) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "is no stream socket" in line


@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
@pytest.mark.parametrize("host", ["x" * 300, "x." * 150, "no.such.host.invalid", "a\x00b"])
def test_a_host_that_is_none_is_told_in_a_short_line(
    host: str, binding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--binding", binding, "--host", host, "--port", "0"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert len(line) < 400


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:5/"), ("h", "http://h:5/")])
def test_the_command_tells_an_address_that_can_be_opened(
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

# The agent and the hook wait first, because nobody would answer a client in its request's own turn.
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


def test_the_command_names_the_extra_of_a_binding_whose_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_without(monkeypatch, "h11", "asyncio", "http1", "serving")
    assert cli.main(["demo"]) == 1
    assert "pip install 'sansio-copilot[asyncio]'" in capsys.readouterr().err


def test_an_address_in_use_is_told_in_the_systems_words(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["demo", "--port", str(taken.getsockname()[1])]) == 1
    assert "address already in use" in capsys.readouterr().err


def get_from(address: Any, path: str = "/api/copilotkit/info") -> int:
    """The status code of a GET request to whatever listens at ``address``."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(60)
        client.connect(address)
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return int(client.makefile("rb").readline().split()[1])


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
def test_the_command_tells_why_it_cannot_listen_on_an_address(
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
