"""Plants a bug in a copy of the project, and runs the tests that have to notice it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .mutants import Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("sansio_copilot", "bindings", "tests", "pyproject.toml")
_TIMEOUT = 300.0


class Survived(AssertionError):
    """Tests that were to fail did not, or something else than their failure happened."""


def planted_text(mutant: Mutant, root: Path) -> str:
    """The text of the file with the bug in it.

    :raises LookupError: if what is to be replaced does not stand there exactly once.
    """
    text = (root / mutant.file).read_text()
    if (count := text.count(mutant.text)) != 1:
        raise LookupError(f"{mutant.name}: found {count} times in {mutant.file}: {mutant.text!r}")
    return text.replace(mutant.text, mutant.replacement)


def copy_project(root: Path, to: Path) -> None:
    """Copy all that tests need, without what was installed or left behind by them."""
    left_out = shutil.ignore_patterns("node_modules", "__pycache__", ".*cache")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name, ignore=left_out)
        else:
            shutil.copy(root / name, to / name)


def check_caught(mutant: Mutant, copy: Path) -> None:
    """Plant ``mutant`` in ``copy``, run its tests, and take it away again.

    :raises Survived: if not each of them failed.
    """
    file = copy / mutant.file
    before = file.read_text()
    file.write_text(planted_text(mutant, copy))
    try:
        failed, output = run_tests(copy, mutant.caught_by)
    finally:
        file.write_text(before)
    missed = [id for id in mutant.caught_by if not any(_is_of(one, id) for one in failed)]
    if missed:
        raise Survived(f"{mutant.name} ({mutant.bug}) passes {', '.join(missed)}\n{output}")


def run_tests(copy: Path, ids: Sequence[str]) -> tuple[list[str], str]:
    """The ids of those that fail, and what pytest says.

    :raises Survived: if pytest cannot run them, or does not come back.
    """
    # The copy stands in front of the installed project on the path, so that the servers that tests
    # start import the copy too.
    places = [str(copy), str(copy / "bindings")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-rfE", "--tb=line"]
    process = subprocess.Popen(
        [*command, *ids],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise Survived(f"the tests hang: {' '.join(ids)}\n{output}") from None
    if process.returncode not in (0, 1):
        raise Survived(f"pytest cannot run {' '.join(ids)}:\n{output}")
    lines = (line.split() for line in output.splitlines())
    return [words[1] for words in lines if words[:1] == ["FAILED"]], output


def _is_of(failed: str, id: str) -> bool:
    return failed == id or failed.startswith((f"{id}[", f"{id}::"))
