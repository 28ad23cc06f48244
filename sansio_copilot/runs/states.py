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


# Each state has a name of its own, because every event asks for the state, and Python 3.11 is slow
# to look one up in its class.
IDLE, PULLING, STORING, CLOSING, WAITING, OVER = RunState

CALLS: dict[str, frozenset[RunState]] = {
    "start": frozenset({IDLE}),
    "event": frozenset({PULLING}),
    "agent_ended": frozenset({PULLING}),
    "check": frozenset(RunState),
    "signalled": frozenset(RunState),
    "settle": frozenset({PULLING}),
    "flush": frozenset(RunState),
    "resume": frozenset({WAITING}),
    "interrupt": frozenset(RunState),
    "abandon": frozenset(RunState),
    "stored": frozenset({STORING, CLOSING}),
    "store_failed": frozenset({STORING, CLOSING}),
}
"""The states in which each call is allowed."""
