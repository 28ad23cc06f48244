"""Both ends of the range of AG-UI's models: the oldest release that will do, and the newest.

The newest is installed. The oldest is in .old (`make test` puts it there), and comes first on the
path of a process that runs the tests that have to do with models.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OLD = HERE / ".old"

(OLDEST,) = re.findall(r'"ag-ui-protocol>=([\d.]+),<2"', (ROOT / "pyproject.toml").read_text())
NEWEST = importlib.metadata.version("ag-ui-protocol")

ABOUT_MODELS = [
    "bindings/demo/test_agent.py",
    "core/agents/test_disclosure.py",
    "core/agents/test_protocols.py",
    "core/endpoints/test_runs.py",
    "core/runs/test_delta_shortcut.py",
    "core/runs/test_recorder.py",
    "core/events/test_types.py",
]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_core_works_with_each_version(version: str) -> None:
    assert (OLD / ".installed").is_file(), "run `make tests/agui/.old/.installed` first"
    paths = [HERE / "models.py"]
    environment = {"AGUI_VERSION": version}
    if version == OLDEST:
        # The tests run with the newest models anyway.
        paths += [ROOT / "tests" / name for name in ABOUT_MODELS]
        environment["PYTHONPATH"] = str(OLD)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", *paths],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_versions_are_two() -> None:
    assert OLDEST.startswith("0.")
    assert not NEWEST.startswith("0.")
