"""Serve a runtime with plain sockets: a thread for each connection, HTTP/1.1 by h11.

Hooks that block, and whatever else expects threads, are at home here. Runs live on an event loop
in the background, and go on when the clients that started them go away.
"""

from __future__ import annotations

from ..extras import missing_extra

try:
    from .server import Server, open_server, serve, start_server
except ModuleNotFoundError as error:
    raise missing_extra("sockets", error) from error

__all__ = ["Server", "open_server", "serve", "start_server"]
