"""The states of a run's home, and the transitions between them."""

from __future__ import annotations

import enum


class HomeState(enum.Enum):
    """The state of a run's home: the wait that it is in. The names are part of the docs'
    diagram."""

    # The hash of Enum is Python code, which is too slow, because states are looked up often.
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
    _S.LEAVING: {
        "the agent has ended": _S.ENDED,
        "the store has answered": _S.LEAVING,
        "the run ends": _S.LEAVING,
    },
    _S.ENDED: {"the store has answered": _S.ENDED, "the run ends": _S.ENDED},
}
"""In each state, the happenings that may come, and the state that each leads to.

The home waits for the store if an event of the agent is the reason of the call. If the reason is a
signal, a timer or the server's end, the store is asked aside, and the home waits for the agent. A
store that answers at once is never waited for, so that most homes are PULLING until they leave. The
run ends when it is over in its log; or when it is interrupted while the store is asked, whose call
is then seen through beside the home. So the store may still answer, and the run end in its log,
while the home is LEAVING, or when it has ENDED.

The state says in one word what three attributes say together, which have the data that decisions
need. Whenever the loop has its turn they are as follows, and a test compares them:

==============  =============  =============  ================================================
state           ``_fate``      ``_answered``  the run
==============  =============  =============  ================================================
PULLING         None           None           waits for its agent
STORING         None           None           asks its store, or waits for one that is away
ASIDE           None           set            the same
LEAVING, ENDED  set, or None   set, or None   is over, if ``_fate`` is set; else as in STORING
==============  =============  =============  ================================================
"""
