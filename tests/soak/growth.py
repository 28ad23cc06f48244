"""The growth of what a server holds.

What it holds is looked at when nothing goes on: all requests have been answered, all runs have
ended, all clients have gone. Of such *quiet points* there are many in a soak, and no single one of
them decides, because one may catch a timer that has not fired, or memory that the allocator has not
given back. Behind the warm-up, the median of the last third of them is compared with the median of
the first third. What grows a little with every round of the load is larger there by two thirds of
all it gained; what wobbles, or jumps once and comes back, is not; and what was filled once (a pool
of threads, a cache) was filled while the server warmed up. The difference may be as large as a
slack that belongs to the kind of thing.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

FEWEST = 9
"""Quiet points, so that no third consists of fewer than three."""


def growth(series: Sequence[float]) -> float:
    """Return by how much ``series`` is larger at its end than at its beginning.

    :raises ValueError: for one that is too short to tell.
    """
    if len(series) < FEWEST:
        raise ValueError(f"{len(series)} quiet points are too few, {FEWEST} are needed")
    third = len(series) // 3
    return statistics.median(series[-third:]) - statistics.median(series[:third])


def grown(
    samples: Sequence[Mapping[str, float]], slack: Mapping[str, float], other: float = 0.5
) -> list[str]:
    """Return a line for each name that has grown by more than its slack.

    :param samples: what was held at each quiet point, by name; a name that is missing counts 0.
    :param slack: by name; ``other`` for what is not named there, half of one for things that
        are counted.
    """
    names = sorted({name for sample in samples for name in sample})
    found = []
    for name in names:
        series = [sample.get(name, 0) for sample in samples]
        if (by := growth(series)) > slack.get(name, other):
            values = " ".join(f"{value:,.0f}" for value in series)
            found.append(f"{name} grew by {by:,.0f}, allowed {slack.get(name, other):g}: {values}")
    return found
