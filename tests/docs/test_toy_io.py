"""The toy I/O library of docs/examples ends, whatever its connections do."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_a_response_that_ends_after_the_signal_is_its_connections_last(monkeypatch: Any) -> None:
    """The client may leave its connection open, which must not hold the server up."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    toy_io = importlib.import_module("toy_io")

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def scenario() -> bytes:
        closed = asyncio.Event()

        async def answer(http: Any) -> None:
            await http.send_head(200, [("content-length", "2")])
            await http.send_body(b"o")
            os.kill(os.getpid(), signal.SIGTERM)
            await closed.wait()
            await asyncio.sleep(0)
            await http.send_body(b"k")
            await http.end(complete=True)

        async def close() -> None:
            closed.set()

        serving = asyncio.create_task(toy_io.serve("127.0.0.1", port, answer, close))
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = await reader.read()
        await serving
        writer.close()
        return received

    received = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert received.endswith(b"\r\n\r\nok")
