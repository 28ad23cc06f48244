"""One request and its response, where the server of another project owns the connection.

Theory of operation
===================

:class:`Responder` drives one exchange: it performs an action, reports the outcome, and so gets the
next action, until ``Finish`` or ``Abandon``. The server owns the connection; a
:class:`~.response_wire.Wire` is this side of it. So three things may happen at any ``await``, and
each has one way:

- **The client goes away.** The wire fails to send or to read, or a task that listens, which begins
  with the first long wait, learns it. Then ``_wire.gone`` is set and the wait is woken, which
  raises :class:`~.response_wire.Gone`; the exchange then answers ``client_gone()``.
- **The service ends.** ``abort`` does the same, except that a request whose body is still arriving
  is refused instead, because its client can still be answered.
- **The task is cancelled**, because the client has gone or the server ends. ``_see_out`` then ends
  the exchange in a task of its own, in which awaiting works again, and the cancellation is raised
  afterwards. If the response is complete, the cancellation is not raised, because there is nothing
  left to cancel.

The rule that makes it right is: *the exchange always ends, by an outcome for its last action.* A
store call is therefore seen through: a cancellation that comes meanwhile is noted in ``_cancelled``
and raised afterwards. A table, :data:`~.responder_states.INTERRUPTIONS`, says what becomes of the
action in other states. Where the cancellation may be the server's end, the action is performed
again if it may be repeated, so that a stream still gets the terminal event of its run.

You may change what is sent together (see :class:`~.response_wire.Wire`) and the time for the
last steps. The order of ``case`` in ``_perform`` matters: a ``StoreCall`` is a ``Call`` too.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

from sansio_copilot import (
    BodyTimeout,
    CopilotRuntime,
    Exchange,
    RemoteProtocolError,
    Request,
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
from sansio_copilot.exchange.stream import whole_of
from sansio_copilot.http import refusals

from .backend import Backend, Flag, Scope, Task
from .body_limits import Body
from .content_length import announced_length
from .context import CallContext
from .pending_call import Pending
from .responder_states import INTERRUPTIONS, ResponderState
from .response_wire import Gone, Wire
from .service import Service
from .store_watches import Weakly, begin_watch, end_watch

_LAST_SECONDS = 2.0
# A wait for frames that is longer than this, in seconds, listens whether the client goes.
_LISTEN_SECONDS = 0.1


class Responder:
    """Answers one request. For the service each request is a connection.

    :param service: the service of the server.
    :param runtime: the runtime of the service, or a variant of it.
    :param wire: the wire of the request.
    """

    def __init__(self, service: Service, runtime: CopilotRuntime, wire: Wire) -> None:
        self._service = service
        self._runtime = runtime
        self._backend = service.backend
        self._calls = service.calls
        # The context is a copy of the current one, because middleware may have set variables in it.
        self._context = CallContext.of_now()
        self._thread = threading.get_ident()
        self._wire = wire
        self._announced: int | None = None
        """The length in bytes that the request announces for its body; None if none."""
        self._is_expecting = False
        """Whether the client waits for "100 Continue"."""
        self._body: Body | None = None
        self._receiving: Scope | None = None
        """The scope around the wait for the body; None if the body is not being waited for."""
        self._exchange: Exchange
        self._action: Action
        self._is_starting = False
        """Whether a run was started, whose agent has had no turn yet."""
        self._listening: Task | None = None
        self._woken: Flag | None = None
        """The flag that wakes the present wait; None if there is no wait."""
        self._state = ResponderState.BETWEEN
        self._cancelled = False
        self._complete = False

    async def answer(self, request: Request) -> bool:
        """Answer the request, as far as its client still waits for the response.

        :returns: whether the response is complete; if not, it must not look complete.
        :raises Exception: the error of the server, unless the client has gone.
        """
        try:
            self._announced = announced_length(request.headers.get("content-length"))
        except RemoteProtocolError as error:
            return await self._refuse(refusals.not_http(str(error)), request.method)
        if not self._service.life.is_open and (refusal := await self._open(request)) is not None:
            return await self._refuse(refusal, request.method)
        self._service.expect(self)
        self._exchange = self._runtime.exchange(request, time.time(), closing=self._service.closing)
        try:
            await self._answer()
            if not self._complete:
                await self._break_off()
        except GeneratorExit:
            # The loop was dropped, and the service with it, so there is nothing to tell the
            # service.
            raise
        except BaseException:
            self._leave()
            raise
        self._leave()
        return self._complete

    async def _open(self, request: Request) -> Response | None:
        """Open the store and the application, if that has not been done.

        :returns: the response to the request if that fails.
        """
        return None

    async def _refuse(self, response: Response, method: str) -> bool:
        """Answer with ``response``, which comes from no exchange.

        :param method: the method of the request.
        :returns: whether the response is complete.
        :raises Exception: the error of the server, unless the client has gone.
        """
        refusals.log_refusal(response)
        is_complete = await self._send_whole(*whole_of(response, method))
        if self._wire.failure is not None:
            raise self._wire.failure
        return is_complete

    async def _send_whole(self, head: SendHead, content: bytes) -> bool:
        """Send a response that comes from no exchange; returns whether it is complete."""
        try:
            self._wire.put_head(head.status, head.headers)
            await self._wire.put(content)
            await self._wire.flush(more=False)
        except Gone:
            return False
        return True

    async def _break_off(self) -> None:
        """Do what follows a response that is incomplete."""
        if self._wire.failure is not None:
            raise self._wire.failure

    def _leave(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            # The attribute is cleared to break a cycle of references: the task keeps its
            # cancellation, whose traceback has a frame with this object.
            self._listening = None
        self._release_body()
        self._service.connection_ended(self)

    # Requests of the service

    def close_if_idle(self) -> None:
        """Do nothing, because the server owns the connections, and closes those that are idle."""

    def abort(self) -> None:
        """End the response at once.

        If the body is still being read, the request is refused; otherwise the response is broken
        off.
        """
        receiving = self._receiving
        if INTERRUPTIONS[self._state].refuses and receiving is not None:
            self._receiving = None
            receiving.cancel()
        else:
            self._wire.gone = True
            self._wake()

    # Driving the exchange

    async def _answer(self) -> None:
        self._action = self._exchange.start()
        try:
            await self._drive()
        except self._backend.cancelled:
            over = self._backend.flag()
            task = self._backend.spawn(self._see_out, over)
            timer = self._backend.later(_LAST_SECONDS, task.cancel)
            await self._backend.seen_through(over.wait)
            timer.cancel()
            # The cancellation is not raised if the response is complete, because then there is
            # nothing left to cancel.
            if not self._complete:
                raise

    async def _drive(self) -> None:
        """Perform actions until the exchange is over."""
        exchange = self._exchange
        while not isinstance(self._action, (Finish, Abandon)):
            self._state = ResponderState.BETWEEN
            if self._cancelled:
                raise self._backend.cancelled
            try:
                outcome = await self._perform(self._action)
            except Gone:
                action = exchange.client_gone()
                assert action is not None, "only a store call is seen through"
                self._action = action
            except Exception as error:
                self._action = exchange.failed(error)
            else:
                self._action = exchange.done(outcome)
                # The outcome is forgotten, so that a response that waits keeps nothing that was
                # read.
                del outcome
        if isinstance(self._action, Finish):
            self._state = ResponderState.SENDING
            try:
                await self._wire.flush(more=False)
            except Gone:
                self._action = Abandon()
            else:
                self._complete = True

    async def _perform(self, action: Action) -> Any:
        match action:
            case StoreCall():
                if self._is_starting:
                    await self._rest()
                outcome = self._calls.begin(action, self._context, self._live_backend)
                if isinstance(outcome, Pending):
                    self._state = ResponderState.STORING
                    outcome = await outcome.see_through(self._backend, self._note_cancellation)
                return outcome
            case SendBytes(data=data):
                self._state = ResponderState.SENDING
                await self._wire.put(data)
            case WaitForFrames():
                self._state = ResponderState.SENDING
                await self._wire.flush()
                return await self._wait(action)
            case Call():
                self._state = ResponderState.CALLING
                outcome = self._calls.begin(action, self._context, self._live_backend)
                return await self._await(outcome) if isinstance(outcome, Pending) else outcome
            case ReadBody(limit=limit):
                self._state = ResponderState.READING
                self._is_expecting = False
                self._body = Body(self._service.bodies, limit)
                return await self._read_body(self._body)
            case SendHead(status=status, headers=headers):
                self._is_expecting = False
                self._release_body()
                self._wire.put_head(status, headers)
            case StartRun(run=run):
                begun = self._context.current.run(self._service.start_run, run)
                self._is_starting = not begun
        return None

    async def _read_body(self, body: Body) -> bytes:
        """Read the request's body.

        :raises BodyTimeout: if the service ends before the body has arrived.
        """
        async with self._backend.scope() as self._receiving:
            try:
                return await self._wire.read_body(self._announced, body)
            finally:
                self._receiving = None
        raise BodyTimeout

    def _release_body(self) -> None:
        if self._body is not None:
            self._body.release()
            self._body = None

    def _note_cancellation(self) -> None:
        self._cancelled = True

    async def _see_out(self, over: Flag) -> None:
        """End the exchange of a request that was cancelled.

        :param over: set when that is done.
        """
        self._cancelled = False
        try:
            if await self._is_given_up():
                self._wire.gone = True
                if not isinstance(self._action, (Finish, Abandon)):
                    self._action = self._exchange.client_gone() or self._action
            await self._drive()
        finally:
            over.set()

    async def _is_given_up(self) -> bool:
        """Whether a cancellation says that nobody waits for the response any more.

        Otherwise the action that was interrupted is performed again.
        """
        return True

    # Listening to the client

    def _begin_to_listen(self) -> None:
        # A client that expects "100 Continue" (RFC 9110 section 10.1.1) is not listened to yet,
        # because the first receive() has the server invite the body.
        if not self._is_expecting and self._wire.begin_to_listen():
            self._listening = self._backend.spawn(self._listen)

    async def _listen(self) -> None:
        await self._wire.listen()
        self._wake()

    async def _rest(self) -> None:
        """Let the agent have one turn, so that its first events leave together with the head."""
        self._is_starting = False
        self._state = ResponderState.WAITING
        await self._backend.checkpoint()

    # Waits that end when the client goes

    async def _wait(self, want: WaitForFrames) -> bool:
        if self._wire.gone:
            raise Gone
        flag = self._woken = self._backend.flag()
        lock, store, cursor = self._calls.lock, want.store, want.cursor
        notify = Weakly(self._notified)
        unwatch = begin_watch(lock, self._context, store.watch, cursor, notify)
        try:
            self._state = ResponderState.WAITING
            left, notified = want.timeout, False
            if self._listening is None:
                # The task that listens is begun only if the wait is long, because its task costs
                # more than the events of a short run.
                at_first = min(left, _LISTEN_SECONDS)
                notified = await self._backend.wait_for(flag, at_first)
                left -= at_first
            if not notified:
                self._begin_to_listen()
                if left > 0 and not self._wire.gone:
                    notified = await self._backend.wait_for(flag, left)
        finally:
            self._woken = None
            end_watch(lock, self._context, unwatch)
        if self._wire.gone:
            raise Gone
        return notified

    async def _await(self, pending: Pending) -> Any:
        """Wait for a call, which is given up if the client goes."""
        flag = self._woken = self._backend.flag()
        self._begin_to_listen()
        pending.then(partial(self._backend.promptly, flag.set))
        try:
            while not self._wire.gone and (left := pending.time_left()):
                await self._backend.wait_for(flag, left)
        finally:
            self._woken = None
            pending.give_up(RuntimeError("the client has gone"))
        if self._wire.gone:
            raise Gone
        return pending.result()

    def _live_backend(self) -> Backend:
        return self._backend

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set()

    def _notified(self) -> None:
        if threading.get_ident() == self._thread:
            self._wake()
        else:
            self._backend.soon(self._wake)
