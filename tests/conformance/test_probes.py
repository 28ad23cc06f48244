"""An orchestrator asks whether a process lives, and whether it may be sent requests."""

from __future__ import annotations

import pytest
from conformance.process import Server, wait_until


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_server_that_serves_is_alive_and_ready(server: Server, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = server.request(method, path)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
    assert server.request("GET", path).json() == {"status": "ok"}


@pytest.mark.of_the_binding
@pytest.mark.parametrize("config", ["async-store", "blocking-store", "sqlite-store"])
def test_a_store_of_any_kind_is_asked_whether_it_is_ready(server: Server, config: str) -> None:
    assert server.request("GET", "/readyz", config=config).status == 200


@pytest.mark.of_the_binding
def test_a_server_whose_store_is_away_lives_and_is_not_ready(server: Server) -> None:
    assert server.request("GET", "/healthz", config="away-store").status == 200
    answer = server.request("GET", "/readyz", config="away-store")
    assert answer.status == 503
    assert b"db.internal" not in answer.body


@pytest.mark.of_the_binding
def test_a_server_tells_what_it_has_counted(server: Server, thread: str) -> None:
    sample = 'sansio_copilot_runs_total{agent="fails-midway",outcome="failed"} '

    def counted() -> int:
        lines = server.request("GET", "/metrics").body.decode().splitlines()
        found = [line for line in lines if line.startswith(sample)]
        return int(found[0].removeprefix(sample)) if found else 0

    before = counted()
    server.run("run", thread, agent="fails-midway")
    wait_until(lambda: counted() > before, "the run is counted")
