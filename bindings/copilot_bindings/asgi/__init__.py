"""Serve a runtime with any ASGI server, by itself or mounted in an application.

    app = CopilotASGI(runtime)

It runs under asyncio and under trio, whichever the server uses. A run lives in a task beside the
request that started it. No lifespan events are needed, because a mounted application gets none.
"""

from __future__ import annotations

from .app import CopilotASGI
from .responder import BrokenOff

__all__ = ["BrokenOff", "CopilotASGI"]
