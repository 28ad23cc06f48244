"""The answers of a server to owners in this process, and what follows from each of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import attrs

from sansio_copilot.stores.protocol import RunRequest, RunResult, Signal

from .owned_runs import OwnedRuns
from .retention import Retention
from .tails import Tails

Name = TypeVar("Name", bound=Hashable)


@attrs.frozen(eq=False)
class RemoteRuns(Generic[Name]):
    """The runs of one store, as this process sees them.

    :param process: what tells this process from others.
    :param supersedes: whether a run of a busy thread supersedes the live one.
    """

    process: str
    owned: OwnedRuns[Name]
    tails: Tails
    retention: Retention
    supersedes: bool

    def _begin(self, run: Name, request: RunRequest, *, is_again: bool) -> bool:
        """A run has been opened; returns False if it has an owner here already.

        :param is_again: whether it was open, by this very request. If it has no owner, the answer
            to the call before was lost.
        """
        own = self.owned.get(run)
        if is_again and own is not None and own.notify is not None:
            return False
        self.owned.begin(run, request)
        self.tails.begin(run)
        return True

    def _is_stored(self, run: Name, result: RunResult | None) -> bool:
        """Whether the server has a result already, because it came with an append before."""
        owned = self.owned.get(run)
        return result is not None and owned is not None and owned.result is result

    def _appended(
        self, run: Name, at: int, frames: bytes, result: RunResult | None, signal: Signal
    ) -> Signal:
        """Frames have been appended, or have not, if the run is another's; returns ``signal``."""
        if self._heard(run, signal) is not Signal.SEALED:
            self.tails.grew(run, at, frames)
            owned = self.owned.get(run)
            if owned is not None and (frames or result is not None):
                owned.result = result
        return signal

    def _heard(self, run: Name, signal: Signal) -> Signal:
        """The owner of a run has asked for its signal, which is returned."""
        if signal is Signal.SEALED:
            self._lose(run)
        return signal

    def _closed(self, run: Name, at: int, frames: bytes, *, is_own: bool) -> bool:
        """A run has been closed; returns ``is_own``.

        :param is_own: whether by this call. Otherwise somebody else has closed it, with other
            frames than these, or an earlier call, with whose answer perhaps more was lost.
        """
        if is_own:
            self.tails.grew(run, at, frames)
            self.tails.end(run)
            self.owned.end(run)
        else:
            self._lose(run)
        return is_own

    def _lose(self, run: Name) -> None:
        """The run is another's now, or has ended, and its readers are to ask the server."""
        self.owned.end(run)
        self.tails.forget(run)
