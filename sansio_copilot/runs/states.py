"""The states of a run, and the calls that each allows."""

from __future__ import annotations

import enum


class RunState(enum.Enum):
    """The state of a run. The names are part of the docs' diagram."""

    # The hash of Enum is Python code, which is too slow, because a state is looked up for every
    # event.
    __hash__ = object.__hash__

    IDLE = "idle"
    PULLING = "pulling"
    STORING = "storing"
    CLOSING = "closing"
    WAITING = "waiting"
    OVER = "over"


CALLS: dict[str, frozenset[RunState]] = {
    "start": frozenset({RunState.IDLE}),
    "event": frozenset({RunState.PULLING}),
    "agent_ended": frozenset({RunState.PULLING}),
    "check": frozenset(RunState),
    "signalled": frozenset(RunState),
    "settle": frozenset({RunState.PULLING}),
    "flush": frozenset(RunState),
    "resume": frozenset({RunState.WAITING}),
    "interrupt": frozenset(RunState),
    "abandon": frozenset(RunState),
    "stored": frozenset({RunState.STORING, RunState.CLOSING}),
    "store_failed": frozenset({RunState.STORING, RunState.CLOSING}),
}
"""The states in which each call is allowed."""
