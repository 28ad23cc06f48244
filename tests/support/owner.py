"""An owner of runs that knows how much of each it has stored, as a Run does."""

from __future__ import annotations

from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

from sansio_copilot.stores.protocol import RunKey, RunResult, Signal

_stored: WeakKeyDictionary[Any, Counter[RunKey]] = WeakKeyDictionary()


def append(store: Any, key: RunKey, frames: bytes, result: RunResult | None = None) -> Signal:
    """Append behind what has been appended before."""
    sizes = _stored.setdefault(store, Counter())
    signal: Signal = store.append(key, sizes[key], frames, result)
    sizes[key] += len(frames)
    return signal


def close(store: Any, key: RunKey, frames: bytes, result: RunResult | None) -> None:
    """Close the run behind what has been appended to it."""
    store.close_run(key, _stored.setdefault(store, Counter())[key], frames, result)
