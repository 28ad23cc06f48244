"""A small HTTP/1.1 client that shows what is on the wire, for the bindings' tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self

import h11
from conformance.client import Answer

from sansio_copilot import CopilotRuntime
from sansio_copilot.sse import Parser, ServerSentEvent
from sansio_copilot.testing import run_input as run_input

BASE = "/api/copilotkit"


class Connection:
    """A client connection; :meth:`send` and :meth:`receive` may be called in any order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h11 = h11.Connection(h11.CLIENT)
        self.parser = Parser()
        self.frames: list[ServerSentEvent] = []
        self.head: h11.Response | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def close(self) -> None:
        self.writer.close()

    def cut(self) -> None:
        """Go away without a word: a reset, not the close of one side."""
        socket = self.writer.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        fields = {"host": "test", **(headers or {})}
        if (body or method == "POST") and "transfer-encoding" not in fields:
            fields["content-length"] = str(len(body))
        data = self.h11.send(h11.Request(method=method, target=path, headers=list(fields.items())))
        data += self.h11.send(h11.Data(data=body)) if body else b""
        data += self.h11.send(h11.EndOfMessage())
        self.writer.write(data or b"")
        await self.writer.drain()

    async def _next(self) -> Any:
        while (event := self.h11.next_event()) is h11.NEED_DATA:
            self.h11.receive_data(await asyncio.wait_for(self.reader.read(65536), 30))
        return event

    async def begin(self) -> h11.Response:
        """Receive the head of a response."""
        event = await self._next()
        assert isinstance(event, h11.Response), event
        self.head = event
        return event

    async def receive(self) -> Answer:
        """Receive a whole response."""
        head = self.head or await self.begin()
        body = bytearray()
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            body += event.data
        self._end()
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Answer(head.status_code, headers, bytes(body), head.http_version.decode())

    def _end(self) -> None:
        self.head = None
        if self.h11.our_state is self.h11.their_state is h11.DONE:
            self.h11.start_next_cycle()

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.send(method, path, body, fields)
        return await self.receive()

    async def next_event(self) -> dict[str, Any] | None:
        """The next event of a stream, as soon as it is there; None at the end."""
        if self.head is None:
            await self.begin()
        while not self.frames:
            event = await self._next()
            if isinstance(event, h11.EndOfMessage):
                self._end()
                return None
            assert isinstance(event, h11.Data), event
            self.frames += self.parser.feed(bytes(event.data))
        frame: dict[str, Any] = json.loads(self.frames.pop(0).data)
        return frame

    async def rest(self) -> list[dict[str, Any]]:
        """The events of a stream that have not been read yet, to its end."""
        events = []
        while (event := await self.next_event()) is not None:
            events.append(event)
        return events


def body_of(thread_id: str, run_id: str = "run-1", **fields: Any) -> bytes:
    """A run's body as bytes."""
    return json.dumps(run_input(thread_id, run_id, **fields)).encode()


@contextlib.asynccontextmanager
async def serving(runtime: CopilotRuntime, grace_seconds: float = 0) -> AsyncIterator[Any]:
    """A server on a free port, and no task left behind when it has closed."""
    from copilot_bindings.asyncio import start_server

    before = asyncio.all_tasks()
    server = await start_server(runtime, port=0, grace_seconds=grace_seconds)
    try:
        yield server
    finally:
        async with asyncio.timeout(30):
            await server.close()
    assert asyncio.all_tasks() <= before, "a task has leaked"
