"""The ASGI binding under hypercorn with trio."""

import functools
import signal

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_hypercorn

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
    app = CopilotASGI(runtime, grace_seconds=0.2)
    trio.run(serve_until_signalled, app, config)


async def serve_until_signalled(app: CopilotASGI, config: Config) -> None:
    # The receiver opens before the server listens, because the suite may end it as soon as it does.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        told_to_end = functools.partial(anext, signals)
        await serve_hypercorn(app, config, shutdown_trigger=told_to_end)  # type: ignore[arg-type]
