"""One HTTP/1.1 connection without its I/O: bytes become requests, and requests become exchanges.

The bindings that own their sockets (asyncio, trio, sockets) share this module.

Theory of operation
===================

:class:`HTTPConnection` models the server's side of one connection (RFC 9112 section 9). It is
driven as an exchange is: each call returns a :data:`Want`, which says what the binding has to do
next; the binding does it, and reports the outcome by ``done`` or ``failed``. Exactly one want is
pending at any time. Only ``feed`` may be called between, whenever bytes arrive.

Two parts take turns. The *steps* are one generator, because the order of the steps is the order of
the protocol::

    refuse | (read a head -> answer -> read the rest of the body)* -> linger -> close

While a request is *answered* (``_exchange`` is set) the steps rest, and each outcome goes to the
exchange directly: :class:`~.answering.Answering` performs its actions, one after the other, until
one of them has to be waited for. So an event on its way to a reader, the most frequent case, passes
one loop here and no generator. Two attributes say whose want is pending, and so who is told its
outcome; no other combination of them occurs, which the tests' driver checks at each want:

=============================================  =============  =============
the want is                                    ``_exchange``  ``_held``
=============================================  =============  =============
a step of the connection                       None           None
an action of the exchange                      set            None
output or a rest, before an action of it       set            that action
more of the request's body, or a rest          set            its deadline
=============================================  =============  =============

The rule that makes it right is: *output is collected in* ``_out``, *and the binding sends it before
it waits.* So bytes that are ready together leave in one packet, and no byte that is ready waits for
a hook, a store that blocks, or a client. A call is made only when the output before it has been
sent (``_held``), because it may take long. A store call is not held back, and the output may wait
for it, because its answer comes soon and gives more to send.

Three more rules hold. After GONE nothing is sent; a response that is incomplete sets ``_broken``,
which has the connection closed by a reset, so that the response never looks complete. The next
request is read only behind the end of this one; a connection that ends with input left lingers,
reading and forgetting what arrives, so that closing does not destroy the response. And one client
never keeps the thread: after ``_TURN_REQUESTS`` requests or ``_TURN_PIECES`` pieces of a body the
connection wants a ``Rest``.

You may change the limits, and what is sent together, without breaking a client. The order of
the cases in ``Answering._answer`` matters: a ``StoreCall`` is a ``Call`` too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import h11

from sansio_copilot import RemoteProtocolError, Response
from sansio_copilot.actions import Action, StoreCall
from sansio_copilot.exchange.stream import whole_of
from sansio_copilot.http import refusals

from ..serving.context import CallContext
from ..serving.freed_memory import give_back_to_the_system
from . import request_head
from .answering import Answering, gone
from .arrival_deadlines import Awaited, Deadline
from .wants import GONE, Close, CloseWriting, ConnectionService, Rest, Send, Want

logger = logging.getLogger(__name__)

_LINGER_SECONDS = 2.0
# A connection does this many requests before other connections have a turn.
_TURN_REQUESTS = 16

Wants: TypeAlias = Generator[Want, Any, Any]


class HTTPConnection(Answering):
    """Answers the requests of one connection, one after the other, in order (RFC 9112 section 9.3).

    :param service: gives the runtime, the limits, the calls, the room for bodies, and homes for
        runs.
    :param admitted: False if there is no room for the connection. Its client is sent a refusal, and
        the connection is closed.
    :param own_thread: whether the connection has a thread of its own, which calls may block.
    """

    __slots__ = ("_steps",)

    def __init__(
        self, service: ConnectionService, *, admitted: bool = True, own_thread: bool = False
    ) -> None:
        super().__init__(service, own_thread=own_thread)
        self._steps = self._serve(admitted)

    # Interface to the binding

    def start(self) -> Want:
        """Begin, once the connection is made; returns the first want."""
        return self._go_on(self._steps.send, None)

    def done(self, outcome: Any = None) -> Want:
        """Report that the last want is done.

        :param outcome: the outcome, of the kind that the documentation of the want names.
        :returns: the next want.
        """
        exchange = self._exchange
        action: Action | Want
        if outcome is GONE:
            self._broken = True
            self._out.clear()
        try:
            if exchange is None:
                return self._steps.send(outcome)
            if outcome is GONE and type(self._held) is not StoreCall:
                # The action that was put off is dropped, because the exchange has other last steps.
                self._held = None
                action = gone(exchange)
            elif self._held is None:
                action = exchange.done(outcome)
            else:
                held, self._held = self._held, None
                if isinstance(held, Deadline):
                    action = self._read_body(exchange, held, outcome)
                else:
                    action = held
            want = self._answer(exchange, action)
            return self._steps.send(None) if want is None else want
        except StopIteration:
            return Close(abort=self._broken)
        except Exception as error:
            return self._fail(error)

    def failed(self, error: Exception) -> Want:
        """Report that the last want raised ``error``; returns the next want."""
        exchange = self._exchange
        if exchange is None or self._held is not None:
            return self._fail(error)
        try:
            want = self._answer(exchange, exchange.failed(error))
        except Exception as other:
            return self._fail(other)
        return self._go_on(self._steps.send, None) if want is None else want

    def data_to_send(self) -> bytes:
        """Take the output, which the binding sends before it performs the want.

        The output is not sent before a :class:`Rest`, because more may follow, and need not be sent
        before a :class:`~copilot_bindings.serving.pending_call.Pending` is waited for. If it cannot
        be sent, the outcome of the want is GONE.
        """
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        return data

    # Steps of the connection, in their order

    def _go_on(self, resume: Callable[[Any], Want], value: Any) -> Want:
        """Run the steps to their next want; after the last step the want is to close."""
        try:
            return resume(value)
        except StopIteration:
            return Close(abort=self._broken)

    def _fail(self, error: Exception) -> Want:
        """Make the steps end the connection."""
        self._exchange = self._held = None
        return self._go_on(self._steps.throw, error)

    def _serve(self, admitted: bool) -> Wants:
        # This is one function, because the order of its steps is the order of the protocol, and
        # because a generator inside of it would be resumed for each request.
        served = 0
        parser, service = self.parser, self._service
        try:
            if not admitted:
                yield from self._refuse(refusals.TOO_MANY_CONNECTIONS)
                return
            while True:
                until, outcome = time.monotonic() + self._limits.idle_seconds, None
                deadline, want = Deadline(Awaited.NEXT_REQUEST, until), None
                while (request := parser.read_head() if parser.input.unread else None) is None:
                    if parser.input.eof or outcome is GONE:
                        return
                    if deadline.awaited is Awaited.NEXT_REQUEST and parser.input.unread:
                        until = time.monotonic() + self._limits.header_seconds
                        deadline = Deadline(Awaited.HEAD, until)
                    want = deadline.receive(parser, outcome, first=not served)
                    if want is None:
                        return
                    outcome = yield want
                self._exchange = exchange = service.runtime.exchange(
                    request, time.time(), closing=service.closing
                )
                assert parser.response is not None, "there is a request"
                self._framing = parser.response
                self.context = CallContext(service.context.current.copy())
                # These names are dropped, because the steps may rest for hours below.
                del request, until, deadline, want
                waits = self._answer(exchange, exchange.start())
                if waits is not None:
                    # The steps rest here until the request has been answered. The want is not kept,
                    # because it may be a call, whose outcome may be a long text.
                    first, waits = [waits], None
                    yield first.pop()
                if self._refusal is not None:
                    yield from self._refuse(self._refusal)
                    return
                if self._broken:
                    return
                if service.closing or not self._framing.may_be_followed:
                    if not parser.is_done:
                        yield from self._linger()
                    return
                while not parser.next_cycle():
                    if not (yield from self._drain()):
                        return
                served += 1
                if self._is_long:
                    self._give_back()
                if served % _TURN_REQUESTS == 0 and parser.input.unread:
                    # The output is sent before the rest, so that it cannot pile up.
                    if (yield Send()) is GONE:
                        return
                    yield Rest()
        except (h11.RemoteProtocolError, RemoteProtocolError) as error:
            yield from self._refuse(request_head.refusal(error))
        except Exception as error:
            logger.error("a connection failed", exc_info=error)
            self._broken = True
        finally:
            self._exchange = None
            if self._body is not None:
                self._body.release()
            if self._is_long:
                self._give_back()

    def _give_back(self) -> None:
        """Give the memory of long content back to the system, once it has been sent or given up."""
        self._is_long = False
        give_back_to_the_system()

    def _drain(self) -> Generator[Want, Any, bool]:
        """Read and throw away a body that its exchange did not ask for.

        The next request stands behind it.

        :returns: whether all of it has arrived in time.
        """
        until = time.monotonic() + self._limits.body_seconds
        deadline = Deadline(Awaited.UNREAD_BODY, until)
        while (piece := self.parser.body.read()) != b"":
            if piece is None:
                self.parser.body.check_end()
                want = deadline.receive(self.parser)
                if want is None or (yield want) is not None:
                    return False
        return True

    # Refusals and closing

    def _refuse(self, response: Response) -> Wants:
        """Send ``response`` instead of serving, if no response has begun, and close."""
        framing = self.parser.framing()
        if not framing.has_begun:
            refusals.log_refusal(response)
            # The parser knows only this of the method, because it may not have read the head.
            method = "HEAD" if self.parser.is_head else ""
            head, content = whole_of(response, method)
            self._out += framing.head(head.status, head.headers, close=True)
            if content:
                self._out += framing.data(content)
            self._out += framing.end()
        yield from self._linger()

    def _linger(self) -> Wants:
        """Close this side, and read on for two seconds at most before the connection is closed.

        Closing a socket that has unread data resets the connection, and then a client that is still
        sending may lose the response (RFC 9112 section 9.6).
        """
        self.parser.discard()
        if (yield CloseWriting()) is GONE:
            return
        deadline = Deadline(Awaited.GOODBYE, time.monotonic() + _LINGER_SECONDS)
        while not self._input.eof and (want := deadline.receive(self.parser)) is not None:
            if (yield want) is not None:
                return
