"""The floor: what it costs to only send what our server sends, with everything computed before.

A bare ``asyncio.Protocol`` that looks for the end of a request and answers with recorded bytes,
whatever was asked for. How, the target says:

- ``/whole``: in one write;
- ``/turns``: one event of the recording, a chunk of its own, in each turn of the event loop, which
  is what a server does that sends each event of an agent that waits for a model as it comes.

Takes the file with the recorded response as its argument, prints its port as a line of JSON, and
serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def pieces_of(response: bytes) -> list[bytes]:
    """A recorded response, each event of its body a chunk; the head goes with the first."""
    head_end = response.index(b"\r\n\r\n") + 4
    if b"transfer-encoding: chunked" not in response[:head_end].lower():
        return [response]
    body = b""
    position = head_end
    while position < len(response):
        line_end = response.index(b"\r\n", position)
        begin, size = line_end + 2, int(response[position:line_end], 16)
        body += response[begin : begin + size]
        position = begin + size + 2
    events = [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]
    pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    pieces[0] = response[:head_end] + pieces[0]
    # The last chunk and the empty one that ends the body leave together.
    pieces[-1] += b"0\r\n\r\n"
    return pieces


class Replay(asyncio.Protocol):
    """Sends the recording for each request."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._whole = b"".join(pieces)
        self._data = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._data, 0, end)
        if len(self._data) < end + 4 + (int(length[1]) if length else 0):
            return
        in_turns = b"/turns" in self._data[:end]
        self._data = b""
        if in_turns:
            self._send_piece(0)
        else:
            self._transport.write(self._whole)

    def _send_piece(self, index: int) -> None:
        self._transport.write(self._pieces[index])
        if index + 1 < len(self._pieces):
            self._loop.call_soon(self._send_piece, index + 1)


async def serve(pieces: list[bytes]) -> None:
    """Serve."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Replay(pieces), "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(pieces_of(Path(sys.argv[1]).read_bytes())))
