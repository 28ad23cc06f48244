"""A server may be killed at any moment: nothing that anybody has seen is lost or doubled."""

from __future__ import annotations

import contextlib
import random

import pytest
from bindings.stores.kills import kill_at_random
from soak.databases import DATABASES


@pytest.mark.parametrize(("store", "times"), [("sqlite", 10), ("postgres", 5), ("redis", 5)])
def test_servers_that_are_killed_lose_nothing(store: str, times: int) -> None:
    """``make kills`` does it more often."""
    seed = random.randrange(10**6)
    with contextlib.closing(DATABASES[store]()) as database:
        load = kill_at_random(database.where, times, seed)
    assert len(load.readers) >= 3 * times, seed
