"""A whole HTTP/1.1 connection without its I/O (RFC 9112).

The bindings that own their sockets (asyncio, trio, sockets) share this package.
"""

from __future__ import annotations
