"""The ASGI binding under uvicorn."""

import signal

import uvicorn

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime

CANNOT = {
    "half-close": "uvicorn takes a client that closes its side for gone",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    # uvicorn ends by the signal that it got, once it has put back the handler it found.
    signal.signal(signal.SIGTERM, lambda *_: None)
    app = CopilotASGI(runtime, grace_seconds=0.2)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        # A busy machine takes longer between two requests than the five seconds of its default.
        timeout_keep_alive=75,
    )
