"""What every thread store promises, as tests that the author of one runs with pytest.

    class TestMyStore(StoreConformance):
        def make_store(self):
            return MyStore(...)

A store that has leases is tested by :class:`LeasedStoreConformance` too, one that supersedes by
:class:`SupersedingStoreConformance`. docs/stores.md shows how to write a store with them.

The tests are the definition of :class:`~sansio_copilot.ThreadStore`, and MemoryStore passes them.
They need no event loop for a plain store. What an async one returns is awaited by
:meth:`StoreTests.await_`, which the author replaces by a runner of the library that the store is
made for. Where notifications take their time they are waited for by :meth:`StoreTests.wait_until`.
"""

from __future__ import annotations

from .driven import Driven, StoreTests, Told
from .leases import LeasedStoreConformance, SupersedingStoreConformance
from .runs import RunTests
from .threads import ThreadTests

__all__ = [
    "Driven",
    "LeasedStoreConformance",
    "StoreConformance",
    "StoreTests",
    "SupersedingStoreConformance",
    "Told",
]


class StoreConformance(RunTests, ThreadTests):
    """What every store promises."""
