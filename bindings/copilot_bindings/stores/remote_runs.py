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

    :param process: the name of this process, which no other process has.
    :param supersedes: whether a run of a busy thread supersedes the live one.
    """

    process: str
    owned: OwnedRuns[Name]
    tails: Tails
    retention: Retention
    supersedes: bool

    def _begin(self, run: Name, request: RunRequest, *, is_again: bool) -> bool:
        """Note that a run has been opened; returns False if it has an owner here already.

        :param is_again: whether the same request had opened it before. If the run has no owner
            here, the answer to that call was lost.
        """
        own = self.owned.get(run)
        if is_again and own is not None and own.notify is not None:
            return False
        self.owned.begin(run, request)
        self.tails.begin(run)
        return True

    def _is_stored(self, run: Name, result: RunResult | None) -> bool:
        """Whether the server has ``result`` already, because an earlier append has brought it."""
        owned = self.owned.get(run)
        return result is not None and owned is not None and owned.result is result

    def _appended(
        self, run: Name, at: int, frames: bytes, result: RunResult | None, signal: Signal
    ) -> Signal:
        """Note that frames were appended, or refused because the run has another owner; returns
        ``signal``."""
        if self._heard(run, signal) is not Signal.SEALED:
            self.tails.grew(run, at, frames)
            owned = self.owned.get(run)
            if owned is not None and (frames or result is not None):
                owned.result = result
        return signal

    def _heard(self, run: Name, signal: Signal) -> Signal:
        """Note the signal that the owner of a run has asked for; returns it."""
        if signal is Signal.SEALED:
            self._lose(run)
        return signal

    def _closed(self, run: Name, at: int, frames: bytes, *, is_own: bool) -> bool:
        """Note that a run has been closed; returns ``is_own``.

        :param is_own: whether this call has closed it. Otherwise another process has closed it,
            perhaps with other frames, or an earlier call whose answer was lost.
        """
        if is_own:
            self.tails.grew(run, at, frames)
            self.tails.end(run)
            self.owned.end(run)
        else:
            self._lose(run)
        return is_own

    def _lose(self, run: Name) -> None:
        """Forget a run that has another owner now, or has ended; its readers ask the server."""
        self.owned.end(run)
        self.tails.forget(run)
