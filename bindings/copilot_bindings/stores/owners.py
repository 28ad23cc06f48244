"""The runs that this process owns: what their owners are to be told, and how far their logs are."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator

import attrs

from sansio_copilot.stores.protocol import (
    Cancel,
    NotifyOwner,
    RunRequest,
    RunResult,
    Signal,
    nothing_to_cancel,
)


@attrs.define(eq=False)
class Owned:
    """A run that was opened by this process, and has not ended.

    :param request: by which it was opened, to tell a call that is made again from another one.
    :ivar size: bytes that are in its log.
    :ivar result: what it would leave if it ended now, as far as that is in the store.
    """

    request: RunRequest
    size: int = 0
    result: RunResult | None = None
    signal: Signal = Signal.CONTINUE
    notify: NotifyOwner | None = None


class OwnedRuns:
    """The runs of one store that this process owns. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Hashable, Owned] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Hashable]:
        with self._lock:
            return iter(list(self._runs))

    def begin(self, run: Hashable, request: RunRequest) -> None:
        """``run`` was opened."""
        with self._lock:
            self._runs[run] = Owned(request)

    def get(self, run: Hashable) -> Owned | None:
        """What is known of ``run``; None if it is not, or no more, of this process."""
        return self._runs.get(run)

    def end(self, run: Hashable) -> None:
        """``run`` was closed."""
        with self._lock:
            self._runs.pop(run, None)

    def signal(self, run: Hashable, signal: Signal) -> None:
        """Tell the owner of ``run``, if it is in this process and has not been told that."""
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

    def signal_of(self, run: Hashable) -> Signal:
        """The signal of ``run`` as far as it is known here."""
        owned = self._runs.get(run)
        return Signal.SEALED if owned is None else owned.signal

    def watch(self, run: Hashable, notify: NotifyOwner) -> Cancel:
        """See :meth:`.ThreadStore.watch_run`."""
        with self._lock:
            owned = self._runs.get(run)
            signal = Signal.SEALED if owned is None else owned.signal
            if owned is not None and signal is Signal.CONTINUE:
                owned.notify = notify
        if owned is None or signal is not Signal.CONTINUE:
            notify(signal)
            return nothing_to_cancel

        def cancel() -> None:
            owned.notify = None

        return cancel
