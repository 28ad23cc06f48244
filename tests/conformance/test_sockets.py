"""Bindings that read and write HTTP themselves meet clients that are odd, or hostile."""

from __future__ import annotations

import json

import pytest
from conformance.client import Client
from conformance.process import Server

from sansio_copilot.testing import run_input

pytestmark = pytest.mark.owns_sockets

HEAD = b"POST %s/agent/text/run HTTP/1.1\r\nhost: x\r\n"


def test_pipelined_requests_are_answered_in_order(server: Server, thread: str) -> None:
    with server.client() as client:
        base, body = client.base.encode(), json.dumps(run_input(thread)).encode()
        run = HEAD % base + b"content-length: %d\r\n\r\n%s" % (len(body), body)
        info = b"GET %s/info HTTP/1.1\r\nhost: x\r\n\r\n" % base
        last = info.replace(b"host: x", b"host: x\r\nconnection: close")
        client.send_raw(run + info + last)
        data = client.receive_all()
    assert data.count(b"HTTP/1.1 200 OK") == 3
    assert data.index(b"RUN_FINISHED") < data.index(b'"version"')


def test_100_continue_is_sent_when_the_body_is_wanted(server: Server, thread: str) -> None:
    body = json.dumps(run_input(thread)).encode()
    with server.client() as client:
        head = HEAD % client.base.encode() + b"expect: 100-continue\r\n"
        client.send_raw(head + b"content-length: %d\r\n\r\n" % len(body))
        assert client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send_raw(body)
        assert client.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        client.receive_until(b"RUN_FINISHED")


def test_a_hook_that_rejects_spares_the_upload(server: Server) -> None:
    with server.client() as client:
        head = HEAD % client.base.encode() + b"expect: 100-continue\r\nx-on-request: reject\r\n"
        client.send_raw(head + b"content-length: 1000\r\n\r\n")
        data = client.receive_all()
    assert data.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close" in data.lower()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_far_too_large_is_refused_before_its_end(server: Server, announced: bool) -> None:
    with server.client() as client:
        head = HEAD % client.base.encode()
        if announced:
            client.send_raw(head + b"content-length: 1000000\r\n\r\n")
        else:
            client.send_raw(head + b"transfer-encoding: chunked\r\n\r\n")
            client.send_raw(b"%x\r\n%s\r\n" % (200_000, b" " * 200_000))
        data = client.receive_all()
    assert data.startswith(b"HTTP/1.1 413 ")
    assert b"longer than 100000 bytes" in data


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"garbage\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 100_000, b"431"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", b"501"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
    ids=["garbage", "TLS", "no host", "no colon", "endless head", "gzip", "no chunk"],
)
def test_bytes_that_are_not_http_are_refused(server: Server, garbage: bytes, status: bytes) -> None:
    with server.client() as client:
        client.send_raw(garbage.replace(b"%s", client.base.encode()))
        data = client.receive_all()
    assert data.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in data.lower()


def test_a_client_that_leaves_in_the_middle_of_its_request_costs_nothing(server: Server) -> None:
    for sent in (b"", b"POST ", HEAD, HEAD + b"content-length: 10\r\n\r\n12345"):
        for leave in (Client.cut, Client.close):
            with server.client() as client:
                client.send_raw(sent.replace(b"%s", client.base.encode()))
                leave(client)
    assert server.request("GET", "/info").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_responses_that_nobody_reads_do_not_pile_up(server: Server, method: str) -> None:
    with server.client(receive_buffer=4096) as client:
        one = f"{method} {client.base}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.send_raw(one * 1_000_000)
        client.cut()


def test_bytes_that_nobody_reads_yet_do_not_pile_up(server: Server, thread: str) -> None:
    with server.client() as client:
        client.stream("run", thread)
        client.events(2)
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.send_raw(b"x" * 50_000_000)
        client.cut()
    server.let(thread)
    server.wait_unwound(thread)
