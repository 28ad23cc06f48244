"""The runs that this process owns: the signals to their owners, and the sizes of their logs."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

import attrs

from sansio_copilot.stores.protocol import (
    Cancel,
    NotifyOwner,
    RunRequest,
    RunResult,
    Signal,
    nothing_to_cancel,
)

Name = TypeVar("Name", bound=Hashable)

TAKEN_SECONDS = 120.0
"""The seconds after which a run that was opened and never started is forgotten. By default the
hooks between the two take less."""


@attrs.define(eq=False)
class Owned:
    """A run that was opened by this process, and has not ended.

    :param request: the request that has opened it, to recognise the same call when it is made
        again.
    :ivar is_taken: whether its home has begun to watch it.
    :ivar size: the bytes that are in its log.
    :ivar result: the result that it would have if it ended now, if the store has that.
    """

    request: RunRequest
    size: int = 0
    result: RunResult | None = None
    signal: Signal = Signal.CONTINUE
    notify: NotifyOwner | None = None
    is_taken: bool = False
    since: float = attrs.field(factory=time.monotonic)

    @property
    def is_forgotten(self) -> bool:
        """Whether no home has taken the run for so long that none will.

        The call that has opened it was given up after it had begun.
        """
        return not self.is_taken and time.monotonic() > self.since + TAKEN_SECONDS


class OwnedRuns(Generic[Name]):
    """The runs of one store that this process owns. May be used from any operating system
    thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Name, Owned] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Name]:
        with self._lock:
            return iter(list(self._runs))

    def begin(self, run: Name, request: RunRequest) -> None:
        """Add ``run``, which was opened."""
        with self._lock:
            self._runs[run] = Owned(request)

    def get(self, run: Name) -> Owned | None:
        """Return the record of ``run``; None if this process does not own the run, or no longer."""
        return self._runs.get(run)

    def end(self, run: Name) -> None:
        """Remove ``run``, which was closed."""
        with self._lock:
            self._runs.pop(run, None)

    def signal(self, run: Name, signal: Signal) -> None:
        """Tell the owner of ``run`` a signal, if the owner is in this process and has not been told
        the same."""
        with self._lock:
            owned = self._runs.get(run)
            if owned is None or owned.signal in (signal, Signal.SEALED):
                return
            owned.signal = signal
            notify = owned.notify
            if signal is Signal.SEALED:
                del self._runs[run]
        if notify is not None:
            notify(signal)

    def watch(self, run: Name, notify: NotifyOwner) -> Cancel:
        """See :meth:`.ThreadStore.watch_run`."""
        with self._lock:
            owned = self._runs.get(run)
            signal = Signal.SEALED if owned is None else owned.signal
            if owned is not None and signal is Signal.CONTINUE:
                owned.notify, owned.is_taken = notify, True
        if owned is None or signal is not Signal.CONTINUE:
            notify(signal)
            return nothing_to_cancel

        def cancel() -> None:
            owned.notify = None

        return cancel
