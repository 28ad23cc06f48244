"""A server of one's own, for the I/O library in toy_io.py: the host does all but move messages."""

from functools import partial

import toy_io

from copilot_bindings.embedding import Host, open_host
from sansio_copilot import CopilotRuntime, Request


async def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    async with open_host(runtime) as opened:
        await toy_io.serve(host, port, partial(answer, opened), opened.close)


async def answer(host: Host, http: toy_io.Connection) -> None:
    # The connection has the methods of a copilot_bindings.embedding.Peer.
    complete = await host.answer(Request.from_target(*http.request), http)
    await http.end(complete=complete)
