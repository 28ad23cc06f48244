"""Two hosts over one database, behind a load balancer that sends each request to the other one."""

from __future__ import annotations

import json
import math
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from conformance.client import Client
from conformance.forks import Fork
from conformance.process import free_port, wait_until
from support.caddy import Balancer
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer
from support.scripts import start_program

from sansio_copilot.sse import ServerSentEvent
from sansio_copilot.testing import run_input

BASE = "/api/copilotkit"
_SECONDS = 60.0


@attrs.define(eq=False)
class Host:
    """A server of the command, on an address of its own."""

    address: str
    store_url: str
    log: Path
    port: int = attrs.field(factory=free_port)
    _process: Fork | None = None

    def start(self) -> None:
        """Begin, and wait until it answers."""
        reports = str(self.log.with_name("reports"))
        with self.log.open("ab") as log:
            self._process = start_program(
                [
                    *("-m", "copilot_bindings.cli", "serve", "hosts_app:runtime"),
                    *("--host", self.address, "--port", str(self.port)),
                ],
                log,
                cwd=Path(__file__).parent,
                environ={"STORE_URL": self.store_url, "REPORTS": reports},
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                url = f"http://{self.address}:{self.port}{BASE}/info"
                with urllib.request.urlopen(url, timeout=_SECONDS):
                    return
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def end(self, number: signal.Signals) -> None:
        """End it by a signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_SECONDS)
            self._process = None


@attrs.define
class Service:
    """The hosts as a client sees them: one address."""

    hosts: list[Host]
    balancer: Balancer

    def client(self) -> Client:
        return Client(self.balancer.port, BASE, {})

    def status(self, path: str, body: Any) -> int:
        """The status of the answer to a POST, which is read to its end."""
        with self.client() as client:
            fields = {"content-type": "application/json"}
            client.send("POST", path, json.dumps(body).encode(), fields)
            return client.receive().status

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.balancer.port}{BASE}{path}"
        asked = urllib.request.Request(url, data, method=method)
        asked.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=_SECONDS) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture(scope="module", params=["redis", "postgres"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("hosts")
    database: Any = (
        RedisServer(tmp_path_factory.mktemp("redis"))
        if request.param == "redis"
        else PostgresServer()
    )
    hosts = [
        Host(f"127.0.0.{number}", database.url, directory / f"host{number}.log")
        for number in (1, 2)
    ]
    for host in hosts:
        host.start()
    balancer = Balancer(directory, *(f"{host.address}:{host.port}" for host in hosts))
    yield Service(hosts, balancer)
    balancer.close()
    for host in hosts:
        host.end(signal.SIGTERM)
    database.close()


def begin(client: Client, thread: str, to: int, pause: float = 0.002) -> None:
    client.stream("run", thread, forwardedProps={"to": to, "pause": pause})


def rest(client: Client) -> list[ServerSentEvent]:
    frames = []
    while (frame := client.next_frame()) is not None:
        frames.append(frame)
    return frames


def text_of(frames: list[ServerSentEvent]) -> str:
    events = [json.loads(frame.data) for frame in frames]
    return "".join(event.get("delta", "") for event in events)


def counted(to: int) -> str:
    return "".join(f"{number} " for number in range(to))


def test_a_thread_is_the_same_on_both_hosts(service: Service) -> None:
    with service.client() as client:
        begin(client, "whole", 20)
        live = rest(client)
    assert text_of(live) == counted(20)
    for _ in range(2):
        with service.client() as client:
            client.stream("connect", "whole")
            assert text_of(rest(client)) == counted(20)
        status, found = service.ask("GET", "/threads?agentId=default")
        assert status == 200
        assert "whole" in [thread["id"] for thread in found["threads"]]


def test_a_live_run_is_joined_on_either_host(service: Service) -> None:
    with service.client() as runner, service.client() as one, service.client() as other:
        begin(runner, "joined", 150)
        first = runner.next_frame()
        assert first is not None
        for client in (one, other):
            client.stream("connect", "joined")
        live = [first, *rest(runner)]
        for client in (one, other):
            joined = rest(client)
            assert text_of(joined) == counted(150)
            assert [frame.id for frame in joined] == [frame.id for frame in live]


def test_a_run_is_stopped_from_either_host_and_refused_on_both(service: Service) -> None:
    for number in range(2):
        with service.client() as client:
            begin(client, f"stopped{number}", 10_000)
            for _ in range(5):
                assert client.next_frame() is not None
            for _ in range(2):
                body = {"threadId": f"stopped{number}", "runId": "second", "state": {}}
                body |= {"messages": [], "tools": [], "context": [], "forwardedProps": {}}
                status, _ = service.ask("POST", "/agent/default/run", body)
                assert status == 409
            # The first request of a pair goes to one host, and the second one to the other.
            for _ in range(number):
                service.ask("GET", "/info")
            status, stopped = service.ask("POST", f"/agent/default/stop/stopped{number}", {})
            assert (status, stopped["stopped"]) == (200, True)
            last = json.loads(rest(client)[-1].data)
            assert last["type"] == "RUN_FINISHED"


ANSWER = [{"interruptId": "i", "status": "resolved", "payload": True}]
ASKED_AGAIN = ["RUN_STARTED", "RUN_FINISHED"]
ACTED = ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]
REFUSED = ["RUN_STARTED", "RUN_ERROR"]
ENDS = ("RUN_FINISHED", "RUN_ERROR")


def ask(client: Client, thread: str, *, hangs: bool = False, **fields: Any) -> Client:
    return client.stream("run", thread, agent="asks", forwardedProps={"hangs": hangs}, **fields)


def types_of(service: Service, thread: str, **fields: Any) -> list[str]:
    """The types of the events of a run, on the other host than that of the run before."""
    with service.client() as client:
        frames = rest(ask(client, thread, **fields))
    return [json.loads(frame.data)["type"] for frame in frames]


def test_an_approval_that_reaches_both_hosts_is_acted_on_once(service: Service) -> None:
    assert types_of(service, "approved") == ASKED_AGAIN
    runs = [types_of(service, "approved", resume=ANSWER) for _ in range(3)]
    assert runs == [ACTED, REFUSED, REFUSED]


def test_an_approval_whose_host_is_killed_is_asked_for_again(service: Service) -> None:
    assert types_of(service, "lost") == ASKED_AGAIN
    with service.client() as client:
        ask(client, "lost", hangs=True, resume=ANSWER)
        acted = [client.next_event()["type"] for _ in range(2)]
        # A client is not told which host has the run, so that both are killed.
        for host in service.hosts:
            host.end(signal.SIGKILL)
    for host in service.hosts:
        host.start()
    assert acted == ACTED[:2]
    deadline = time.monotonic() + _SECONDS
    # The run is busy until its lease has run out.
    body = run_input("lost", "again", resume=ANSWER, forwardedProps={"hangs": False})
    while (status := service.status("/agent/asks/run", body)) in (409, 502):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status == 200
    assert types_of(service, "lost", resume=ANSWER) == ACTED, "the second run has asked again"
    with service.client() as client:
        ends = [json.loads(frame.data) for frame in rest(client.stream("connect", "lost"))]
    told = [end.get("outcome", {}).get("type") for end in ends if end["type"] in ENDS]
    assert told == ["interrupt", None, "interrupt", "success"]
    assert [end["type"] for end in ends].count("CUSTOM") == 2, "once for each approval"


def test_a_run_whose_host_is_killed_is_read_on_and_ended_by_the_other(service: Service) -> None:
    frames: list[ServerSentEvent] = []
    with service.client() as client:
        begin(client, "killed", 100_000, 0.005)
        while len(frames) < 30:
            frame = client.next_frame()
            assert frame is not None
            frames.append(frame)
    # A client is not told which host has the run, so that each is killed in turn.
    for host, enough in zip(service.hosts, (100, math.inf), strict=True):
        host.end(signal.SIGKILL)
        until = len(frames) + enough
        status = 502
        while status == 502:
            # The balancer does not send again by itself what it had sent to the dead host.
            with service.client() as reader:
                reader.stream("connect", "killed", headers={"last-event-id": frames[-1].id})
                while len(frames) < until and (frame := reader.next_frame()) is not None:
                    frames.append(frame)
                status = reader.status
        assert status == 200
        host.start()
        if len(frames) < until:
            break
    assert json.loads(frames[-1].data)["type"] == "RUN_ERROR"
    ids = [frame.id for frame in frames]
    assert len(ids) == len(set(ids)), "nothing was sent twice"
    assert [int(each.rpartition(".")[2]) for each in ids] == list(range(len(ids)))
    said = text_of(frames)
    assert said == counted(len(said.split()))
    reports = service.hosts[0].log.with_name("reports")

    def reported() -> list[str]:
        lines = reports.read_text().splitlines() if reports.exists() else []
        return [line for line in lines if line.startswith("killed lost ")]

    # The reader that has found the run waits for no hook, and the next sweep calls it.
    wait_until(lambda: bool(reported()), "the lost run is reported")
    # The thread can be used again, on both.
    for _ in range(2):
        with service.client() as client:
            begin(client, "killed", 3)
            assert text_of(rest(client)) == counted(3)
    assert reported() == [f"killed lost {len(frames)}"], "it is reported once, and by one host"
