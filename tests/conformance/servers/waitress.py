"""The WSGI binding under waitress."""

import contextlib

import waitress

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

PYTHON_OPTIONS = ["-X", "dev", "-W", "ignore:unclosed <socket.socket:ResourceWarning"]
"""waitress does not close the connections that are idle at its end."""
CANNOT = {
    "keep-alive": "it closes the connection after a stream",
    "notices-leaving": "nothing tells a WSGI application that its client has gone",
    "a-thousand-streams": "it has a thread for each",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    app = CopilotWSGI(runtime, grace_seconds=0.2)
    app.close_on_signals()
    server = waitress.create_server(app, host=host, port=port, threads=150, connection_limit=1000)
    with contextlib.closing(server):
        server.run()
