"""Try the programs of docs/examples/agents, each in an environment that has its framework.

    python -m frameworks                   # all of them
    python -m frameworks agno_agent        # some of them

Each program is started as it stands in the documentation, asks a model's API on this machine, and
is asked by a front end; see :mod:`frameworks.checks`. The environments are made anew, one after the
other, because frameworks are large and want different releases of the same packages, and are
removed behind it.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from conformance.process import free_port
from frameworks.checks import CHECKS
from frameworks.server import PROGRAMS, ROOT, model, program

ENVIRONMENTS = ROOT / ".venv-frameworks"
NOT_THERE: dict[str, set[str]] = {
    "llamaindex_agent": {"approval"},
    "openai_agents": {"state", "approval"},
}
"""The checks that are not made, because docs/agents.md says that the program has no such thing."""
_SHOWN = re.compile(
    "ag.?ui|agno|agent|langgraph|langchain-openai|strands|pydantic-ai|litellm|crewai|llama|adk|openai"
)


def names() -> list[str]:
    """The programs there are."""
    return sorted(path.stem for path in PROGRAMS.glob("*.py"))


def requirements(name: str) -> list[str]:
    """Return what the program says that it needs, with this project in the place of its release."""
    found = re.search(r"^ *pip install (.*)$", (PROGRAMS / f"{name}.py").read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{name} does not say what it needs")
    packages = []
    for package in shlex.split(found[1]):
        extras = package.removeprefix("sansio-copilot")
        packages += [package] if extras == package else ["--editable", f"{ROOT}{extras}"]
    return packages


def install(name: str) -> Path:
    """Make the environment of a program, and return its interpreter."""
    folder = ENVIRONMENTS / name
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *requirements(name)], check=True)
    return python


def versions(python: Path) -> list[str]:
    """The releases of the framework and of what goes with it."""
    command = [str(python), "-m", "pip", "freeze", "--disable-pip-version-check"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.split("\n") if "==" in line and _SHOWN.search(line)]


def attempt(name: str, python: Path, times: int) -> list[str]:
    """Make all checks of a program, each with a process of its own; returns what failed.

    :param times: how often it is stopped, because what is first in a process may be special.
    """
    failures = []
    for check, function in CHECKS.items():
        if check in NOT_THERE.get(name, ()):
            print(f"  {check}: not there")
            continue
        for _ in range(times if check == "stop" else 1):
            with tempfile.TemporaryDirectory() as folder, model() as asked:
                try:
                    with program(name, python, asked, free_port(), Path(folder)) as url:
                        function(url, asked)
                except Exception as error:
                    failures.append(check)
                    print(f"  {check}: FAILED: {type(error).__name__}: {error}")
                    print(textwrap.indent("\n".join(getattr(error, "__notes__", ())), "    "))
                    break
        else:
            print(f"  {check}: ok", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="frameworks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--python", type=Path, help="an interpreter that has the framework already")
    parser.add_argument("--stops", type=int, default=3, help="processes that are stopped (3)")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    options = parser.parse_args()
    failed = []
    for name in options.names or names():
        print(f"{name}:", flush=True)
        try:
            # A program has a folder of its own, where a relative path leads nowhere.
            python = options.python.absolute() if options.python else install(name)
            print(f"  {' '.join(versions(python))}", flush=True)
            failed += [f"{name}: {check}" for check in attempt(name, python, options.stops)]
        except subprocess.CalledProcessError as error:
            failed.append(f"{name}: {error}")
        finally:
            if not (options.keep or options.python):
                shutil.rmtree(ENVIRONMENTS / name, ignore_errors=True)
    print("\n".join(["failed:", *failed]) if failed else "all is well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
