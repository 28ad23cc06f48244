"""For any WSGI server with threads. `gunicorn wsgi_app:app` reads gunicorn.conf.py beside it."""

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
def hello(input, context):
    yield from ("Hello", " from", " WSGI")


app = CopilotWSGI(CopilotRuntime({"default": hello}), grace_seconds=5)
