"""The WSGI binding under gunicorn, with a worker that has threads."""

import signal
from typing import Any

from gunicorn.app.base import BaseApplication

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

CANNOT = {
    "notices-leaving": "nothing tells a WSGI application that its client has gone",
    "a-thousand-streams": "it has a thread for each",
}
PYTHON_OPTIONS = ["-X", "dev", "-W", "ignore:unclosed:ResourceWarning"]
"""gunicorn does not close the connections that are idle at its end, nor the file by which a worker
shows that it lives if it has run out of patience with a client."""


class Application(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    def __init__(self, app: CopilotWSGI, **options: Any) -> None:
        self.app = app
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> CopilotWSGI:
        return self.app


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    app = CopilotWSGI(runtime, grace_seconds=0.2)

    def post_worker_init(worker: object) -> None:
        app.close_on_signals(signal.SIGTERM, signal.SIGQUIT)

    Application(
        app,
        bind=f"{host}:{port}",
        workers=1,
        threads=150,
        # gunicorn waits so long for clients that keep their connections, idle or not.
        graceful_timeout=8,
        # A busy machine takes longer between two requests than the two seconds of its default.
        keepalive=75,
        worker_class="gthread",
        post_worker_init=post_worker_init,
    ).run()
