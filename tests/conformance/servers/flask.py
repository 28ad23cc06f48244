"""The WSGI binding mounted in Flask, served by Flask's own server."""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

BASE_PATH = "/ai/copilotkit"
CANNOT = {
    "keep-alive": "it closes each connection",
    "http/1.0": "it sends chunks to clients that speak HTTP/1.0",
    "notices-leaving": "nothing tells a WSGI application that its client has gone",
    "a-thousand-streams": "it has a thread for each",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    copilot = CopilotWSGI(runtime, grace_seconds=0.2)
    copilot.close_on_signals()
    app = Flask("flask_app")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {BASE_PATH: copilot})  # type: ignore[method-assign]
    app.run(host, port, threaded=True)
