"""Serve a runtime with any ASGI server, by itself or mounted in an application.

    app = CopilotASGI(runtime)

It runs under asyncio and trio, whichever the server has. Runs live beside the requests that started
them, and need no lifespan events, which a mounted application does not get.
"""

from __future__ import annotations

from .app import CopilotASGI
from .responder import BrokenOff

__all__ = ["BrokenOff", "CopilotASGI"]
