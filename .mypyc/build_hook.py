"""hatchling's hook for a wheel whose hot modules are compiled by mypyc.

Off unless the environment has HATCH_BUILD_HOOKS_ENABLE=1; then it needs a C compiler. hatch-mypyc
does not do: it knows one source directory, and leaves what it has compiled among the sources,
where an editable installation would import it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE = "sansio_copilot"


class MypycBuildHook(BuildHookInterface[Any]):
    """Adds the compiled modules to the wheel, beside their sources, which tracebacks show.

    Option ``modules``: patterns of the files to compile, from the root of the project.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            # Sources that may be edited are what is imported.
            return
        root = Path(self.root)
        self._workshop = Path(tempfile.mkdtemp())
        shutil.copytree(
            root / _PACKAGE,
            self._workshop / _PACKAGE,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        modules = [
            str(path.relative_to(root))
            for pattern in self.config["modules"]
            for path in sorted(root.glob(pattern))
        ]
        config = root / ".mypyc" / "mypy.ini"
        subprocess.run(
            [sys.executable, "-m", "mypyc", f"--config-file={config}", *modules],
            cwd=self._workshop,
            check=True,
        )
        for suffix in ("so", "pyd"):
            for path in self._workshop.rglob(f"*.{suffix}"):
                within = path.relative_to(self._workshop)
                if within.parts[0] != "build":
                    build_data["force_include"][str(path)] = str(within)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._workshop)
