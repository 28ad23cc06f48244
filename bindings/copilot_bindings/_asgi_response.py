"""One request under ASGI: drives its exchange in the coroutine that the server gave it."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from sansio_copilot import BodyTooLarge, Exchange, RemoteProtocolError, Request, refusals
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

from ._asgi_request import announced_length, request_of
from ._backend import Event, Task
from ._call import begin, is_pending, lock_of
from ._service import Service

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_FLUSH_BYTES = 64 * 1024
_LAST_SECONDS = 2.0


class BrokenOff(Exception):
    """A response could not be completed. Raised so that the server breaks the connection off,
    instead of telling the client that what it got was all."""


class _Gone(Exception):
    """Nobody will receive what is being prepared."""


class Responder:
    """Answers one request. What the service knows as a connection."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self._service = service
        self._backend = service.backend
        self._lock = lock_of(service.runtime.store)
        self._thread = threading.get_ident()
        self._scope = scope
        self._receive = receive
        self._send = send
        self._announced: int | None
        self._exchange: Exchange
        self._action: Action
        self._head: Message | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._listener: Task | None = None
        self._may_listen = False
        """Whether all that the server may still say is that the client has gone."""
        self._event: Event | None = None
        """What is waited for."""
        self._gone = False
        self._disconnected = False
        self._intact = False
        """Whether a cancellation has left the action as it was, to be performed all the same."""
        self._cancelled = False
        self._complete = False
        self._failure: Exception | None = None

    async def answer(self) -> None:
        """Answer the request, or as much of it as the client waits for.

        :raises BrokenOff: if the response has begun and cannot be completed.
        """
        runtime = self._service.runtime
        try:
            request = request_of(self._scope, runtime.base_path)
        except RemoteProtocolError as error:
            await self._refuse(str(error))
            return
        self._service.connections.add(self)
        try:
            await self._answer(request)
        finally:
            if self._listener is not None:
                self._listener.cancel()
            self._service.connection_ended(self)

    # What the service says

    def close_if_idle(self) -> None:
        """Nothing: the server knows which connections are idle."""

    def abort(self) -> None:
        """End at once; the server is told by an exception."""
        self._gone = True
        self._wake()

    # The exchange

    async def _answer(self, request: Request) -> None:
        self._announced = announced_length(request)
        self._exchange = self._service.runtime.exchange(request, time.time())
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
        if isinstance(self._action, Abandon) and not self._disconnected:
            raise self._failure or BrokenOff("the response could not be completed")

    async def _drive(self) -> None:
        """Perform actions until the exchange is over."""
        exchange = self._exchange
        while not isinstance(self._action, (Finish, Abandon)):
            if self._cancelled:
                self._intact = True
                raise self._backend.cancelled
            try:
                outcome = await self._perform(self._action)
            except _Gone:
                action = exchange.client_gone()
                assert action is not None, "only a store call is seen through"
                self._action = action
            except Exception as error:
                self._action = exchange.failed(error)
            else:
                self._action = exchange.done(outcome)
        if isinstance(self._action, Finish):
            try:
                await self._flush(more=False)
            except _Gone:
                self._action = Abandon()
            else:
                self._complete = True

    async def _perform(self, action: Action) -> Any:
        match action:
            case StoreCall():
                outcome = begin(action, self._lock, self._backend)
                if is_pending(outcome):
                    outcome = await self._backend.seen_through(outcome, self._note_cancellation)
                return outcome
            case SendBytes(data=data):
                self._out.append(data)
                self._out_size += len(data)
                if self._out_size >= _FLUSH_BYTES:
                    await self._flush()
            case WaitForFrames():
                await self._flush()
                return await self._wait(action)
            case Call():
                outcome = begin(action, self._lock, self._backend)
                return await self._await(outcome) if is_pending(outcome) else outcome
            case ReadBody(limit=limit):
                return await self._read_body(limit)
            case SendHead(status=status, headers=headers):
                self._may_listen = True
                self._head = _head(status, headers)
            case StartRun(run=run):
                self._service.start_run(run)
        return None

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
                self._gone = True
                if not isinstance(self._action, (Finish, Abandon)):
                    self._action = self._exchange.client_gone() or self._action
            await self._drive()
        finally:
            over.set()

    # What the client says

    async def _read_body(self, limit: int) -> bytes:
        if self._announced is not None and self._announced > limit:
            raise BodyTooLarge
        body = bytearray()
        while (message := await self._hear()) is not None:
            body += message.get("body", b"")
            if len(body) > limit:
                raise BodyTooLarge
            if not message.get("more_body", False):
                self._may_listen = True
                return bytes(body)
        raise _Gone

    def _listen_once(self) -> None:
        # Before the body has been read a client is not listened to: what it says is the body.
        if self._listener is None and self._may_listen:
            self._listener = self._backend.spawn(self._listen)

    async def _listen(self) -> None:
        while await self._hear() is not None:
            pass
        self._wake()

    async def _hear(self) -> Message | None:
        """What the client says next; None if it has gone."""
        try:
            message = await self._receive()
        except Exception as error:
            self._lose(error)
            return None
        if message["type"] == "http.disconnect":
            self._gone = self._disconnected = True
            return None
        return message

    def _lose(self, error: Exception) -> None:
        """The server cannot receive or send any more; if not for the client it is told why."""
        self._gone = True
        if isinstance(error, OSError):
            self._disconnected = True
        else:
            self._failure = error

    # Waiting

    async def _wait(self, want: WaitForFrames) -> bool:
        self._listen_once()
        if self._gone:
            raise _Gone
        event = self._event = self._backend.event()
        with self._lock:
            unwatch = want.store.watch(want.cursor, self._notified)
        try:
            notified = await self._backend.wait_for(event, want.timeout)
        except self._backend.cancelled:
            self._intact = True
            raise
        finally:
            self._event = None
            with self._lock:
                unwatch()
        if self._gone:
            raise _Gone
        return notified

    async def _await(self, awaitable: Awaitable[Any]) -> Any:
        """Await what is given up if the client goes."""
        begun = False
        outcome: Any = None
        error: Exception | None = RuntimeError("what was called was cancelled")
        event = self._event = self._backend.event()

        async def call() -> None:
            nonlocal begun, outcome, error
            begun = True
            try:
                outcome = await awaitable
                error = None
            except (self._backend.cancelled, KeyboardInterrupt):
                raise
            except BaseException as raised:
                error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
            finally:
                event.set()

        self._listen_once()
        task: Task | None = None
        answered = False
        try:
            if not self._gone:
                task = self._backend.spawn(call)
                await event.wait()
                answered = not self._gone
        finally:
            self._event = None
            if not answered and task is not None:
                task.cancel()
            if not begun and (close := getattr(awaitable, "close", None)) is not None:
                # Python warns of a coroutine that was never awaited.
                close()
        if not answered:
            raise _Gone
        if error is not None:
            raise error
        return outcome

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()

    def _notified(self) -> None:
        if threading.get_ident() == self._thread:
            self._wake()
        else:
            self._backend.soon(self._wake)

    # Bytes

    async def _flush(self, *, more: bool = True) -> None:
        """Send what is ready."""
        messages = [] if self._head is None else [self._head]
        if self._head is not None or self._out or not more:
            # With a head alone a body too, because a server may keep the head for it.
            body = b"".join(self._out)
            messages.append({"type": "http.response.body", "body": body, "more_body": more})
        self._head, self._out_size = None, 0
        self._out.clear()
        try:
            for message in messages:
                await self._send(message)
        except Exception as error:
            self._lose(error)
            raise _Gone from error

    async def _refuse(self, message: str) -> None:
        response = refusals.not_http(message)
        self._head = _head(response.status, response.headers.raw)
        self._out.append(response.body)
        await self._flush(more=False)


def _head(status: int, fields: tuple[tuple[str, str], ...]) -> Message:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
    return {"type": "http.response.start", "status": status, "headers": headers}
