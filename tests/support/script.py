"""Runs scripts: ``python script.py SOCKET``.

Run as a program by scripts.py. A script is a fork of it, as conformance/forks.py says: one that has
imported some modules, and of that one with the script. The script has the interpreter to itself, as
that of ``python -c`` has: it runs in ``__main__``, and the interpreter ends as it always does.
"""

from __future__ import annotations

import importlib
import socket
import sys
import types
from pathlib import Path


def main(descriptor: str) -> None:
    """Import what is asked for, and run a script in each of the forks."""
    from conformance.forks import forks

    imports, its_socket = forks(socket.socket(fileno=int(descriptor)))
    for name in imports.split():
        importlib.import_module(name)
    script, its_socket = forks(its_socket)
    its_socket.close()
    # The script's module is a new one, because what is there before a fork is frozen: the collector
    # that runs when the interpreter ends would not find what the script has left in that.
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(script, "<script>", "exec"), vars(module))


if __name__ == "__main__":
    # The directory of this file is left out, because its modules would hide others of the same
    # name.
    sys.path[0] = str(Path(__file__).parents[1])
    main(sys.argv[1])
