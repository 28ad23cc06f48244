"""Whether this process is one of several workers, of which each has threads of its own.

A MemoryStore is in the memory of one process. Where a server starts several, a client that reaches
another one finds its thread empty, and no error tells it: so the log does, once for each process.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import sys
import threading
from typing import Final

from sansio_copilot import MemoryStore

logger = logging.getLogger(__name__)

WARNING: Final = (
    "this server has several workers, and each keeps the threads that it serves in its own memory"
    " (MemoryStore): a client whose next request reaches another one finds its thread empty."
    " Start one worker, or pass CopilotRuntime(store=...) a store that all workers share."
)

_lock = threading.Lock()
_known: set[tuple[int, str]] = set()


def warn_of_workers(store: object, host: str, port: object, *, several: bool = False) -> None:
    """Log a warning if ``store`` is one process's, and others serve the same place.

    :param host: what the server listens on: an IP address, or the path of a Unix socket.
    :param port: its port; None for a Unix socket.
    :param several: whether the server says so itself, as WSGI's gunicorn does. Others do not.
    """
    if not isinstance(store, MemoryStore):
        return
    place = _place_of(host, port)
    me = (os.getpid(), place)
    with _lock:
        if me in _known:
            return
        _known.add(me)
    # What a server has started shares its parent.
    if several or (place and _is_taken(f"{os.getppid()}/{place}")):
        logger.warning(WARNING)


def _place_of(host: str, port: object) -> str:
    """What is the same for all workers of a server; "" for a test client, which has a name."""
    if host.startswith("/"):
        return host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ""
    # Without the address, which is that of the connection where the server listens on all.
    return str(port)


def _is_taken(name: str) -> bool:
    """Take ``name`` for as long as this process lives; returns whether another one has it."""
    if not sys.platform.startswith("linux"):
        return False
    # An abstract Unix socket is gone with the process, however that ends, and leaves no file.
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0sansio-copilot/{name}")
    except OSError as error:
        holder.close()
        return error.errno == errno.EADDRINUSE
    holder.detach()
    return False
