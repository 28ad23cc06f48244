"""Answering one request of an HTTP/1.1 connection, without I/O.

:class:`Answering` is the half of a connection that drives an exchange. It performs the exchange's
actions one after the other: bytes to send become output, calls are made here, and a run is given
its home. Only three things have to be waited for and become a :data:`Want`: the end of a call,
frames, and a request's body that has not arrived whole. See :mod:`.connection` for the other half,
and for the rules that both halves keep.
"""

from __future__ import annotations

import time
from typing import Any

import h11

from sansio_copilot import (
    BodyRefused,
    BodyTimeout,
    BodyTooLarge,
    Exchange,
    RemoteProtocolError,
    Response,
)
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    StoreCall,
    WaitForFrames,
)

from ..serving.body_limits import LONG_BYTES, Body
from ..serving.pending_call import Pending
from ..serving.response_wire import FLUSH_BYTES
from . import request_head
from .arrival_deadlines import Awaited, Deadline
from .fast_path import FastResponse
from .request_parser import RequestParser
from .response_framing import H11Response
from .wants import ConnectionService, Rest, Send, Want

# A connection reads this many pieces of a body before other connections have a turn.
_TURN_PIECES = 1024


class Answering:
    """Drives the exchanges of one connection, one after the other.

    :param service: see :class:`~.connection.HTTPConnection`, as for the other one.
    """

    __slots__ = (
        *("_body", "_broken", "_calls", "_exchange", "_framing", "_held"),
        *(
            "_input",
            "_is_long",
            "_is_starting",
            "_limits",
            "_out",
            "_out_size",
            "_own_thread",
            "_pieces",
        ),
        *("_refusal", "_service", "context", "feed", "gone", "parser"),
    )

    def __init__(self, service: ConnectionService, *, own_thread: bool) -> None:
        self._service = service
        self._calls = service.calls
        self._limits = service.runtime.limits
        self._own_thread = own_thread
        self.parser = RequestParser(int(self._limits.header_bytes))
        """The parser of requests. Its ``has_news`` says whether bytes have arrived since the last
        :class:`Receive`, and its ``is_full`` whether to stop reading the socket until the next
        one."""
        self._input = self.parser.input
        self.feed = self.parser.feed
        """Report bytes that have arrived; b"" says that the client has closed its side."""
        self._framing: FastResponse | H11Response
        """The framer of the response to the request that is being answered."""
        self._out: list[bytes] = []
        self._out_size = 0
        self._exchange: Exchange | None = None
        """The exchange that is being answered; None while the steps go on."""
        self._held: Action | Deadline | None = None
        """What is put off until the want is done: an action, or the reading of the body, which has
        a deadline."""
        self._is_starting = False
        """Whether a run was started, whose agent has had no turn yet."""
        self._body: Body | None = None
        """The request's body, from its first byte until the exchange no longer needs it."""
        self._is_long = False
        """Whether long content was sent since memory was last given back to the system."""
        self._pieces = 0
        self._refusal: Response | None = None
        """The response to bytes that are no body; None if there have been none."""
        self.context = service.context
        """The context in which calls are made; each exchange has its own."""
        self._broken = False
        """Whether a response is incomplete, so that nothing may be sent after it."""
        self.gone = False
        """Whether the binding knows that the client has gone, so that no hook is called for it."""

    def _answer(self, exchange: Exchange, action: Action | Want) -> Want | None:
        """Perform the actions of an exchange until one has to be waited for.

        :param action: the first action, or the want of the body that is being read.
        :returns: None if the exchange is over.
        """
        # This is one function, because it is the table of what becomes of each action, in which the
        # order of the cases says which of them goes first.
        framing = self._framing
        while True:
            outcome: Any = None
            try:
                match action:
                    case SendBytes(data=data):
                        self._out += framing.data(data)
                        self._out_size += len(data)
                        self._is_long = self._is_long or len(data) >= LONG_BYTES
                        if self._out_size >= FLUSH_BYTES:
                            return Send()
                    case StoreCall() if self._is_starting:
                        # The agent has one turn before its log is read, so that its first events
                        # leave in the same packet as the head.
                        self._is_starting, self._held = False, action
                        return Rest()
                    case Call() if type(action) is StoreCall or not (self._out or self.gone):
                        outcome = self._calls.begin(
                            action, self.context, self._service.live_backend, own=self._own_thread
                        )
                    case WaitForFrames() if not self._input.eof:
                        return action
                    case Call() if self._out:
                        # The output is sent first, because the call may take long.
                        self._held = action
                        return Send()
                    case WaitForFrames() | Call():
                        # A client that has closed its side only (RFC 9112 section 9.6) gets what is
                        # ready. Its stream ends when it falls silent, because a client that has
                        # left looks the same.
                        action = gone(exchange)
                        continue
                    case ReadBody(limit=limit):
                        self._body = Body(self._service.bodies, limit)
                        until = time.monotonic() + self._limits.body_seconds
                        deadline = Deadline(Awaited.BODY, until)
                        action = self._read_body(exchange, deadline, is_new=True)
                        continue
                    case SendHead(status=status, headers=headers):
                        if self._body is not None:
                            self._body.release()
                            self._body = None
                        close = self._service.closing or self.parser.body.must_close
                        self._out += framing.head(status, headers, close=close)
                    case StartRun(run=run):
                        begun = self.context.current.run(self._service.start_run, run)
                        self._is_starting = not begun
                    case Finish():
                        self._out += framing.end()
                        self._exchange = None
                        return None
                    case Abandon():
                        self._broken = self._refusal is None
                        self._exchange = None
                        return None
                    case _:
                        return action
            except Exception as error:
                action = exchange.failed(error)
                continue
            if isinstance(outcome, Pending):
                return outcome
            action = exchange.done(outcome)

    def _read_body(
        self,
        exchange: Exchange,
        deadline: Deadline,
        outcome: Any = None,
        *,
        is_new: bool = False,
    ) -> Action | Want:
        """Read the request's body as far as it has arrived.

        :param outcome: the outcome of the want by which the body was waited for.
        :param is_new: whether nothing has been read of it.
        :returns: the want of more of the body, or the exchange's next action.
        """
        arriving, body = self.parser.body, self._body
        assert body is not None, "the body is being read"
        try:
            if is_new and arriving.may_be_invited:
                body.expect(arriving.expected)
                self._out.append(arriving.invitation())
            while piece := arriving.read():
                if arriving.left == 0 and body.size == 0:
                    # The body has arrived in one piece, as most do, and needs no collecting.
                    body.reserve(len(piece))
                    return exchange.done(piece)
                body.add(piece)
                if arriving.left == 0:
                    # The body is not read on, because no byte of it is left. next_cycle() has h11
                    # read the end of the body, if that is needed.
                    return exchange.done(body.whole())
                self._pieces += 1
                if self._pieces % _TURN_PIECES == 0:
                    self._held = deadline
                    return Rest()
            if piece is not None:
                return exchange.done(body.whole())
            body.expect(arriving.expected)
            arriving.check_end()
            want = deadline.receive(self.parser, outcome)
        except BodyTimeout as error:
            # The rest is not waited for any more, so that this response is the connection's last.
            arriving.left = None
            return exchange.failed(error)
        except (BodyTooLarge, BodyRefused) as error:
            return exchange.failed(error)
        except (h11.RemoteProtocolError, RemoteProtocolError) as error:
            # The client gets this refusal in place of a response of the exchange, because the bytes
            # are no body.
            self._refusal = request_head.refusal(error)
            return gone(exchange)
        assert want is not None, "a body that is late is an error"
        self._held = deadline
        return want


def gone(exchange: Exchange) -> Action:
    """Tell the exchange that its client has gone, while it is not in a store call."""
    action = exchange.client_gone()
    assert action is not None, "only a store call is seen through"
    return action
