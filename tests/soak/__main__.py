"""``make soak``: ``python -m soak --minutes 10 --binding asyncio``, from tests/."""

from __future__ import annotations

import argparse
import sys

from .databases import DATABASES
from .soak import BINDINGS, SoakFailure, soak


def main() -> None:
    """Soak one binding, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--binding", choices=BINDINGS, default="asyncio")
    parser.add_argument("--store", choices=DATABASES, default="memory")
    parser.add_argument("--seed", type=int, help="of an earlier soak, to repeat its choices")
    options = parser.parse_args()
    try:
        summary = soak(
            options.binding,
            options.minutes * 60,
            options.store,
            seed=options.seed,
            tell=lambda line: print(line, flush=True),
        )
    except SoakFailure as failure:
        sys.exit(f"{options.binding} over {options.store} failed: {failure}")
    print(summary)


if __name__ == "__main__":
    main()
