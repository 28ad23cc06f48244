"""Scripts that tests run, each in a process that is a fork of one which has done the imports.

What a script is about is how its process ends, or what a signal does to it; the imports before that
take a second of processor time, and a fork some milliseconds.
"""

from __future__ import annotations

import atexit
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conformance.forks import Forking

TIMEOUT = 60.0
"""Seconds after which a script that does not end has failed."""
_PROGRAM = Path(__file__).parent / "script.py"
_forking = Forking()
atexit.register(_forking.end)


def run_script(code: str, *, options: Sequence[str], imports: Sequence[str]) -> tuple[int, str]:
    """Run ``code``; returns its exit status, and all that it has written.

    :param options: the interpreter's.
    :param imports: modules that are imported already when the script begins.
    :raises subprocess.TimeoutExpired: if it does not end; then it is killed.
    """
    with tempfile.TemporaryFile() as log:
        script = _forking.fork([*options, str(_PROGRAM)], " ".join(imports), code, log)
        try:
            status = script.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            script.kill()
            script.wait()
            raise
        log.seek(0)
        return status, log.read().decode("utf-8", "replace")
