"""A short soak, to know that all of it works; ``make soak`` is the one that proves something."""

from __future__ import annotations

import pytest
from soak.scenarios import SCENARIOS
from soak.soak import soak


@pytest.mark.parametrize(("binding", "seconds"), [("asyncio", 15), ("sockets", 10)])
def test_a_server_bears_a_mixed_load(binding: str, seconds: float) -> None:
    summary = soak(binding, seconds, seed=1)
    assert all(summary.counts[scenario.__name__] for scenario in SCENARIOS), summary
    assert summary.counts["resumes"]
    assert summary.counts["events"] > 1000
