"""The ASGI binding under granian, in its main process."""

import asyncio
import signal

from granian.constants import Interfaces
from granian.server.embed import Server

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime

CANNOT = {
    "half-close": "granian takes a client that closes its side for gone",
    # Its Rust aborts the process now and then, when every stream has ended. The command does not:
    # tests/docs starts that.
    "clean-exit": "granian's embedded server, which it calls experimental, may panic at its end",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    asyncio.run(serve_granian(runtime, host, port))


async def serve_granian(runtime: CopilotRuntime, host: str, port: int) -> None:
    app = CopilotASGI(runtime, grace_seconds=0.2)
    server = Server(app, host, port, interface=Interfaces.ASGI, websockets=False)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()
