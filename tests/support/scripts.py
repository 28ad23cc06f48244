"""Scripts that tests run, each in a process that is a fork of one which has done the imports.

What a script is about is how its process ends, or what a signal does to it; the imports before that
take a second of processor time, and a fork some milliseconds.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from conformance.forks import Fork, Forking

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


def start_command(
    arguments: Sequence[str],
    cwd: Path | None,
    output: BinaryIO,
    errors: BinaryIO,
    *,
    imports: Sequence[str],
) -> Fork:
    """Start ``sansio-copilot ARGUMENTS`` in ``cwd``, with the environment of now.

    :param output: a file for what it writes to its standard output.
    :param errors: one for its standard error.
    :param imports: as for a script.
    """
    folder = str(cwd or Path.cwd())
    code = f"""
import os, sys
os.environ.clear()
os.environ.update({dict(os.environ)!r})
os.chdir({folder!r})
sys.path[0] = {folder!r}
sys.argv = {["sansio-copilot", *arguments]!r}
from copilot_bindings.cli import main
sys.exit(main())
"""
    return _forking.fork([str(_PROGRAM)], " ".join(imports), code, output, errors)
