"""Serve a runtime with asyncio: each connection is an ``asyncio.Protocol`` that speaks HTTP/1.1.

A connection drives its exchange by callbacks, so that a stream that waits costs no task. Runs live
in tasks that the server owns, so that a run goes on when the client that started it goes away.
"""

from __future__ import annotations

from ..missing_packages import missing_extra

try:
    from .server import Server, open_server, serve, start_server
except ModuleNotFoundError as error:
    raise missing_extra("asyncio", error) from error

__all__ = ["Server", "open_server", "serve", "start_server"]
