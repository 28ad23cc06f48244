"""What an orchestrator asks: whether a process lives, and whether it may be sent requests."""

from __future__ import annotations

import pytest
from conformance.process import Server


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_server_that_serves_is_alive_and_ready(server: Server, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = server.request(method, path)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
    assert server.request("GET", path).json() == {"status": "ok"}


@pytest.mark.parametrize("config", ["async-store", "blocking-store", "sqlite-store"])
def test_a_store_of_any_kind_is_asked_whether_it_is_ready(server: Server, config: str) -> None:
    assert server.request("GET", "/readyz", config=config).status == 200


def test_a_server_whose_store_is_away_lives_and_is_not_ready(server: Server) -> None:
    assert server.request("GET", "/healthz", config="away-store").status == 200
    answer = server.request("GET", "/readyz", config="away-store")
    assert answer.status == 503
    assert b"db.internal" not in answer.body
