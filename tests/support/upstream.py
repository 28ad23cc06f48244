"""A remote agent that answers with the bytes that a test gives it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Literal

import attrs

Step = bytes | threading.Event | Literal["request", "end", "reset"]
"""A step is bytes to send, an event to wait for, "request" or "end" to wait for another request or
for the client's end, or "reset" to break the connection off by RST."""
_SECONDS = 30.0
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@attrs.define
class Asked:
    """A request that came, and whether its client has gone."""

    head: bytes
    body: bytes
    gone: threading.Event = attrs.field(factory=threading.Event)

    def header(self, name: str) -> str:
        """The value of a header; "" if it did not come."""
        for line in self.head.decode("latin-1").split("\r\n"):
            found, _, value = line.partition(":")
            if found.lower() == name:
                return value.strip()
        return ""


class Upstream:
    """Answers each connection with the next of ``replies``, and the last one ever after."""

    def __init__(self, *replies: Sequence[Step], tls: ssl.SSLContext | None = None) -> None:
        self._replies = list(replies)
        self._tls = tls
        self.asked: list[Asked] = []
        self.sent = 0
        """Bytes of the last reply that the client's side has taken."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://localhost:{port}/agent?key=secret"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accept no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            threading.Thread(target=self._serve, args=(connection, reply), daemon=True).start()

    def _serve(self, connection: socket.socket, reply: Sequence[Step]) -> None:
        connection.settimeout(_SECONDS)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(connection)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                stack.enter_context(connection)
            asked = self._read(connection)
            if not any(isinstance(step, str) for step in reply):
                # A step that reads or resets would have another reader in its way.
                listen = threading.Thread(target=self._listen, args=(connection, asked))
                listen.daemon = True
                listen.start()
            for step in reply:
                if isinstance(step, bytes):
                    for start in range(0, len(step), 65536):
                        piece = step[start : start + 65536]
                        connection.sendall(piece)
                        self.sent += len(piece)
                elif isinstance(step, threading.Event):
                    step.wait(_SECONDS)
                elif step == "request":
                    asked = self._read(connection)
                elif step == "reset":
                    # A linger of zero seconds makes close() send RST instead of FIN (POSIX).
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                else:
                    self._listen(connection, asked)
            if "reset" not in reply:
                # The other thread, which reads, would keep a connection open that is only closed.
                connection.shutdown(socket.SHUT_WR)

    def _read(self, connection: socket.socket) -> Asked:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        asked = Asked(head, body)
        self.asked.append(asked)
        while len(asked.body) < int(asked.header("content-length") or 0):
            asked.body += self._receive(connection)
        return asked

    def _receive(self, connection: socket.socket) -> bytes:
        if data := connection.recv(65536):
            return data
        raise ConnectionResetError

    def _listen(self, connection: socket.socket, asked: Asked) -> None:
        with contextlib.suppress(OSError):
            connection.recv(1)
        asked.gone.set()


@contextlib.contextmanager
def upstream(*replies: Sequence[Step], tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    """A remote agent for as long as the context lasts."""
    server = Upstream(*replies, tls=tls)
    try:
        yield server
    finally:
        server.close()
