"""``make fuzz``: look for inputs of which what a target promises does not hold.

With atheris, which sees what code an input reaches, where that can be imported; else by changes to
the corpus at random. Each target has a process of its own. An input that fails is made as small as
it can be and kept in the corpus, so that the test suite fails until it is mended, and ever after if
it comes back.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from fuzz.mutation import minimized

try:
    import atheris
except ImportError:
    atheris = None

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(__file__).parents[2] / ".fuzz"
MAX_SIZE = 2048
# An input that takes longer is a finding as well.
INPUT_SECONDS = 20
_RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")


def main() -> int:
    arguments = _arguments()
    if arguments.child:
        _fuzz(arguments.target, arguments.seconds, arguments.seed)
    names = (
        [arguments.target] if arguments.target else sorted(path.name for path in CORPUS.iterdir())
    )
    how = "atheris" if atheris else "random changes (atheris cannot be imported)"
    print(f"{len(names)} targets, {arguments.seconds} s in all, by {how}")
    failed = [name for name in names if not _run(name, arguments.seconds // len(names), arguments)]
    if failed:
        print(f"FAILED: {', '.join(failed)}; the inputs are in tests/fuzz/corpus")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("target", nargs="?", help="one target; all of them without")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(name: str, seconds: int, arguments: argparse.Namespace) -> bool:
    seconds = max(1, seconds)
    command = [sys.executable, "-m", "fuzz.run", name, "--child", f"--seconds={seconds}"]
    done = subprocess.run([*command, f"--seed={arguments.seed}"], capture_output=True, text=True)
    said = done.stdout + done.stderr
    runs = _RUNS.search(said)
    print(f"{name}: {'FAILED' if done.returncode else 'ok'} ({runs[1] if runs else 'few'} inputs)")
    if done.returncode:
        print(said[said.find("Traceback") :][:4000])
        for artifact in _artifacts(name).glob("*"):
            # Inputs that are too slow or too large raise no exception, so they are kept as files.
            if not artifact.name.startswith("crash-"):
                artifact.rename(CORPUS / name / artifact.name)
    return done.returncode == 0


def _artifacts(name: str) -> Path:
    folder = FOUND / f"{name}-artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# Functions in the process of one target


def _fuzz(name: str, seconds: int, seed: int) -> NoReturn:
    if atheris is None:
        from fuzz.targets import TARGETS
    else:
        with atheris.instrument_imports(include=["sansio_copilot", "copilot_bindings"]):
            from fuzz.targets import TARGETS
    target = TARGETS[name]

    def check(data: bytes) -> None:
        try:
            target.check(data)
        except Exception:
            traceback.print_exc()
            _keep(target, data)
            raise

    if atheris is None:
        _change_at_random(target, check, seconds, Random(seed))
        sys.exit(0)

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            changed: bytes = atheris.Mutate(data, max_size)
            return changed
        return target.changed(data, random, max_size)

    # Inputs that reach new code are kept for the next time, apart from the corpus, because people
    # read the corpus.
    reached = FOUND / name
    reached.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_SIZE}",
        f"-timeout={INPUT_SECONDS}",
        f"-seed={seed}",
        f"-artifact_prefix={_artifacts(name)}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([name, *options, str(reached), str(target.corpus)], check, custom_mutator=change)
    atheris.Fuzz()
    sys.exit(0)


def _keep(target: Any, data: bytes) -> None:
    def fails(data: bytes) -> bool:
        try:
            target.check(data)
        except Exception as error:
            return bool(_place(error) == place)
        return False

    try:
        target.check(data)
    except Exception as error:
        place = _place(error)
    else:
        # The input is kept as it is, because it fails only after other inputs.
        place = None
    small = minimized(data, fails) if place else data
    target.corpus.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha1(small, usedforsecurity=False).hexdigest()[:12]
    (target.corpus / f"found-{digest}").write_bytes(small)


def _place(error: Exception) -> Any:
    """Return where and with what the error was raised, to tell one failure from another."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return type(error), frame.filename, frame.lineno


def _change_at_random(target: Any, check: Any, seconds: int, random: Random) -> None:
    deadline = time.monotonic() + seconds
    runs = 0
    for data in target.inputs():
        check(data)
    for data in target.changed_inputs(random, MAX_SIZE):
        if time.monotonic() > deadline:
            break
        check(data)
        runs += 1
    print(f"stat::number_of_executed_units: {runs}")


if __name__ == "__main__":
    sys.exit(main())
