"""A server may be killed at any moment: nothing that anybody has seen is lost or doubled."""

from __future__ import annotations

import random
from pathlib import Path

from bindings.stores.kills import kill_at_random


def test_servers_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """``python -m bindings.stores.kills 50`` does it more often."""
    seed = random.randrange(10**6)
    load = kill_at_random(tmp_path / "threads.db", 10, seed)
    assert len(load.readers) >= 30, seed
    assert not list(tmp_path.glob("*-journal"))
