"""Every server speaks HTTP, or says what it cannot."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from conformance.process import Server
from conformance.runtimes import BODY_BYTES

from sansio_copilot.testing import run_input

RUN = "/agent/text/run"
EXAMPLES = ("own_server", "toy_server")
"""The servers that this project has as examples for readers."""


def body_of(thread: str) -> bytes:
    return json.dumps(run_input(thread)).encode()


@pytest.mark.needs("keep-alive")
def test_a_connection_serves_several_requests(server: Server, thread: str) -> None:
    with server.client() as client:
        for _ in range(3):
            answer = client.request("GET", "/info")
            assert "close" not in answer.headers.get("connection", "")
            assert "text" in answer.json()["agents"]
            assert client.request("POST", RUN, body_of(thread)).types()[-1] == "RUN_FINISHED"
            head = client.request("HEAD", "/info")
            assert (head.status, head.headers["allow"], head.body) == (405, "GET", b"")
            assert client.request("POST", "/nope", b"x" * 1000).status == 404


@pytest.mark.needs("http/1.1")
def test_a_stream_is_chunked(server: Server, thread: str) -> None:
    answer = server.run("run", thread, agent="text")
    assert answer.http_version == "1.1"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers


def test_a_connection_that_is_to_be_closed_is_closed(server: Server, thread: str) -> None:
    with server.client() as client:
        answer = client.request("POST", RUN, body_of(thread), {"connection": "close"})
        assert answer.types()[-1] == "RUN_FINISHED"
        assert client.socket.recv(1) == b""


@pytest.mark.needs("http/1.0")
def test_http_1_0_gets_a_body_that_ends_with_the_connection(server: Server, thread: str) -> None:
    body = body_of(thread)
    head = f"POST {server.file.base_path}{RUN} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n"
    with server.client() as client:
        client.send_raw(head.encode() + body)
        head_received, _, stream = client.receive_all().partition(b"\r\n\r\n")
    assert b" 200 " in head_received.splitlines()[0]
    assert b"chunked" not in head_received.lower()
    assert stream.count(b"data: ") == 7
    assert stream.endswith(b"\n\n")


@pytest.mark.needs("half-close")
def test_a_client_that_closes_its_side_is_answered(server: Server) -> None:
    with server.client() as client:
        client.send("GET", "/info")
        client.half_close()
        assert client.receive().status == 200


@pytest.mark.needs("chunked-body")
def test_a_chunked_body_is_read(server: Server, thread: str) -> None:
    with server.client() as client:
        chunked = {"transfer-encoding": "chunked"}
        answer = client.request("POST", RUN, body_of(thread), chunked)
        assert answer.types()[-1] == "RUN_FINISHED"


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    with server.client() as client:
        answer = client.request("POST", RUN, b" " * (BODY_BYTES + 1))
    assert (answer.status, answer.json()["error"]) == (413, "Payload too large")


@pytest.mark.needs("chunked-body")
def test_a_chunked_body_that_is_too_large_is_refused(server: Server) -> None:
    with server.client() as client:
        chunked = {"transfer-encoding": "chunked"}
        answer = client.request("POST", RUN, b" " * (BODY_BYTES + 1), chunked)
    assert (answer.status, answer.json()["error"]) == (413, "Payload too large")


@pytest.mark.parametrize("length", [b"abc", b"7_0", b"-1"])
def test_a_length_that_is_none_is_refused(server: Server, length: bytes) -> None:
    """By the binding, or by the server in front of it; those of the examples just close."""
    with server.client() as client:
        head = b"GET %s/info HTTP/1.1\r\nhost: x\r\n" % client.base.encode()
        client.send_raw(head + b"content-length: " + length + b"\r\nconnection: close\r\n\r\n")
        status_line = client.receive_all().partition(b"\r\n")[0]
    assert status_line.split()[1:2] == ([] if server.file.name in EXAMPLES else [b"400"])


def test_a_path_keeps_its_escapes(server: Server) -> None:
    for thread in ("Größe & mehr", "100 %", "a+b"):
        answer = server.request("POST", f"/agent/default/stop/{quote(thread, safe='')}")
        assert answer.json()["message"] == f"No active run for thread '{thread}'."
        # The hook has put the id there as it is: header fields are Latin-1.
        assert answer.headers["x-route-thread"] == thread


@pytest.mark.needs("escaped-slash")
def test_an_escaped_slash_separates_nothing(server: Server) -> None:
    answer = server.request("POST", "/agent/default/stop/a%2Fb")
    assert answer.json()["message"] == "No active run for thread 'a/b'."


def test_a_query_arrives_as_it_was_sent(server: Server, thread: str) -> None:
    with server.client() as client:
        client.send("POST", "/agent/mirror/run?a=1&b=%C3%A4%20", body_of(thread))
        _, mirrored, _ = client.receive().events()
    assert mirrored["snapshot"]["query"] == "a=1&b=%C3%A4%20"
