"""The actions that a :class:`~sansio_copilot.runs.machine.Run` asks of a binding."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from ..calls import Call
from ..stores.calls import StoreCall


class PullEvent(Struct, frozen=True):
    """Take the next event from the run's agent. Outcome: the event, or the agent's end.

    :param patience: seconds; if the agent has not yielded by then, call
        :meth:`~sansio_copilot.Run.settle`. None to wait for ever.
    :param flush: seconds; after them at the latest call :meth:`~sansio_copilot.Run.flush`, because
        frames wait, for others or for a store that is unavailable. None if no frames wait.
    """

    patience: float | None = None
    flush: float | None = None


PULL: Final = PullEvent()
"""The pull without patience or flush, as nearly all are; a binding compares it by identity."""


class RunOver(Struct, frozen=True):
    """The run is in the log to its end. There is no outcome.

    :param agent: the treatment of the agent: "cancel" it, or "drain" it, which lets it clean up in
        its own time and ignores its events; "done" if it has ended.
    :param call: a function of the application that is to be called, once, beside that; its outcome
        is not reported, and its failure is logged. None for none.
    """

    agent: Literal["cancel", "drain", "done"]
    call: Call | None = None


class Pause(Struct, frozen=True):
    """The store is unavailable, and the agent has to wait for it, or has ended. There is no
    outcome.

    :param seconds: the time after which to call :meth:`~sansio_copilot.Run.resume`.
    """

    seconds: float


RunAction = PullEvent | StoreCall[Any] | Pause | RunOver
