"""A warning if a server has several workers, and each has a MemoryStore of its own.

A MemoryStore lies in the memory of one process. If a server starts several worker processes, a
client that reaches another worker finds its thread empty, and gets no error. So the log has a
warning, once for each process.
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
known: set[tuple[int, str]] = set()
"""The process ids and addresses for which a warning has been considered."""


def warn_of_workers(store: object, host: str, port: object, *, several: bool = False) -> None:
    """Log a warning if ``store`` is a MemoryStore, and other workers serve the same address.

    :param store: the runtime's store.
    :param host: what the server listens on: an IP address, or the path of a Unix socket.
    :param port: its port; None for a Unix socket.
    :param several: True if the server itself says that it has several workers, as gunicorn does
        (``wsgi.multiprocess`` of PEP 3333). Other servers do not say it.
    """
    if not isinstance(store, MemoryStore):
        return
    address = _address_of(host, port)
    me = (os.getpid(), address)
    with _lock:
        if me in known:
            return
        known.add(me)
    # The name has the id of the parent process, because all workers of a server have the same
    # parent.
    if several or (address and _is_taken(f"{os.getppid()}/{address}")):
        logger.warning(WARNING)


def _address_of(host: str, port: object) -> str:
    """A name that is the same for all workers of a server; "" for a test client.

    A test client is recognised by its host, which is a name and not an IP address.
    """
    if host.startswith("/"):
        return host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ""
    # The host is left out, because a server that listens on all addresses reports that of the
    # connection.
    return str(port)


def _is_taken(name: str) -> bool:
    """Take ``name`` for the life of this process; returns whether another process has it."""
    if not sys.platform.startswith("linux"):
        return False
    # The name is that of an abstract Unix socket, because that ends with the process in every case,
    # and leaves no file.
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
            holder.bind(f"\0sansio-copilot/{name}")
            holder.detach()
    except OSError as error:
        # Any other error, of a process without descriptors say, only means that nobody is warned.
        return error.errno == errno.EADDRINUSE
    return False
