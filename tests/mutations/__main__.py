"""``make mutants``: plants each bug of the list, or those that are named, and looks who notices."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .mutants import MUTANTS
from .planted import ROOT, Survived, check_caught, copy_project, run_tests


def main() -> None:
    """Run them one after the other, and fail if one survives."""
    names = [mutant.name for mutant in MUTANTS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(names))
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no mutant {', '.join(sorted(unknown))}")
    chosen = [one for one in MUTANTS if not options.names or one.name in options.names]
    survived = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copy = Path(directory)
        copy_project(ROOT, copy)
        ids = sorted({id for mutant in chosen for id in mutant.caught_by})
        failed, output = run_tests(copy, ids)
        if failed:
            sys.exit(f"without any bug these fail, so they say nothing: {failed}\n{output}")
        for mutant in chosen:
            begun = time.monotonic()
            try:
                check_caught(mutant, copy)
            except (Survived, LookupError) as problem:
                survived.append(mutant.name)
                print(f"SURVIVED {problem}", flush=True)
            else:
                seconds = time.monotonic() - begun
                print(f"caught {mutant.name}: {mutant.bug} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutants were caught")
    if survived:
        sys.exit(f"survived: {', '.join(survived)}")


if __name__ == "__main__":
    main()
