"""A short soak, to know that all of it works; ``make soak`` is the one that proves something."""

from __future__ import annotations

import pytest
from soak.scenarios import SCENARIOS
from soak.soak import soak


@pytest.mark.parametrize(
    ("binding", "store", "seconds"),
    [
        ("asyncio", "memory", 5),
        ("sockets", "memory", 5),
        ("asyncio", "sqlite", 5),
        ("asyncio", "postgres", 5),
        ("asyncio", "redis", 5),
    ],
)
def test_a_server_bears_a_mixed_load(binding: str, store: str, seconds: float) -> None:
    """And, where threads are kept elsewhere, all that goes wrong there meanwhile."""
    summary = soak(binding, seconds, store, seed=1)
    assert bool(summary.troubles) == (store != "memory")
    assert all(summary.counts[scenario.__name__] for scenario in SCENARIOS), summary
    assert summary.counts["resumes"]
    assert summary.counts["events"] > 1000
