"""Listening sockets, for the bindings that own theirs."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Any

_BACKLOG = 1024


def open_listeners(host: str, port: int, unix: str | None) -> list[socket.socket]:
    """Sockets that listen on every address of ``host``, or at the path ``unix``.

    :param port: 0 takes a free one, the same for each address.
    :raises OSError: if an address cannot be bound.
    """
    with contextlib.ExitStack() as undo:
        listeners: list[socket.socket] = []
        for family, address in _addresses(host, port, unix):
            # Named, since asyncio spares only what it knows to be TCP from Nagle's algorithm.
            protocol = 0 if family == socket.AF_UNIX else socket.IPPROTO_TCP
            listener = socket.socket(family, socket.SOCK_STREAM, protocol)
            undo.callback(listener.close)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if family != socket.AF_UNIX:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if listeners and port == 0:
                    address = (address[0], port_of(listeners), *address[2:])
            try:
                listener.bind(address)
            except OSError as error:
                reason = os.strerror(error.errno).lower() if error.errno else str(error)
                raise OSError(error.errno, f"cannot listen on {address}: {reason}") from None
            listener.listen(_BACKLOG)
            listeners.append(listener)
        undo.pop_all()
    return listeners


def close_listeners(listeners: list[socket.socket], unix: str | None) -> None:
    """Close them, and remove what a Unix socket leaves in the file system."""
    for listener in listeners:
        listener.close()
    if unix is not None:
        with contextlib.suppress(OSError):
            os.unlink(unix)


def port_of(listeners: list[socket.socket]) -> int:
    """The port that they listen on; 0 for a Unix socket."""
    listener = listeners[0]
    return 0 if listener.family == socket.AF_UNIX else int(listener.getsockname()[1])


def _addresses(host: str, port: int, unix: str | None) -> list[tuple[int, Any]]:
    if unix is None:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    # A socket that a server left behind when it was killed would be in the way for ever.
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(unix).st_mode):
            os.unlink(unix)
    return [(socket.AF_UNIX, unix)]
