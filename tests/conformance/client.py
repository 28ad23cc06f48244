"""The client of the suite: one blocking connection, which shows what is on the wire and when."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, Self

import attrs
import h11

from sansio_copilot.sse import HEARTBEAT, Parser, ServerSentEvent
from sansio_copilot.testing import run_input

TIMEOUT = 60.0
"""Seconds after which a test gives up on a server; no test waits for it to pass."""


@attrs.frozen
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes
    http_version: str

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in Parser().feed(self.body)]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events()]


class Receiver:
    """The reader of the bytes that have arrived at a client, however they are cut."""

    def __init__(self) -> None:
        self.h11 = h11.Connection(h11.CLIENT)
        self.parser = Parser()
        self.head: h11.Response | None = None
        self.ended = False
        """Whether the response is complete."""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the response; the events that they complete."""
        self.h11.receive_data(data)
        return self.take()

    def take(self) -> list[ServerSentEvent]:
        """The events that are complete, as far as no more bytes are needed to know."""
        frames: list[ServerSentEvent] = []
        while True:
            event = self.h11.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return frames
            if isinstance(event, h11.Response):
                self.head = event
            elif isinstance(event, h11.Data):
                frames += self.parser.feed(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.ended = True
                return frames
            elif not isinstance(event, h11.InformationalResponse):
                raise AssertionError(event)


class Client:
    """A connection to a server. The methods that send return without waiting for an answer."""

    def __init__(
        self, port: int, base_path: str, headers: Mapping[str, str], receive_buffer: int = 0
    ) -> None:
        self.base = base_path
        self.receive_at_most = 65536
        """Bytes that :meth:`next_frame` takes from the socket at a time."""
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT)
        if receive_buffer:
            # Only before it connects does it limit what the server may send.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"host": f"127.0.0.1:{port}", **headers}
        self._receiver = Receiver()
        self._frames: list[ServerSentEvent] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Sending

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole request; ``path`` is below the base path."""
        self.socket.sendall(self.request_bytes(method, path, body, headers))

    def request_bytes(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        if self._receiver.ended:
            self._receiver.h11.start_next_cycle()
            self._receiver.ended, self._receiver.head = False, None
            self._receiver.parser = Parser()
        fields = {**self._headers, **(headers or {})}
        if (body or method in ("POST", "PATCH")) and "transfer-encoding" not in fields:
            fields["content-length"] = str(len(body))
        connection = self._receiver.h11
        request = h11.Request(method=method, target=self.base + path, headers=list(fields.items()))
        data = connection.send(request) or b""
        if body:
            data += connection.send(h11.Data(data=body)) or b""
        return data + (connection.send(h11.EndOfMessage()) or b"")

    def stream(
        self,
        operation: str,
        thread: str,
        *,
        agent: str = "default",
        run_id: str = "run-1",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Self:
        """Ask for a stream: run, connect or suggest."""
        body = json.dumps(run_input(thread, run_id, **fields)).encode()
        fields_sent = {"content-type": "application/json", **(headers or {})}
        self.send("POST", f"/agent/{agent}/{operation}", body, fields_sent)
        return self

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def expect_answer(self) -> None:
        """Expect the response to a POST that is sent by :meth:`send_raw`."""
        arrived, _ = self._receiver.h11.trailing_data
        self._receiver = Receiver()
        self._receiver.h11.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
        self._receiver.h11.send(h11.EndOfMessage())
        if arrived:
            self._receiver.h11.receive_data(arrived)

    def request_refused(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        """Send a request that the server may refuse, and hang up, before it has arrived.

        :returns: None if the refusal was lost in that (RFC 9112 section 9.6).
        """
        with contextlib.suppress(ConnectionError):
            with contextlib.suppress(ConnectionError):
                self.send(method, path, body, headers)
            return self.receive()
        return None

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def cut(self) -> None:
        """Go away without a word: a reset."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Receiving

    def receive(self) -> Answer:
        """Receive a whole response."""
        connection, body = self._receiver.h11, bytearray()
        head = self._receiver.head
        deadline = time.monotonic() + TIMEOUT
        while not isinstance(event := self._next(connection), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if not event.data.startswith(b":"):
                    deadline = time.monotonic() + TIMEOUT
                assert time.monotonic() < deadline, f"no event within {TIMEOUT} s"
            else:
                assert isinstance(event, h11.InformationalResponse), event
        self._receiver.ended = True
        assert head is not None
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Answer(head.status_code, headers, bytes(body), head.http_version.decode())

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and receive the whole response."""
        self.send(method, path, body, headers)
        return self.receive()

    def receive_head(self) -> None:
        """Receive the head of a stream; events that come with it are kept."""
        while self._receiver.head is None:
            data = self.socket.recv(self.receive_at_most)
            assert data, "the server has closed the connection"
            self._frames += self._receiver.feed(data)

    def next_frame(self) -> ServerSentEvent | None:
        """The next event of a stream as soon as it is there; None at the end."""
        deadline = time.monotonic() + TIMEOUT
        while not self._frames and not self._receiver.ended:
            # Heartbeats keep the socket from timing out.
            assert time.monotonic() < deadline, f"no event within {TIMEOUT} s"
            self._frames += self._receiver.feed(self.socket.recv(self.receive_at_most))
        return self._frames.pop(0) if self._frames else None

    def next_event(self) -> dict[str, Any]:
        """The next event of a stream as soon as it is there.

        :raises EOFError: if the stream has ended.
        """
        if (frame := self.next_frame()) is None:
            raise EOFError("the stream has ended")
        event: dict[str, Any] = json.loads(frame.data)
        return event

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next ``count`` events of a stream."""
        return [self.next_event() for _ in range(count)]

    def heartbeats(self, count: int) -> None:
        """Receive until so many heartbeats have come; events meanwhile are kept."""
        deadline = time.monotonic() + TIMEOUT
        while count > 0:
            assert time.monotonic() < deadline, f"no {count} more heartbeats within {TIMEOUT} s"
            data = self.socket.recv(self.receive_at_most)
            assert data, "the stream has ended"
            count -= data.count(HEARTBEAT)
            self._frames += self._receiver.feed(data)

    def rest(self) -> list[dict[str, Any]]:
        """The events of a stream that have not been read yet, to its well-formed end."""
        events = []
        while (frame := self.next_frame()) is not None:
            events.append(json.loads(frame.data))
        return events

    @property
    def status(self) -> int:
        """The status of the stream that is being read."""
        assert self._receiver.head is not None
        return self._receiver.head.status_code

    @property
    def last_event_id(self) -> str:
        """The id that a client would reconnect with."""
        return self._receiver.parser.last_event_id

    def record(self) -> bytes:
        """Receive a whole stream; its bytes as they came."""
        data = bytearray()
        while not self._receiver.ended:
            data += (piece := self.socket.recv(65536))
            self._receiver.feed(piece)
        return bytes(data)

    def receive_bytes(self, count: int) -> bytes:
        """Return exactly so many bytes of what the server sends."""
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, f"the server has closed the connection after {bytes(data)!r}"
            data += piece
        return bytes(data)

    def receive_until(self, end: bytes) -> bytes:
        """Return what the server sends, up to ``end`` or to where it closes the connection."""
        data = bytearray()
        while not data.endswith(end) or not end:
            piece = self.socket.recv(1 if end else 65536)
            if not piece:
                break
            data += piece
        return bytes(data)

    def receive_all(self) -> bytes:
        """Return what the server sends until it closes the connection."""
        return self.receive_until(b"")

    def _next(self, connection: h11.Connection) -> Any:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(self.socket.recv(65536))
        return event
