"""Serve a runtime with sockets and threads: each connection has a thread that speaks HTTP/1.1.

This binding fits applications that are made of threads and have hooks that block. Runs live on an
event loop in the background, so that a run goes on when the client that started it goes away.
"""

from __future__ import annotations

from ..missing_packages import missing_extra

try:
    from .server import Server, open_server, serve, start_server
except ModuleNotFoundError as error:
    raise missing_extra("sockets", error) from error

__all__ = ["Server", "open_server", "serve", "start_server"]
