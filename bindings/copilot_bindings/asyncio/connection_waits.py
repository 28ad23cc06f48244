"""The waits of a connection under asyncio, and the callbacks that end them.

A connection has no task. So its state is the want that it waits for, and each callback of asyncio
may end some of these waits. :data:`ENDS` says which, and with what outcome. A callback that ends no
wait has no effect, except that received bytes are kept.

Three attributes of the connection are no waits, and so stand beside the table. ``_beginning`` is
set as long as there is no transport, and so no want. ``_choked`` says whether the transport's
buffer is full, which may change during any wait, and matters only when output has been written.
``_closed`` says that the last want has been done; its transport may be waited for, or be gone.
"""

from __future__ import annotations

import enum
from types import NoneType
from typing import Any, TypeAlias

import attrs

from sansio_copilot.actions import WaitForFrames

from ..http1.wants import GONE, TIMED_OUT, Close, Receive, Rest, Want
from ..serving.pending_call import Pending


class Happening(enum.Enum):
    """The happenings that may end a wait. The values are part of the docs' table."""

    # The hash of Enum is Python code, which is too slow, because every callback looks one up.
    __hash__ = object.__hash__

    DATA = "`data_received`"
    INPUT_ENDED = "`eof_received`"
    ROOM = "`resume_writing`"
    NOTICE = "the store's notification"
    TURN = "the loop's next turn"
    TIME = "the time is over"
    LOST = "`connection_lost`"


@attrs.define(eq=False)
class Choked:
    """A want that is put off until the transport takes more output."""

    then: Want


Waited: TypeAlias = Want | Choked

_H = Happening

ENDS: dict[type, dict[Happening, Any]] = {
    # The connection waits for nothing while it is being driven.
    NoneType: {},
    Receive: {_H.DATA: None, _H.INPUT_ENDED: None, _H.TIME: TIMED_OUT, _H.LOST: GONE},
    WaitForFrames: {_H.NOTICE: True, _H.INPUT_ENDED: GONE, _H.TIME: False, _H.LOST: GONE},
    # A call reports its own outcome when it ends. The loss of the connection does not end a call
    # that is seen through, because that call may have changed the store.
    Pending: {_H.LOST: GONE},
    Rest: {_H.TURN: True, _H.LOST: GONE},
    # When the time is over, the connection is aborted, unless the client has taken something.
    Choked: {_H.ROOM: None, _H.LOST: GONE},
    # The wait is for the loss of the connection, and has no outcome.
    Close: {},
}
"""The happenings that end the wait for each kind of want, with the outcome that is reported."""
