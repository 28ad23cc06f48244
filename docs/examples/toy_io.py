"""A toy I/O library: HTTP on asyncio's streams, as simple as it can be. It knows no runtime."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import queue
import signal
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from concurrent.futures import Future
from typing import Any

import h11

from sansio_copilot.calls import is_deferred


class Disconnected(Exception):
    """The client has gone."""


class Connection:
    """A connection, and the request on it that is being answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER)
        self._is_last = False
        self.request: tuple[str, str, list[tuple[str, str]]] = ("", "", [])
        """Method, target and headers."""

    def close_when_idle(self, task: asyncio.Task[None]) -> None:
        """Answer no further request. ``task``, which serves this connection, may wait for one."""
        self._is_last = True
        if self._http.our_state is h11.IDLE:
            task.cancel()

    async def serve(self, answer: Callable[[Connection], Awaitable[None]]) -> None:
        with contextlib.suppress(Disconnected, h11.ProtocolError, asyncio.CancelledError):
            while isinstance(event := await self._receive(), h11.Request):
                headers = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
                self.request = event.method.decode(), event.target.decode(), headers
                await answer(self)
                while self._http.their_state is h11.SEND_BODY:
                    await self._receive()
                if self._is_last:
                    break
                self._http.start_next_cycle()
        self._writer.close()

    async def receive(self) -> bytes:
        """The next piece of the request's body; b"" at its end."""
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        if self._http.their_state is not h11.SEND_BODY:
            return b""
        event = await self._receive()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def read_body(self, enough: int) -> bytes:
        """The request's body, or as soon as that is ``enough`` its beginning."""
        body = bytearray()
        while len(body) < enough and (piece := await self.receive()):
            body += piece
        return bytes(body)

    async def send_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        fields = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        await self._send(h11.Response(status_code=status, headers=fields))

    async def send_body(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def end(self, complete: bool) -> None:
        if not complete:
            raise Disconnected
        await self._send(h11.EndOfMessage())

    async def _receive(self) -> h11.Event | type[h11.PAUSED]:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(65536))
        except (OSError, h11.RemoteProtocolError) as error:
            raise Disconnected from error
        return event

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        try:
            await self._writer.drain()
        except OSError as error:
            raise Disconnected from error


async def serve(
    host: str,
    port: int,
    answer: Callable[[Connection], Awaitable[None]],
    close: Callable[[], Awaitable[None]],
) -> None:
    """Await ``answer`` for each request; at SIGTERM or SIGINT accept no more, and ``close()``."""
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()
    tasks: dict[asyncio.Task[None], Connection] = {}

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        tasks[task] = connection
        await connection.serve(answer)
        del tasks[task]

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    server = await asyncio.start_server(accepted, host, port, backlog=128)
    await signalled.wait()
    server.close()
    await close()
    for task, connection in tasks.items():
        connection.close_when_idle(task)
    await asyncio.gather(*tasks)


class Mailbox:
    """Takes items from whatever thread, and hands them out in the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, item: Any) -> None:
        self._loop.call_soon_threadsafe(self._items.put_nowait, item)

    async def get(self, seconds: float | None) -> Any:
        """The next item; None if there is none within so many seconds."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._items.get(), seconds)


class Thread:
    """Calls what may block; a process can end all the same while it does."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # The call sees the context variables of its caller.
        work = contextvars.copy_context().run
        threading.Thread(target=work, args=(self._work,), daemon=True).start()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(self.call_soon(function, *args))

    def call_soon(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._calls.put((future, function, args))
        return future

    def close(self) -> None:
        """End, once what it was asked to call has returned."""
        self._calls.put(None)

    def _work(self) -> None:
        for future, function, args in iter(self._calls.get, None):
            try:
                outcome = function(*args)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(outcome)


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call what may block."""
    thread = Thread()
    try:
        return await thread.call(function, *args)
    finally:
        thread.close()


async def settled(outcome: Any) -> Any:
    """``outcome``, or what awaiting it gives; a store with threads of its own returns a future."""
    if is_deferred(outcome):
        return await in_thread(outcome.result)
    return await outcome if inspect.isawaitable(outcome) else outcome


async def pulled(iterable: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    """The items of an iterable, which if it is plain may block between them."""
    if isinstance(iterable, AsyncIterable):
        try:
            async for item in iterable:
                yield item
        finally:
            if isinstance(iterable, AsyncGenerator):
                await iterable.aclose()
        return
    iterator, end, thread = iter(iterable), object(), Thread()
    try:
        while (item := await thread.call(next, iterator, end)) is not end:
            yield item
    finally:
        if hasattr(iterator, "close"):
            thread.call_soon(iterator.close)
        thread.close()
