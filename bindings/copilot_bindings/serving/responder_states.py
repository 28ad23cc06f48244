"""The states of a responder, and what becomes of its action when it is interrupted in each.

Two things interrupt a responder. The *service* ends and aborts it: a request whose body is still
arriving can be refused, because its client can still be answered; everything else is given up. And
the *server* cancels its task, as servers do at their own end. Then the action may be performed
again, if it was not begun, or if being begun twice does no harm, so that a stream still gets the
terminal event of its run.
"""

from __future__ import annotations

import enum

from msgspec import Struct


class ResponderState(enum.Enum):
    """The state of a responder: the wait that it is in. The values are part of the docs' table."""

    # The hash of Enum is Python code, which is too slow, because states are looked up often.
    __hash__ = object.__hash__

    BETWEEN = "nothing, because the next action has not begun"
    READING = "the body of the request"
    CALLING = "a call to end"
    STORING = "the store to answer"
    SENDING = "the server to take what is sent"
    WAITING = "frames, or for one turn of the loop"


class Interruption(Struct, frozen=True):
    """The effect of an interruption in one state.

    :param refuses: whether the request is refused when the service ends; otherwise the response is
        given up.
    :param is_repeatable: whether the action may be performed again after a cancellation.
    """

    refuses: bool
    is_repeatable: bool


_S = ResponderState

INTERRUPTIONS: dict[ResponderState, Interruption] = {
    _S.BETWEEN: Interruption(refuses=False, is_repeatable=True),
    _S.READING: Interruption(refuses=True, is_repeatable=False),
    _S.CALLING: Interruption(refuses=False, is_repeatable=False),
    # A store call is seen through, and the cancellation comes after it, between two actions.
    _S.STORING: Interruption(refuses=False, is_repeatable=False),
    _S.SENDING: Interruption(refuses=False, is_repeatable=False),
    _S.WAITING: Interruption(refuses=False, is_repeatable=True),
}
