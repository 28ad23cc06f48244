"""Serve a runtime with trio: a task for each connection, HTTP/1.1 by h11.

Runs live in a nursery that the server owns. Cancelling the scope around the server ends every run
well formed, and its readers receive that, before the scope is left.
"""

from __future__ import annotations

from ..extras import missing_extra

try:
    from .server import Server, open_server, serve
except ModuleNotFoundError as error:
    raise missing_extra("trio", error) from error

__all__ = ["Server", "open_server", "serve"]
