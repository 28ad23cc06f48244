"""The actions that a :class:`~sansio_copilot.runs.machine.Run` asks of a binding."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from ..stores.calls import StoreCall


@attrs.frozen
class PullEvent:
    """Take the next event from the run's agent. Outcome: the event, or the agent's end.

    :param patience: seconds; if the agent has not yielded by then, call
        :meth:`~sansio_copilot.Run.settle`. None: wait for ever.
    :param flush: seconds; after that at the latest call :meth:`~sansio_copilot.Run.flush`, as
        there are frames that wait, for others or for a store that is unavailable. None: there are
        none.
    """

    patience: float | None = None
    flush: float | None = None


PULL: Final = PullEvent()
"""The one that wants nothing else, as nearly all do; a binding tells it by identity."""


@attrs.frozen
class RunOver:
    """The run is in the log to its end. No outcome.

    :param agent: what to do with an agent that has not ended: "cancel" it, or "drain" it, which
        lets it clean up in its own time and ignores what it yields. "done": it has ended.
    """

    agent: Literal["cancel", "drain", "done"]


@attrs.frozen
class Pause:
    """The store is unavailable, and the agent has to wait for it, or has ended. No outcome; after
    so many ``seconds`` call :meth:`~sansio_copilot.Run.resume`."""

    seconds: float


RunAction = PullEvent | StoreCall[Any] | Pause | RunOver
