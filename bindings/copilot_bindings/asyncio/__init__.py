"""Serve a runtime with asyncio: an ``asyncio.Protocol`` for each connection, HTTP/1.1 by h11.

A connection drives its exchange by callbacks, so a stream that waits costs no task. Runs live
in tasks that the server owns, and go on when the clients that started them go away.
"""

from __future__ import annotations

from ..extras import missing_extra

try:
    from .server import Server, serve, start_server
except ModuleNotFoundError as error:
    raise missing_extra("asyncio", error) from error

__all__ = ["Server", "serve", "start_server"]
