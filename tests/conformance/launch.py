"""Serves a runtime with server files: ``python launch.py MODULE_OF_THE_RUNTIME SOCKET``.

Run as a program by process.py. A server is a fork of it, as forks.py says: one of a server file,
which has loaded that, and of that one with a port and limits. It ends at SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio.constants
import importlib
import logging
import socket
import sys
from pathlib import Path


def main(module: str, descriptor: str) -> None:
    """Serve what the module's ``make_runtime(base_path, limits)`` returns, in each of the forks."""
    from conformance.agents import ON_PURPOSE
    from conformance.contract import find_server
    from conformance.forks import forks

    def without_what_is_on_purpose(record: logging.LogRecord) -> bool:
        """The tests take a traceback in the log for a bug; what they ask for is told in a line."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and any(sign in repr(error) for sign in ON_PURPOSE):
            record.msg, record.args = "%s: %r", (record.getMessage(), error)
            record.exc_info = None
        return True

    def without_what_is_slow(record: logging.LogRecord) -> bool:
        """Drop asyncio's lines about slow callbacks, because a busy machine is nobody's fault."""
        return not (record.name == "asyncio" and str(record.msg).startswith("Executing %s took"))

    # In its debug mode asyncio notes for each callback where it was made. The innermost frame alone
    # tells that as well, and ten of them take a third of the time of a server.
    vars(asyncio.constants)["DEBUG_STACK_DEPTH"] = 1

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(without_what_is_on_purpose)
    handler.addFilter(without_what_is_slow)
    logging.basicConfig(handlers=[handler], level=logging.INFO)

    make_runtime = importlib.import_module(module).make_runtime
    path, its_socket = forks(socket.socket(fileno=int(descriptor)))
    file = find_server(path)
    server = file.load()
    (port, limits), its_socket = forks(its_socket)
    its_socket.close()
    server.serve(make_runtime(file.base_path, limits), "127.0.0.1", port)


if __name__ == "__main__":
    # The directory of this file is left out, because its modules would hide others of the same
    # name.
    sys.path[0] = str(Path(__file__).parents[1])
    main(*sys.argv[1:])
