"""The processes that a benchmark is made of: servers, the load generator, and what they use."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 60.0


class BenchmarkError(Exception):
    """A measurement that counts for nothing: a process ended, or a server answered wrongly."""


def _family(pid: int) -> list[int]:
    """``pid`` and its descendants."""
    pids = [pid]
    for known in pids:
        for task in Path(f"/proc/{known}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids.extend(map(int, task.read_text().split()))
    return pids


def processor_seconds(pid: int) -> float:
    """Seconds of processor time that a process has used, with its descendants, ended ones too."""
    ticks = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            # The fields 14 to 17 of proc(5) are behind the name, which may hold anything.
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


class Server:
    """A server in a process of its own, or several.

    :param port: where it will listen; None if it says so itself, in a line of JSON.
    """

    def __init__(
        self, name: str, command: list[str], port: int | None = None, **environment: str
    ) -> None:
        self.name = name
        # The output beside the port is of interest when something fails, and not before.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if port is None else self._log,
            stderr=self._log,
            env={**os.environ, **environment},
        )
        try:
            self.port = self._announced() if port is None else self._reached(port)
        except BaseException:
            self.close()
            raise

    def _announced(self) -> int:
        out = self._process.stdout
        assert out is not None
        if select.select([out], [], [], _START_SECONDS)[0] and (line := out.readline()):
            port: int = json.loads(line)["port"]
            return port
        raise BenchmarkError(f"{self.name} does not start: {self.log()}")

    def _reached(self, port: int) -> int:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return port
            time.sleep(0.05)
        raise BenchmarkError(f"{self.name} does not start: {self.log()}")

    def log(self) -> str:
        """The end of what it has logged."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 5000))
        return self._log.read().decode(errors="replace")

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        return processor_seconds(self._process.pid)

    def memory(self) -> int:
        """Bytes that are resident."""
        pages = 0
        for pid in _family(self._process.pid):
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ours(binding: str = "asyncio", *, unbounded: bool = False) -> Server:
    """Our runtime under a binding; ``asgi`` is under uvicorn, ``wsgi`` under gunicorn's gthread."""
    python = sys.executable
    environment = {"UNBOUNDED": "1"} if unbounded else {}
    if binding in ("asgi", "wsgi"):
        port = free_port()
        address = f"127.0.0.1:{port}"
        commands = {
            "asgi": (
                "uvicorn serve:asgi --factory --log-level error --backlog 1024 --host 127.0.0.1 "
                f"--port {port}"
            ),
            "wsgi": (
                "gunicorn serve:wsgi() --worker-class gthread --threads 64 --keep-alive 60 "
                f"--log-level error --bind {address}"
            ),
        }
        return Server(binding, [python, "-m", *commands[binding].split()], port, **environment)
    options = ["--unbounded"] if unbounded else []
    return Server(binding, [python, "serve.py", binding, *options])


def with_store(name: str, where: str) -> Server:
    """Our runtime under asyncio, with that store and no bounds of what it keeps.

    :param where: as the command's ``--store`` takes it.
    """
    options = ["asyncio", "--unbounded", "--store", where]
    return Server(name, [sys.executable, "serve.py", *options])


def in_front_of(agent: Server) -> Server:
    """Our runtime under asyncio, in front of a remote agent."""
    url = f"http://127.0.0.1:{agent.port}/api/copilotkit/agent/default/run"
    return Server("asyncio", [sys.executable, "serve.py", "asyncio", "--remote", url])


def reference(*, unbounded: bool = False) -> Server:
    """The reference runtime."""
    options = ["--unbounded"] if unbounded else []
    # "collect" of the agent needs it; it changes nothing else.
    return Server("reference", ["node", "--expose-gc", "reference.mjs", *options])


def bare() -> Server:
    """The endpoint of FastAPI that a Python user would write instead, under uvicorn as ``asgi``."""
    port = free_port()
    command = f"uvicorn bare_fastapi:app --log-level error --backlog 1024 --port {port}"
    return Server("FastAPI", [sys.executable, "-m", *command.split()], port)


def floor(recording: Path) -> Server:
    """The server that sends ``recording``."""
    return Server("floor", [sys.executable, "floor.py", str(recording)])


class Load:
    """The load generator."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "load.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, server: Server, do: str, **command: Any) -> dict[str, Any]:
        """Carry out a command of load.py.

        :returns: what it measured, and as ``cpu`` what the server used meanwhile.
        :raises BenchmarkError: if anything was not as it must be.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = server.cpu()
        self._process.stdin.write(json.dumps({"do": do, "port": server.port, **command}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the load generator has ended")
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise BenchmarkError(
                f"{server.name}, {do} {command}: {result['error']}\n{server.log()}"
            )
        result["cpu"] = server.cpu() - before
        return result

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def wrk(server: Server, path: str, connections: int, seconds: float) -> dict[str, Any]:
    """GET ``path`` by wrk, whose C costs less beside the server than our load generator.

    :raises BenchmarkError: if a response was an error, or is of another length than the others.
    """
    before = server.cpu()
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "-s",
        str(HERE / "wrk.lua"),
        f"http://127.0.0.1:{server.port}{path}",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(told.splitlines()[-1])
    if result["errors"]:
        raise BenchmarkError(f"{server.name}: {result['errors']} errors")
    result["cpu"] = server.cpu() - before
    result["seconds"] = result.pop("microseconds") / 1e6
    return result
