"""Serves the suite's runtime with one server file: ``python launch.py NAME_OR_PATH PORT LIMITS``.

Run as a program by process.py, in a process of its own. Ends at SIGTERM or SIGINT.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from sansio_copilot import CopilotRuntime


def launch(make_runtime: Callable[[str, str], CopilotRuntime]) -> None:
    """Serve what ``make_runtime(base_path, limits)`` returns, as the command line says."""
    from conformance.agents import ON_PURPOSE
    from conformance.contract import find_server

    def without_what_is_on_purpose(record: logging.LogRecord) -> bool:
        """The tests take a traceback in the log for a bug; what they ask for is told in a line."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and any(sign in repr(error) for sign in ON_PURPOSE):
            record.msg, record.args = "%s: %r", (record.getMessage(), error)
            record.exc_info = None
        return True

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(without_what_is_on_purpose)
    logging.basicConfig(handlers=[handler], level=logging.INFO)

    server = find_server(sys.argv[1])
    runtime = make_runtime(server.base_path, sys.argv[3])
    server.load().serve(runtime, "127.0.0.1", int(sys.argv[2]))


if __name__ == "__main__":
    # Not this directory, whose modules would hide others of the same name.
    sys.path[0] = str(Path(__file__).parents[1])
    from conformance.runtimes import make_runtime

    launch(make_runtime)
