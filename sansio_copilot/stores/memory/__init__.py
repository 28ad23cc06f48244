"""The store that keeps everything in this process's memory, and the parts that only it needs.

=============  ==================================================================
``store``      :class:`MemoryStore`, each call of the store protocol
``threads``    the threads and runs that it keeps, and the bytes each counts for
``streams``    the frames of a run, and the cursors of its readers
``eviction``   the choice of what is evicted, and what its readers are told
``listing``    pages of threads
=============  ==================================================================
"""

from __future__ import annotations

from .store import MemoryStore

__all__ = ["MemoryStore"]
