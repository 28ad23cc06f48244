"""Scripts that tests run, each in a process that is a fork of one which has done the imports.

What a script is about is how its process ends, or what a signal does to it; the imports before that
take a second of processor time, and a fork some milliseconds.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
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


SERVING = (
    *("copilot_bindings.cli", "copilot_bindings.asyncio", "copilot_bindings.trio"),
    *("copilot_bindings.sockets", "copilot_bindings.asgi", "copilot_bindings.wsgi"),
    *("copilot_bindings.stores", "copilot_bindings.agents"),
)
"""The modules that most programs import which serve a runtime."""


def start_program(
    arguments: Sequence[str],
    *outputs: BinaryIO,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    imports: Sequence[str] = SERVING,
) -> Fork:
    """Start ``python ARGUMENTS`` in ``cwd``: a file, or ``-m`` and a module, and their arguments.

    :param outputs: a file for all that it writes, or one for each of its two outputs.
    :param environ: environment variables besides those of now.
    :param imports: as for a script.
    """
    known = dict(os.environ) | dict(environ or {})
    program, *rest = arguments if arguments[0] != "-m" else arguments[1:]
    run = "run_path" if arguments[0] != "-m" else "run_module"
    code = f"""
import os, runpy, sys
os.environ.clear()
os.environ.update({known!r})
os.chdir({str(cwd)!r})
sys.path[0] = {str(cwd)!r}
sys.argv = {[program, *rest]!r}
runpy.{run}({program!r}, run_name="__main__"{"" if run == "run_path" else ", alter_sys=True"})
"""
    return _forking.fork([str(_PROGRAM)], " ".join(imports), code, *outputs)
