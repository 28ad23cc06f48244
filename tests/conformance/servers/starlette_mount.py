"""The ASGI binding mounted in a Starlette application, which keeps lifespan events to itself."""

import signal

import uvicorn
from starlette.applications import Starlette

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime

CANNOT = {
    "half-close": "uvicorn takes a client that closes its side for gone",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    copilot = CopilotASGI(runtime, grace_seconds=0.2)
    app = Starlette()
    # The route stands beside the mount, which has only the paths below it.
    app.add_route("/api/copilotkit", copilot)  # type: ignore[arg-type]
    app.mount("/api/copilotkit", copilot)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        # A busy machine takes longer between two requests than the five seconds of its default.
        timeout_keep_alive=75,
    )
