"""The notifications of a server: appends of other processes, and signals to owners here.

One operating system thread has one connection for them, and subscribes to the runs that are
followed here. A notification may be lost, because a connection broke or a reader subscribed between
two of them. So each run is looked at once when somebody begins to follow it, and all followed runs
are looked at from time to time. The owners here ask for their signals whenever a connection is new,
because nobody has heard what was announced before.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, cast

from sansio_copilot.stores.protocol import Signal

from .os_threads import begin_os_thread
from .owned_runs import OwnedRuns
from .round_trips import Command, PipelineThread, RoundTrips
from .tails import Tails

logger = logging.getLogger(__name__)

Name = TypeVar("Name", bound=Hashable)

_LOOK_SECONDS = 1.0
"""Seconds between two looks at all runs that are followed."""
_PAUSE_SECONDS = 0.5


class RemoteSubscriber(ABC, Generic[Name]):
    """Receives notifications for one process, in an operating system thread of its own. Each kind
    of server has its own class.

    :param store: the store as log lines name it.
    :param pipeline: makes the calls that look at runs.
    :param tick: called about once a second.
    :cvar broken: the error of a connection that broke.
    :raises StoreUnavailable: if no further operating system thread begins now.
    """

    broken: type[Exception]

    def __init__(
        self,
        store: object,
        pipeline: PipelineThread,
        owned: OwnedRuns[Name],
        tails: Tails,
        tick: Callable[[], object],
    ) -> None:
        self._store = store
        self._pipeline = pipeline
        self._owned = owned
        self._tails = tails
        self._tick = tick
        self._ended = False
        self._is_late = False
        self._thread = begin_os_thread("copilot-news", self._live)

    def wake(self) -> None:
        """Look now which runs are followed."""

        def trips() -> RoundTrips[None]:
            yield [self._nudge()]

        self._pipeline.submit(trips())

    def close(self, seconds: float) -> bool:
        """End; returns whether the operating system thread has ended in time."""
        self._ended = True
        self.wake()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @abstractmethod
    def _nudge(self) -> Command:
        """The command by which the server wakes the subscriber of this process."""

    @abstractmethod
    def _listen(self) -> None:
        """Connect, and receive notifications until the subscriber has to end."""

    @abstractmethod
    def _signal_of(self, run: Name) -> RoundTrips[Signal]:
        """Ask for the signal of a run that this process owns."""

    @abstractmethod
    def looking(self, run: Name, size: int) -> RoundTrips[None]:
        """Read the frames that a run has behind ``size``, and hand them to its tail."""

    def _live(self) -> None:
        while not self._ended:
            try:
                self._listen()
            except self.broken as error:
                if not self._is_late:
                    logger.warning("%s: notifications are late for now: %s", self._store, error)
                self._is_late = True
            except Exception:
                logger.exception("%s: the subscriber failed", self._store)
            if not self._ended:
                time.sleep(_PAUSE_SECONDS)
                self._tick()

    # Methods that the subclass for a server calls

    def _connected(self) -> None:
        """Note that notifications come from now on, and ask for the signals of all owned runs."""
        if self._is_late:
            self._is_late = False
            logger.info("%s: notifications come again", self._store)
        else:
            logger.debug("%s: notifications come from now on", self._store)
        for run in self._owned:
            self._pipeline.submit(self._asking(run))

    def _followed(self) -> dict[Name, int]:
        """The runs that are followed here, and their known sizes."""
        return cast("dict[Name, int]", dict(self._tails.followed()))

    def _look_at_all(self) -> float:
        """Look at all runs that are followed; returns the time of the next look."""
        for run, size in self._followed().items():
            self._look(run, size)
        self._tick()
        return time.monotonic() + _LOOK_SECONDS

    def _look(self, run: Name, size: int) -> None:
        self._tails.forget_if_it_fails(run, self._pipeline.submit(self.looking(run, size)))

    def _hear_signal(self, run: Name, signal: Signal) -> None:
        """Take a signal to the owner of a run, if this process owns it."""
        self._owned.signal(run, signal)
        if signal is Signal.SEALED:
            self._tails.end(run)

    def _hear_of(self, run: Name, at: int | None, frames: Callable[[], bytes]) -> None:
        """Take the notification of a run that is followed here.

        :param at: where its new frames begin; None if the notification has no frames.
        """
        known = self._tails.known(run)
        if known is None:
            return
        if at is not None and at <= known:
            self._tails.grew(run, at, frames())
        else:
            # The run has ended, or its news is too long to be told, or a message was lost.
            self._look(run, known)

    def _asking(self, run: Name) -> RoundTrips[None]:
        signal = yield from self._signal_of(run)
        if signal is not Signal.CONTINUE:
            self._owned.signal(run, signal)
        if signal is Signal.SEALED:
            self._tails.forget(run)
