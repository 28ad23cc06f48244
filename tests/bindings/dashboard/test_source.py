"""Asking a server for its metrics, whatever it answers."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

import pytest
from support.upstream import Step, upstream

from copilot_bindings.dashboard import Away, NotMetrics, Source
from copilot_bindings.dashboard import source as module
from copilot_bindings.dashboard.readings import Reading
from sansio_copilot.metrics import Metrics

TEXT = Metrics().text()


def answer(body: bytes = TEXT, head: bytes = b"200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (head, size, body)


def read(url: str) -> Reading:
    with closing(Source(url)) as source:
        return source.read()


def test_the_metrics_are_read() -> None:
    with upstream([answer()]) as server:
        assert read(server.url).count("runs_live") == 0
        assert server.asked[0].head.startswith(b"GET /agent?key=secret HTTP/1.1\r\n")


def test_a_connection_is_kept_and_a_closed_one_is_made_again() -> None:
    """A connection that is kept reaches the same one of several processes that share a port."""
    another = answer(TEXT.replace(b"readers 0", b"readers 7"))
    with upstream([answer(), "request", answer()], [another]) as server:
        with closing(Source(server.url)) as source:
            assert [source.read().count("readers") for _ in range(3)] == [0, 0, 7]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(head=b"404 Not Found"), "answers 404: has the runtime a metrics_path"),
        (answer(head=b"401 Unauthorized"), "answers 401"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n",
            "answers 302, and points to '/login'",
        ),
        (answer(b"<html>"), "is no Prometheus text: line 1 is '<html>'"),
        (answer(b"up 1\n"), "has no metrics of a runtime"),
    ],
)
def test_a_server_that_answers_with_something_else_is_told(reply: bytes, why: str) -> None:
    with upstream([reply]) as server, pytest.raises(NotMetrics) as raised:
        read(server.url)
    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ([answer(head=b"503 Service Unavailable")], "it answers 503"),
        ([answer(length=len(TEXT) + 10)], "breaks off"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nup"], "Incomplete"),
        ([b"SSH-2.0-OpenSSH\r\n"], "BadStatusLine: SSH-2.0-OpenSSH"),
        (["reset"], ""),
    ],
)
def test_a_server_that_does_not_answer_is_away(reply: list[Step], why: str) -> None:
    with upstream(reply) as server, pytest.raises(Away) as raised:
        read(server.url)
    assert why in str(raised.value)


@pytest.mark.parametrize("quoted", [b"<b>" * 20_000, b"\x1b[2J\x00\x85"])
def test_an_error_that_quotes_the_answer_is_told_shortened_and_escaped(quoted: bytes) -> None:
    with upstream([b"HTTP/1.x " + quoted + b"\r\n\r\n"]) as server:
        with pytest.raises(Away, match="BadStatusLine") as raised:
            read(server.url)
    assert len(str(raised.value)) < 300
    assert str(raised.value).isprintable()


def test_an_address_where_nobody_listens_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Away, match="ConnectionRefusedError"):
        read(f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 70 + ".example"])
def test_a_host_that_there_is_not_is_away(host: str) -> None:
    with pytest.raises(Away):
        read(f"http://{host}/metrics")


def test_an_answer_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", len(TEXT) - 1)
    with upstream([answer()]) as server, pytest.raises(NotMetrics, match="has more than"):
        read(server.url)


def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
    never = threading.Event()
    with upstream([answer(length=len(TEXT) + 10), never]) as server:
        with pytest.raises(Away, match=r"timed out"):
            read(server.url)
        never.set()


def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", -1.0)
    with upstream([answer()]) as server, pytest.raises(Away, match="takes longer than"):
        read(server.url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("127.0.0.1:4000/metrics", "an absolute http or https one"),
        ("/metrics", "an absolute http or https one"),
        ("ftp://host/metrics", "an absolute http or https one"),
        ("http:///metrics", "an absolute http or https one"),
        ("http://user:secret@host/metrics", "without a user's name"),
        ("http://host:99999/metrics", "is none"),
        ("http://[host/metrics", "is none"),
        ("http://host/a b", "characters"),
        ("http://host/\x00", "characters"),
        ("http://host/ä", "characters"),
        ("x" * 5000, "an absolute http or https one"),
    ],
)
def test_a_url_that_is_none_is_refused_in_a_short_message(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        Source(url)
    assert len(str(raised.value)) < 400
