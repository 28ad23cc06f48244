"""The WSGI binding beside Django, under waitress."""

import contextlib
from typing import Any

import django
import waitress
from django.conf import settings
from django.core.wsgi import get_wsgi_application

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

BASE_PATH = "/ai/copilotkit"
PYTHON_OPTIONS = ["-X", "dev", "-W", "ignore:unclosed <socket.socket:ResourceWarning"]
"""waitress does not close the connections that are idle at its end."""
CANNOT = {
    "keep-alive": "waitress closes the connection after a stream",
    "notices-leaving": "nothing tells a WSGI application that its client has gone",
    "a-thousand-streams": "it has a thread for each",
}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    settings.configure(SECRET_KEY="for tests", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)
    django.setup()
    site, copilot = get_wsgi_application(), CopilotWSGI(runtime, grace_seconds=0.2)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        ours = environ["PATH_INFO"].startswith(BASE_PATH)
        return (copilot if ours else site)(environ, start_response)

    copilot.close_on_signals()
    server = waitress.create_server(
        application, host=host, port=port, threads=150, connection_limit=1000
    )
    with contextlib.closing(server):
        server.run()
