"""A whole HTTP/1.1 connection without its I/O, for the bindings that own sockets (RFC 9112)."""

from __future__ import annotations
