"""An app for WSGI servers with threads: `gunicorn wsgi_app:app` reads the gunicorn.conf.py here."""

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
def hello(input, context):
    yield from ("Hello", " from", " WSGI")


app = CopilotWSGI(CopilotRuntime({"default": hello}), grace_seconds=5)
