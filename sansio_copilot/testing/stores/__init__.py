"""The promises of every thread store, as tests that the author of a store runs with pytest.

    class TestMyStore(StoreConformance):
        def make_store(self):
            return MyStore(...)

A store that has leases is tested by :class:`LeasedStoreConformance` too, one that supersedes by
:class:`SupersedingStoreConformance`. docs/stores.md shows how to write a store with them.

The tests are the definition of :class:`~sansio_copilot.ThreadStore`, and MemoryStore passes them.
They need no event loop for a plain store. Awaitables of an async store are awaited by
:meth:`StoreTests.await_`, which the author replaces by a runner of the library that the store is
made for. :meth:`StoreTests.wait_until` waits for notifications that take their time.
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
    """The promises of every store."""
