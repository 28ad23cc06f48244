"""One request under ASGI: drives its exchange in the coroutine that the server gave it."""

from __future__ import annotations

import contextlib
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
from sansio_copilot.http import refusals

from ..serving.backend import Backend, Event, Scope, Task
from ..serving.bodies import Body
from ..serving.calls import Pending, begin_watch, end_watch, weakly
from ..serving.context import CallContext
from ..serving.service import Service
from . import wire
from .request import announced_length, request_of
from .wire import Gone, Receive, Send, Wire

_LAST_SECONDS = 2.0


class BrokenOff(Exception):
    """A response could not be completed. Raised so that the server breaks the connection off,
    instead of telling the client that what it got was all."""


class Responder:
    """Answers one request. What the service knows as a connection."""

    def __init__(
        self,
        service: Service,
        runtime: CopilotRuntime,
        scope: wire.Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._service = service
        self._runtime = runtime
        self._backend = service.backend
        self._calls = service.calls
        # A copy of the current one, since middleware may have set something for this request.
        self._context = CallContext()
        self._thread = threading.get_ident()
        self._scope = scope
        self._wire = Wire(receive, send, self._backend)
        self._announced: int | None
        self._is_expecting = False
        """Whether the client waits for "100 Continue"."""
        self._body: Body | None = None
        self._receiving: Scope | None = None
        """Around the wait for the body."""
        self._exchange: Exchange
        self._action: Action
        self._listener: Task | None = None
        self._event: Event | None = None
        """What is waited for."""
        self._intact = False
        """Whether a cancellation has left the action as it was, to be performed all the same."""
        self._cancelled = False
        self._complete = False

    async def answer(self) -> None:
        """Answer the request, or as much of it as the client waits for.

        :raises BrokenOff: if the response has begun and cannot be completed.
        """
        try:
            request = request_of(self._scope, self._runtime.base_path)
        except RemoteProtocolError as error:
            await self._send_whole(refusals.not_http(str(error)))
            if self._wire.failure is not None:
                raise self._wire.failure from None
            return
        self._service.connections.add(self)
        try:
            await self._answer(request)
        except GeneratorExit:
            # The loop was dropped with whatever there is to be told.
            raise
        except BaseException:
            self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            # The task keeps its cancellation, whose traceback has a frame with this.
            self._listener = None
        self._release_body()
        self._service.connection_ended(self)

    # What the service says

    def close_if_idle(self) -> None:
        """Nothing: the server knows which connections are idle."""

    def abort(self) -> None:
        """End at once; the server is told by an exception, unless a refusal can be sent."""
        if (receiving := self._receiving) is not None:
            self._receiving = None
            receiving.cancel()
        else:
            self._wire.gone = True
            self._wake()

    # The exchange

    async def _answer(self, request: Request) -> None:
        self._announced = announced_length(request)
        self._is_expecting = "expect" in request.headers
        self._exchange = self._runtime.exchange(request, time.time())
        self._action = self._exchange.start()
        try:
            await self._drive()
        except self._backend.cancelled:
            over = self._backend.event()
            task = self._backend.spawn(self._see_out, over)
            timer = self._backend.later(_LAST_SECONDS, task.cancel)
            await self._backend.seen_through(over.wait())
            timer.cancel()
            # Of a response that is complete nothing is left to be cancelled.
            if not self._complete:
                raise
        if isinstance(self._action, Abandon):
            if not self._wire.disconnected:
                raise self._wire.failure or BrokenOff("the response could not be completed")
            if not self._wire.has_head:
                # Middleware takes an application that answers nothing for one that has failed, and
                # does not ask whether anybody is left to be answered.
                await self._send_whole(refusals.CLIENT_GONE)

    async def _drive(self) -> None:
        """Perform actions until the exchange is over."""
        exchange = self._exchange
        while not isinstance(self._action, (Finish, Abandon)):
            if self._cancelled:
                self._intact = True
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
                # Nothing that was read is kept while the response waits.
                del outcome
        if isinstance(self._action, Finish):
            try:
                await self._wire.flush(more=False)
            except Gone:
                self._action = Abandon()
            else:
                self._complete = True

    async def _perform(self, action: Action) -> Any:
        match action:
            case StoreCall():
                outcome = self._calls.begin(action, self._context, self._home)
                if isinstance(outcome, Pending):
                    outcome = await outcome.see_through(self._backend, self._note_cancellation)
                return outcome
            case SendBytes(data=data):
                await self._wire.put(data)
            case WaitForFrames():
                await self._wire.flush()
                return await self._wait(action)
            case Call():
                outcome = self._calls.begin(action, self._context, self._home)
                return await self._await(outcome) if isinstance(outcome, Pending) else outcome
            case ReadBody(limit=limit):
                self._is_expecting = False
                self._body = self._service.bodies.begin(limit)
                return await self._read_body(self._body)
            case SendHead(status=status, headers=headers):
                self._is_expecting = False
                self._release_body()
                self._wire.put_head(status, headers)
            case StartRun(run=run):
                self._context.current.run(self._service.start_run, run)
        return None

    async def _read_body(self, body: Body) -> bytes:
        """The request's body.

        :raises BodyTimeout: if it has not arrived by the end of the server.
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

    async def _see_out(self, over: Event) -> None:
        """The request was cancelled: end what it began, and at the server's end its stream."""
        self._cancelled = False
        try:
            if not self._service.closing:
                # uvicorn cancels first, and then says that it is the end.
                await self._backend.checkpoint()
            if self._service.closing:
                # uvicorn waits for nobody whom it cancels: all is over in two turns of the loop.
                await self._service.end_runs()
                self._service.begin_close(0)
            if not (self._service.closing and self._intact):
                self._wire.gone = True
                if not isinstance(self._action, (Finish, Abandon)):
                    self._action = self._exchange.client_gone() or self._action
            await self._drive()
        finally:
            over.set()

    # What the client says

    def _begin_to_listen(self) -> None:
        # Who waits to be asked for the body (RFC 9110 section 10.1.1) would be by that.
        if not self._is_expecting and self._wire.begin_to_listen():
            self._listener = self._backend.spawn(self._listen)

    async def _listen(self) -> None:
        await self._wire.listen()
        self._wake()

    # Waiting

    async def _wait(self, want: WaitForFrames) -> bool:
        self._begin_to_listen()
        if self._wire.gone:
            raise Gone
        event = self._event = self._backend.event()
        lock, store, cursor = self._calls.lock, want.store, want.cursor
        notify = weakly(self._notified)
        unwatch = self._context.current.run(begin_watch, lock, store, "watch", cursor, notify)
        try:
            notified = await self._backend.wait_for(event, want.timeout)
        except self._backend.cancelled:
            self._intact = True
            raise
        finally:
            self._event = None
            self._context.current.run(end_watch, lock, unwatch)
        if self._wire.gone:
            raise Gone
        return notified

    async def _await(self, pending: Pending) -> Any:
        """Wait for what is given up if the client goes."""
        event = self._event = self._backend.event()
        self._begin_to_listen()
        pending.then(partial(self._backend.promptly, event.set))
        try:
            while not self._wire.gone and (left := pending.time_left()):
                await self._backend.wait_for(event, left)
        finally:
            self._event = None
            pending.give_up(RuntimeError("the client has gone"))
        if self._wire.gone:
            raise Gone
        return pending.result()

    def _home(self) -> Backend:
        return self._backend

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()

    def _notified(self) -> None:
        if threading.get_ident() == self._thread:
            self._wake()
        else:
            self._backend.soon(self._wake)

    async def _send_whole(self, response: Response) -> None:
        """Send a response that is no exchange's, if there is anybody to take it."""
        with contextlib.suppress(Gone):
            self._wire.put_head(response.status, response.headers.raw)
            await self._wire.put(response.body)
            await self._wire.flush(more=False)
