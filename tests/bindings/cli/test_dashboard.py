"""The command that serves the dashboard."""

from __future__ import annotations

import json
import socket

import pytest
from conformance.process import wait_until
from support.command import get, import_without, running
from support.upstream import upstream

from copilot_bindings import cli


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
def test_a_dashboard_of_what_is_no_metrics_ends_at_its_start(
    path: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running("demo", "--store", "memory") as url:
        assert cli.main(["dashboard", url + path, "--port", "0"]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"sansio-copilot: {url}{path} {told}")


def test_a_dashboard_of_no_url_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dashboard", "localhost:4000"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "an absolute http or https one" in line


def test_a_dashboard_names_the_extra_of_the_package_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_without(monkeypatch, "h11", "asyncio", "http1", "serving")
    with upstream([b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n"]) as server:
        assert cli.main(["dashboard", server.url]) == 1
    assert "pip install 'sansio-copilot[asyncio]'" in capsys.readouterr().err
