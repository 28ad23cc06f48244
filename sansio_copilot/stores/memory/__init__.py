"""The store that keeps everything in this process's memory, and what only it needs.

=============  ==================================================================
``store``      :class:`MemoryStore`, each call of the store protocol
``threads``    the threads and runs that it keeps, and the bytes each counts for
``streams``    the frames of a run, and the cursors of its readers
``eviction``   what goes when there is too much, and what its readers are left
``listing``    pages of threads
=============  ==================================================================
"""

from __future__ import annotations

from .store import MemoryStore

__all__ = ["MemoryStore"]
