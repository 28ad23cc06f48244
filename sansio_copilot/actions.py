"""The actions that the core asks of a binding: a closed set, and all of it.

An :class:`~sansio_copilot.Exchange` and a :class:`~sansio_copilot.Run` return actions; the binding
performs each and reports the outcome, which gives the next one.
"""

from __future__ import annotations

from .calls import Call
from .exchange.actions import (
    Abandon,
    Action,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    WaitForFrames,
)
from .runs.actions import PULL, Pause, PullEvent, RunAction, RunOver
from .stores.calls import StoreCall

__all__ = [
    "PULL",
    "Abandon",
    "Action",
    "Call",
    "Finish",
    "Pause",
    "PullEvent",
    "ReadBody",
    "RunAction",
    "RunOver",
    "SendBytes",
    "SendHead",
    "StartRun",
    "StoreCall",
    "WaitForFrames",
]
