"""Serve a runtime with trio: each connection has a task that speaks HTTP/1.1.

Runs live in a nursery that the server owns. When the scope around the server is cancelled, each run
is ended with a well-formed terminal event, which its readers receive, before the scope is left.
"""

from __future__ import annotations

from ..missing_packages import missing_extra

try:
    from .server import Server, open_server, serve, start_server
except ModuleNotFoundError as error:
    raise missing_extra("trio", error) from error

__all__ = ["Server", "open_server", "serve", "start_server"]
