"""The length that a request announces: one rule, and the same answer from every binding.

Servers in front of the ASGI and the WSGI binding may refuse a wrong length themselves, so that this
is tried without one; over sockets it is part of tests/support/hostile_requests.py.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
from support.driver import BASE, Driver, make_runtime

from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.embedding import open_host
from copilot_bindings.serving.content_length import announced_length
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import RemoteProtocolError, Request


@pytest.mark.parametrize(
    ("field", "length"),
    [
        (None, None),
        ("0", 0),
        ("007", 7),
        ("0" * 10_000, 0),
        ("0" * 10_000 + "7", 7),
        (" 7\t", 7),
        ("7, 7", 7),
        ("7,7 ,\t7", 7),
    ],
)
def test_a_length_is_read(field: str | None, length: int | None) -> None:
    assert announced_length(field) == length


def test_a_length_of_any_number_of_digits_is_above_every_limit() -> None:
    for digits in (20, 21, 5000, 1_000_000):
        assert (announced_length("9" * digits) or 0) >= 10**18


@pytest.mark.parametrize(
    "field", ["", "abc", "+7", "-7", "7_0", "1e3", "7 7", "7,", "7, 8", "\u0667", "\xb2", "\x0b7"]
)
def test_a_field_that_is_no_length_is_refused(field: str) -> None:
    with pytest.raises(RemoteProtocolError, match="The Content-Length is no number"):
        announced_length(field)


@attrs.frozen
class Answer:
    """The parts of a response that the bindings have to agree on."""

    status: int
    length: str
    body: bytes


def on_a_connection(method: str, fields: list[tuple[str, str]]) -> Answer:
    driver = Driver()
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    driver.feed(f"{method} {BASE}/info HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode()).end()
    head, _, body = bytes(driver.sent).partition(b"\r\n\r\n")
    status, *rows = head.decode().split("\r\n")
    sent = dict(row.split(": ", 1) for row in rows)
    return Answer(int(status.split()[1]), sent["content-length"], body)


def under_asgi(method: str, fields: list[tuple[str, str]]) -> Answer:
    scope = {
        "type": "http",
        "method": method,
        "path": f"{BASE}/info",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in fields],
    }
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    async def main() -> None:
        app = CopilotASGI(make_runtime())
        await app(scope, receive, send)
        await app.close()

    anyio.run(main)
    head, *pieces = messages
    length = dict(head["headers"])[b"content-length"].decode()
    return Answer(head["status"], length, b"".join(piece["body"] for piece in pieces))


def in_a_server_of_ones_own(method: str, fields: list[tuple[str, str]]) -> Answer:
    class Client:
        async def receive(self) -> bytes:
            return b""

        async def send_head(self, status: int, fields: Any) -> None:
            self.status, self.fields, self.body = status, dict(fields), b""

        async def send_body(self, data: bytes) -> None:
            self.body += data

    client = Client()

    async def main() -> None:
        async with open_host(make_runtime()) as host:
            assert await host.answer(Request(method, f"{BASE}/info", headers=fields), client)

    anyio.run(main)
    return Answer(client.status, client.fields["content-length"], client.body)


def under_wsgi(method: str, fields: list[tuple[str, str]]) -> Answer:
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": f"{BASE}/info",
        "CONTENT_LENGTH": ",".join(value for _, value in fields),
        "wsgi.input": io.BytesIO(),
    }
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    app = CopilotWSGI(make_runtime())
    body = b"".join(app(environ, lambda *head: heads.append(head)))
    app.close()
    ((status, sent),) = heads
    return Answer(int(status.split()[0]), dict(sent)["content-length"], body)


@pytest.mark.parametrize("values", [["abc"], ["7_0"], ["7, 8"], ["7", "8"], ["9" * 5000 + "x"]])
@pytest.mark.parametrize(
    "answer", [on_a_connection, under_asgi, in_a_server_of_ones_own, under_wsgi]
)
def test_a_wrong_length_is_refused_by_every_binding_in_the_same_words(
    answer: Callable[[str, list[tuple[str, str]]], Answer], values: list[str]
) -> None:
    fields = [("content-length", value) for value in values]
    got = answer("GET", fields)
    assert got.status == 400
    expected = {"error": "Bad request", "message": "The Content-Length is no number"}
    assert json.loads(got.body) == expected
    assert int(got.length) == len(got.body)
    # The response to HEAD is the same without content (RFC 9110 section 9.3.2).
    assert answer("HEAD", fields) == attrs.evolve(got, body=b"")


@pytest.mark.parametrize(
    "answer", [on_a_connection, under_asgi, in_a_server_of_ones_own, under_wsgi]
)
def test_the_same_length_twice_is_taken_by_every_binding(
    answer: Callable[[str, list[tuple[str, str]]], Answer],
) -> None:
    got = answer("GET", [("content-length", "0"), ("content-length", "0")])
    assert (got.status, int(got.length)) == (200, len(got.body))
