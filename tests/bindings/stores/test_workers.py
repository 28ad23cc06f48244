"""Workers of one server share a file: run here, connect, stop and resume there."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from conformance.process import free_port

from sansio_copilot.events import verify_events
from sansio_copilot.sse import Parser
from sansio_copilot.testing import run_input

HERE = Path(__file__).parent
BASE = "/api/copilotkit"
COMMANDS = {
    "uvicorn": "uvicorn workers_app:asgi --workers 2 --log-level warning --port {port}",
    "gunicorn": (
        "gunicorn workers_app:wsgi --workers 2 --worker-class gthread --threads 8"
        " --log-level warning --bind 127.0.0.1:{port}"
    ),
    "gunicorn, loaded before it forks": (
        "gunicorn workers_app:wsgi --preload --workers 2 --worker-class gthread --threads 8"
        " --log-level warning --bind 127.0.0.1:{port}"
    ),
}


@attrs.define(eq=False)
class Answer:
    """An answer that is read bit by bit."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse
    parser: Parser = attrs.field(factory=Parser)
    events: list[Any] = attrs.field(factory=list)

    @property
    def worker(self) -> str:
        return self.response.headers["x-worker"]

    def read(self, count: int | None = None) -> list[dict[str, Any]]:
        """Return ``count`` events in all, or all that there are."""
        while count is None or len(self.events) < count:
            data = self.response.read1(1 << 16)
            if not data:
                assert count is None, self.events
                break
            self.events += self.parser.feed(data)
        return [json.loads(event.data) for event in self.events]

    def close(self) -> None:
        self.connection.close()


class Site:
    """A server with two workers."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self._open: list[Answer] = []

    def ask(self, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        fields = {"content-type": "application/json", **headers}
        connection.request("POST", BASE + path, json.dumps(body) if body else "", fields)
        answer = Answer(connection, connection.getresponse())
        self._open.append(answer)
        return answer

    def elsewhere(self, other: Answer, ask: Callable[[], Answer]) -> Answer:
        """Return the answer of a worker other than that of ``other``."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            answer = ask()
            if answer.worker != other.worker:
                return answer
            answer.close()
        raise AssertionError("there is one worker only")

    def let(self, thread: str, deltas: int) -> None:
        (self.directory / f"{thread}.gate").write_bytes(b"x" * deltas)

    def let_end(self, thread: str) -> None:
        (self.directory / f"{thread}.gate").unlink()

    def close(self) -> None:
        for answer in self._open:
            answer.close()


@pytest.fixture(scope="module", params=COMMANDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    port = free_port()
    command = [sys.executable, "-m", *COMMANDS[request.param].format(port=port).split()]
    log = (directory / "log").open("w+")
    process = subprocess.Popen(
        command,
        cwd=HERE,
        env={**os.environ, "STORE": str(directory / "threads.db")},
        stdout=log,
        stderr=log,
    )
    site = Site(port, directory)
    try:
        _wait_ready(site, process)
        yield site
        site.close()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.seek(0)
        text = log.read()
        assert "Traceback" not in text, text
        assert "several workers" not in text
    finally:
        process.kill()
        process.wait()
        log.close()


def _wait_ready(site: Site, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, (site.directory / "log").read_text()
        with contextlib.suppress(OSError):
            site.ask("/threads/clear").close()
            return
        time.sleep(0.1)
    raise AssertionError("it does not answer")


def body(thread: str, run: str = "r") -> dict[str, Any]:
    return run_input(thread, run)


def test_a_run_is_followed_and_resumed_elsewhere(site: Site) -> None:
    site.let("follow", 3)
    run = site.ask("/agent/default/run", body("follow"))
    assert len(run.read(5)) == 5
    reader = site.elsewhere(run, lambda: site.ask("/agent/default/connect", body("follow")))
    assert reader.read(5) == run.read(5)
    site.let("follow", 6)
    assert reader.read(8) == run.read(8)
    seen = reader.events[3].id
    reader.close()
    again = site.elsewhere(
        run,
        lambda: site.ask("/agent/default/connect", body("follow"), **{"last-event-id": seen}),
    )
    assert again.read(4) == run.read(8)[4:]
    site.let_end("follow")
    whole = run.read()
    verify_events(whole)
    assert again.read() == whole[4:]


def test_a_thread_is_busy_and_its_run_is_stopped_elsewhere(site: Site) -> None:
    site.let("stop", 1)
    run = site.ask("/agent/default/run", body("stop"))
    run.read(3)
    busy = site.elsewhere(run, lambda: site.ask("/agent/default/run", body("stop", "other")))
    assert busy.response.status == 409
    for _ in range(40):
        # The first worker that is asked stops the run, and so another worker has to be the first.
        stop = site.ask("/agent/default/stop/stop")
        stopped = json.loads(stop.response.read())["stopped"]
        if stop.worker != run.worker or stopped:
            break
    assert stopped
    events = run.read()
    assert events[-1]["type"] == "RUN_FINISHED"
    verify_events(events)
    site.let_end("stop")
    replay = site.ask("/agent/default/connect", body("stop")).read()
    assert [event.get("delta") for event in replay] == [None, None, "0 ", None, None]


def test_the_run_of_a_worker_that_is_killed_is_ended_by_the_other(site: Site) -> None:
    site.let("kill", 2)
    run = site.ask("/agent/default/run", body("kill"))
    run.read(4)
    reader = site.elsewhere(run, lambda: site.ask("/agent/default/connect", body("kill")))
    reader.read(4)
    os.kill(int(run.worker), signal.SIGKILL)
    events = reader.read()
    verify_events(events)
    assert events[-1]["type"] == "RUN_ERROR"
    assert events[-1]["message"] == "The server that ran the agent has died"
    site.let_end("kill")
