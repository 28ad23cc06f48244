"""The files of docs/examples/deploy: proxies as they stand there but for the ports, and what starts
and ends a server by what it says.

Caddy comes from pip; nginx and HAProxy are tried where they are installed.
"""

from __future__ import annotations

import contextlib
import http.client
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.process import free_port

from copilot_bindings.asyncio import serve
from copilot_bindings.cli import options
from sansio_copilot.testing import run_input

DEPLOY = Path(__file__).parents[2] / "docs" / "examples" / "deploy"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
PROXIES = {
    "caddy": ("Caddyfile", ["run", "--adapter", "caddyfile", "--config", "{file}"]),
    "nginx": ("nginx.conf", ["-c", "{file}", "-p", "{directory}", "-g", "{nginx}"]),
    "haproxy": ("haproxy.cfg", ["-f", "{file}"]),
}
NGINX = "daemon off; pid nginx.pid; error_log stderr;"
INSTALLED = [name for name in PROXIES if shutil.which(name, path=PATH)]
SECONDS = 60.0
APP = """
import asyncio
from sansio_copilot import CopilotRuntime, Limits

gate = None

async def agent(input, context):
    global gate
    run = {"threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_STARTED", **run}
    if input.forwarded_props == "release":
        gate.set()
    else:
        gate = asyncio.Event()
        await gate.wait()
    yield {"type": "RUN_FINISHED", **run}

runtime = CopilotRuntime(
    {"default": agent}, limits=Limits(heartbeat_seconds=0.2), metrics_path="/metrics"
)
"""


def test_a_proxy_at_least_is_installed() -> None:
    assert "caddy" in INSTALLED


@pytest.fixture(scope="module", params=INSTALLED)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy in front of a runtime."""
    directory = tmp_path_factory.mktemp(request.param)
    (directory / "app.py").write_text(APP)
    ours, theirs = free_port(), free_port()
    name, arguments = PROXIES[request.param]
    text = (DEPLOY / name).read_text()
    assert "127.0.0.1:4000" in text
    assert "127.0.0.1:8080" in text
    file = directory / name
    file.write_text(text.replace(":4000", f":{ours}").replace(":8080", f":{theirs}"))
    program = shutil.which(request.param, path=PATH)
    assert program is not None
    filled = [each.format(file=file, directory=directory, nginx=NGINX) for each in arguments]
    own = [sys.executable, "-m", "copilot_bindings.cli", "serve", "app:runtime", "--port"]
    places = {"XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    with (directory / "log").open("wb") as log:
        started = [
            subprocess.Popen(
                command, cwd=directory, env=os.environ | places, stdout=log, stderr=log
            )
            for command in ([*own, str(ours)], [program, *filled])
        ]
        try:
            deadline = time.monotonic() + SECONDS
            while not answers(theirs):
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.05)
            yield theirs
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(SECONDS)


def answers(port: int) -> bool:
    try:
        return get(port, "/api/copilotkit/info") == 200
    except OSError:
        return False


def get(port: int, path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as made:
        made.request("GET", path)
        with made.getresponse() as response:
            return response.status


@contextlib.contextmanager
def stream(
    port: int, path: str, thread: str, props: object = None
) -> Iterator[http.client.HTTPResponse]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as made:
        body = json.dumps(run_input(thread, forwardedProps=props))
        made.request("POST", path, body, {"content-type": "application/json"})
        with made.getresponse() as response:
            yield response


@pytest.mark.parametrize("base", ["/api/copilotkit", "/assistant/api/copilotkit"])
def test_events_and_heartbeats_arrive_one_by_one(port: int, base: str) -> None:
    with stream(port, f"{base}/agent/default/run", f"t{base}") as first:
        assert b"RUN_STARTED" in first.readline() + first.readline()
        # The agent waits, and so this comes by itself; of an event of its own nothing is held back.
        while not first.readline().startswith(b":"):
            pass
        with stream(port, f"{base}/agent/default/run", f"other{base}", "release") as second:
            assert b"RUN_FINISHED" in second.read()
        assert b"RUN_FINISHED" in first.read()


def test_other_paths_do_not_reach_the_runtime(port: int) -> None:
    assert get(port, "/metrics") == 404
    assert get(port, "/elsewhere") == 404


# --- What starts and ends a server ------------------------------------------------------------


def shown(name: str) -> str:
    return (DEPLOY / name).read_text()


def number(name: str, pattern: str) -> int:
    found = re.search(pattern, shown(name))
    assert found, pattern
    return int(found[1])


def parsed(arguments: list[str], **environ: str) -> Any:
    return options.parser(["asyncio", "trio", "sockets"], environ).parse_args(arguments)


def test_the_probes_of_kubernetes_are_answered(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    program = "from copilot_bindings.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", "app:runtime", "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2].strip("/\n"))
        paths = re.findall(r"httpGet: { path: (\S+), port: 4000 }", shown("kubernetes.yaml"))
        assert paths == ["/healthz", "/readyz"]
        assert [get(port, path) for path in paths] == [200, 200]
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


def test_a_server_has_the_time_to_end_that_it_takes() -> None:
    """The command's grace period, and 2 s in which the last events are sent."""
    takes = inspect.signature(serve).parameters["grace_seconds"].default + 2
    sleep = number("kubernetes.yaml", r"sleep: { seconds: (\d+) }")
    assert number("kubernetes.yaml", r"terminationGracePeriodSeconds: (\d+)") > sleep + takes
    assert number("sansio-copilot.service", r"TimeoutStopSec=(\d+)") > takes


def test_the_command_takes_the_arguments_that_the_files_give_it() -> None:
    found = re.search(r"ExecStart=(.*)", shown("sansio-copilot.service"))
    assert found
    command, *arguments = shlex.split(found[1])
    assert command.endswith("/sansio-copilot")
    assert parsed(arguments).store == "sqlite:/var/lib/copilot/threads.db"

    found = re.search(r"args: (\[.*\])", shown("kubernetes.yaml"))
    assert found
    assert parsed(json.loads(found[1])).store == "$(STORE_URL)"

    image = shown("Dockerfile")
    arguments = re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])", image, re.MULTILINE)
    command, *given = [part for text in arguments for part in json.loads(text)]
    environ = dict(re.findall(r"(SANSIO_COPILOT_\w+)=(\S+)", image))
    told = parsed(given, **environ)
    assert (command, told.host, told.port, told.json_logs) == (
        "sansio-copilot",
        "0.0.0.0",
        int(re.findall(r"EXPOSE (\d+)", image)[0]),
        True,
    )
