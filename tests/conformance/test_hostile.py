"""Odd and hostile requests, sent to each server that reads HTTP itself.

What has to become of each stands in tests/support/hostile_requests.py; it is tested without sockets
in tests/bindings/http1/test_connection.py. A traceback in a server's log fails the suite when the
server ends.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable

import pytest
from conformance.client import Client
from conformance.process import Server, wait_until
from support.hostile_requests import BODY, CASES, CHUNKS, NEXT, POST, Case, responses, with_chunks

from sansio_copilot.testing import run_input

pytestmark = pytest.mark.owns_sockets

LAST = NEXT.replace(b"host: x", b"host: x\r\nconnection: close")
SMALL_CASES = [case for case in CASES if len(case.sent) < 1000 and not case.is_rude]


def send(client: Client, data: bytes, size: int) -> None:
    """Send as much as the server takes, ``size`` bytes at a time."""
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(data), size):
            client.send_raw(data[at : at + size])


def check(server: Server, case: Case, size: int) -> None:
    sent, expected = case.sent, case.answers
    if not case.closes:
        # The connection is still open when this request has been answered.
        sent, expected = sent + LAST, (*expected, 200)
    with server.client() as client:
        send(client, sent.replace(b"{base}", client.base.encode()), size)
        found = responses(client.receive_all(), sent)
    assert tuple(response.status for response in found) == expected
    assert [response.closes for response in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_request_is_answered_and_none_behind_a_bad_one(server: Server, case: Case) -> None:
    check(server, case, size=len(case.sent) + 1000)


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_requests_are_answered_the_same_a_byte_at_a_time(server: Server, case: Case) -> None:
    check(server, case, size=1)


@pytest.mark.parametrize("leave", [Client.close, Client.cut, Client.half_close])
def test_a_client_may_leave_at_every_byte(
    server: Server, leave: Callable[[Client], None], thread: str
) -> None:
    body = json.dumps(run_input(thread)).encode()
    run = b"POST %s/agent/text/run HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s"
    sent = run % (server.file.base_path.encode(), len(body), body)
    before = server.held().descriptors
    for length in range(0, len(sent), 3):
        with server.client() as client:
            client.send_raw(sent[:length])
            leave(client)
            if leave is Client.half_close:
                found = responses(client.receive_all())
                assert [response.status for response in found] == [400] * (length > 0)
    assert server.request("GET", "/info").status == 200
    wait_until(lambda: server.held().descriptors <= before, "all connections are closed")


@pytest.mark.parametrize(
    "sent",
    [POST + b"content-length: 7\r\n\r\n" + BODY, with_chunks(CHUNKS)],
    ids=["length", "chunks"],
)
def test_a_client_that_has_closed_its_side_is_answered(server: Server, sent: bytes) -> None:
    with server.client() as client:
        client.send_raw(sent.replace(b"{base}", client.base.encode()))
        client.half_close()
        assert [answer.status for answer in responses(client.receive_all())] == [200]


def test_requests_behind_a_stream_are_answered_when_it_has_ended(
    server: Server, thread: str
) -> None:
    with server.client() as client:
        data = client.stream("run", thread).receive_until(b"TEXT_MESSAGE_START")
        client.send_raw(NEXT.replace(b"{base}", client.base.encode()) + b"garbage\r\n\r\n")
        server.let(thread)
        data += client.receive_all()
    assert b"RUN_FINISHED" in data
    assert [response.status for response in responses(data)] == [200, 200, 400]


def test_a_client_that_goes_on_sending_gets_its_answer(server: Server) -> None:
    """Closing at once would reset the connection, and the answer could get lost."""
    with server.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        send(client, b"garbage\r\n\r\n" + b"x" * 10_000_000, 65536)
        assert [response.status for response in responses(client.receive_all())] == [400]
