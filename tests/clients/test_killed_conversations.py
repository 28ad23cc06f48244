"""A reload shows the same as was shown live, of runs whose server was killed behind any event."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from clients.conversations import GENERATIONS
from clients.killed_conversations import Place, hold_all, places
from soak.databases import DATABASES

EVERY = list(itertools.product(GENERATIONS, ([place] for place in places())))
# A few places of each generation are enough for the stores over a network, because every store is
# given the same frames at a place, and these stores differ only in how they find an orphan.
SOME = EVERY[::7]


@pytest.mark.parametrize(
    ("store", "plans"),
    [("sqlite", EVERY), ("postgres", SOME), ("redis", SOME)],
    ids=["sqlite", "postgres", "redis"],
)
def test_a_reload_shows_the_same_of_runs_whose_server_is_killed_behind_any_event(
    store: str, plans: list[tuple[str, list[Place]]]
) -> None:
    """``make kills`` cuts the next run off as well."""
    with contextlib.closing(DATABASES[store]()) as database:
        assert hold_all(database.where, plans) == len(plans)
