"""The states of a run's home, and what leads from one to the next."""

from __future__ import annotations

import enum


class HomeState(enum.Enum):
    """The state of a run's home: the wait that it is in. The names are part of the docs'
    diagram."""

    # The hash of Enum is Python code, which is too slow for what is looked up that often.
    __hash__ = object.__hash__

    PULLING = "the agent, for its next event"
    STORING = "the store, which keeps the agent waiting"
    ASIDE = "the agent, and the store beside it"
    LEAVING = "the agent, to clean up, because the run is over"
    ENDED = "nothing"


_S = HomeState

TRANSITIONS: dict[HomeState, dict[str, HomeState]] = {
    _S.PULLING: {
        "the store is waited for": _S.STORING,
        "the store is asked aside": _S.ASIDE,
        "the run ends": _S.LEAVING,
    },
    _S.STORING: {"the store has answered": _S.PULLING, "the run ends": _S.LEAVING},
    _S.ASIDE: {"the store has answered": _S.PULLING, "the run ends": _S.LEAVING},
    _S.LEAVING: {"the agent has ended": _S.ENDED},
    _S.ENDED: {},
}
"""In each state, what may happen, and the state that it leads to.

The store is waited for when it is asked for an event's sake. It is asked aside, while the agent is
waited for, when a signal, a timer or the server's end is the reason. A store that answers at once
is never waited for, so that most homes are PULLING until they leave. The run ends when it is over
in its log; or when it is told to while the store is asked, which is seen through beside the home.
"""
