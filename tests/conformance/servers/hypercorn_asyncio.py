"""The ASGI binding under hypercorn with asyncio."""

import asyncio

from hypercorn.asyncio import serve as serve_hypercorn
from hypercorn.config import Config

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime

CANNOT = {
    "half-close": "hypercorn takes a client that closes its side for gone",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    config = Config()
    config.bind = [f"{host}:{port}"]
    # The time is longer than the binding takes to end what a client holds up.
    config.graceful_timeout = 8
    # A busy machine takes longer between two requests than the five seconds of its default.
    config.keep_alive_timeout = 75
    asyncio.run(serve_hypercorn(CopilotASGI(runtime, grace_seconds=0.2), config))  # type: ignore[arg-type]
