"""The ASGI binding mounted in a FastAPI application, behind middleware and a root path."""

import signal
from collections.abc import Awaitable, Callable

import uvicorn
from fastapi import FastAPI, Request, Response

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime

BASE_PATH = "/v1/copilot"
CANNOT = {
    "half-close": "uvicorn takes a client that closes its side for gone",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    copilot = CopilotASGI(runtime, grace_seconds=0.2)
    app = FastAPI()
    app.add_route("/v1/copilot", copilot)  # type: ignore[arg-type]
    app.mount("/v1/copilot", copilot)

    @app.middleware("http")
    async def pass_through(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)

    uvicorn.run(
        app,
        host=host,
        port=port,
        root_path="/behind",
        log_config=None,
        access_log=False,
        # A busy machine takes longer between two requests than the five seconds of its default.
        timeout_keep_alive=75,
    )
