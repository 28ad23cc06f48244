"""Serve a runtime under any WSGI server with threads: gunicorn's gthread, waitress, mod_wsgi.

A request is answered in the server's thread, and a stream keeps that thread for as long as it
lasts. Runs live on an event loop in the background, so that a run goes on when its client goes
away. Each process has its own loop, which begins when it is first needed.
"""

from __future__ import annotations

from ..missing_packages import missing_extra

try:
    from .app import CopilotWSGI
    from .responder import StreamBroken
except ModuleNotFoundError as error:
    raise missing_extra("wsgi", error) from error

__all__ = ["CopilotWSGI", "StreamBroken"]
