"""The dashboard as a browser asks for it, without a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.process import wait_until
from support.upstream import upstream

from copilot_bindings.dashboard import Source, build_dashboard
from sansio_copilot.metrics import Metrics
from sansio_copilot.testing import Client

HERE = {"host": "127.0.0.1:4001"}


@pytest.fixture
def client() -> Iterator[Client]:
    text = Metrics().text()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text)
    with upstream([head + text]) as server:
        client = Client(build_dashboard(Source(server.url), seconds=3600))
        yield client
        client.close()


def test_the_page_runs_its_own_script_and_asks_its_own_server_alone(client: Client) -> None:
    page = client.request("GET", "/", headers=HERE)
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert b"https://" not in page.body
    assert b" style=" not in page.body
    assert client.request("HEAD", "/", headers=HERE).status == 200


def test_the_metrics_that_were_read_are_told(client: Client) -> None:
    def points(query: str) -> list[int]:
        told = client.request("GET", f"/points{query}", headers=HERE)
        assert told.status == 200
        assert told.headers["cache-control"] == "no-store"
        return [point["at"] for point in told.json()["points"]]

    wait_until(lambda: points("") != [], "the metrics were read")
    [at] = points("")
    assert points(f"?after={at}") == []
    for query in (f"?after={at - 1}", "?after=x", "?after=" + "9" * 400, "?" + "a=1&" * 1000):
        assert points(query) == [at]


def test_neither_the_page_nor_the_log_has_the_query_of_the_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with upstream([b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n"]) as server:
        client = Client(build_dashboard(Source(server.url), seconds=3600))
        wait_until(lambda: "is away" in caplog.text, "the log says that the server is away")
        told = client.request("GET", "/points", headers=HERE)
        client.close()
    assert told.json()["url"].endswith("/agent")
    assert b"secret" not in told.body
    assert "secret" not in caplog.text


def test_there_is_nothing_else(client: Client) -> None:
    for method, path in (("GET", "/api/copilotkit/info"), ("POST", "/"), ("GET", "/page.html")):
        assert client.request(method, path, headers=HERE).status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4001", "127.0.0.1.evil.example", ""]
)
def test_a_name_of_another_machine_is_refused(client: Client, host: str) -> None:
    """A page elsewhere may have its own name mean this machine (DNS rebinding)."""
    for path in ("/", "/points"):
        assert client.request("GET", path, headers={"host": host}).status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "[::1]:4001", "127.0.0.1"])
def test_a_request_by_a_name_of_this_machine_is_answered(client: Client, host: str) -> None:
    assert client.request("GET", "/points", headers={"host": host}).status == 200
