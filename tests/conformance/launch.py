"""Serves the suite's runtime with one server file: ``python launch.py NAME_OR_PATH PORT``.

Run as a program by process.py, in a process of its own. Ends at SIGTERM or SIGINT.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path


def main() -> None:
    # Not this directory, whose modules would hide others of the same name.
    sys.path[0] = str(Path(__file__).parents[1])
    from conformance.agents import OnPurposeError
    from conformance.contract import find_server
    from conformance.runtimes import make_runtime

    def is_surprising(record: logging.LogRecord) -> bool:
        """Whether the log may show this: the tests take a traceback in it for a bug."""
        return not (record.exc_info and isinstance(record.exc_info[1], OnPurposeError))

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(is_surprising)
    logging.basicConfig(handlers=[handler], level=logging.INFO)

    server = find_server(sys.argv[1])
    server.load().serve(make_runtime(server.base_path), "127.0.0.1", int(sys.argv[2]))


if __name__ == "__main__":
    main()
