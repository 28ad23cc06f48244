"""A toy I/O library, as simple as one can be that is of use: it knows nothing of the runtime.

It serves HTTP with a thread for each connection, and runs an event loop beside them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import socket
import socketserver
import threading

import h11


class Disconnected(Exception):
    """The client has gone, or was never one of HTTP."""


class Connection(socketserver.BaseRequestHandler):
    """A connection, and the request on it that is being answered."""

    def handle(self):
        self.server.connections.add(self)
        self.http = h11.Connection(h11.SERVER)
        with contextlib.suppress(Disconnected, h11.LocalProtocolError):
            while isinstance(event := self._receive(), h11.Request):
                self.method, self.target = event.method.decode(), event.target.decode()
                self.headers = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
                self.server.answer(self)
                while self.http.their_state is h11.SEND_BODY:
                    self._receive()
                self.http.start_next_cycle()
        self.server.connections.discard(self)

    def read_body(self):
        """The pieces of the request's body."""
        if self.http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))
        while isinstance(event := self._receive(), h11.Data):
            yield event.data

    def send_head(self, status, headers):
        self._send(h11.Response(status_code=status, headers=headers))

    def send_body(self, data):
        self._send(h11.Data(data=data))

    def end(self):
        self._send(h11.EndOfMessage())

    def stop_listening(self):
        """Take no more requests."""
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RD)

    def _receive(self):
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                self.http.receive_data(self.request.recv(65536))
        except (OSError, h11.RemoteProtocolError) as error:
            raise Disconnected from error
        return event

    def _send(self, event):
        data = self.http.send(event)
        try:
            self.request.sendall(data)
        except OSError as error:
            raise Disconnected from error


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host, port, answer):
        super().__init__((host, port), Connection)
        self.answer, self.connections = answer, set()


async def serve(host, port, answer, close):
    """Call ``answer`` in a thread for each request, and ``await close()`` at a signal."""
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    server = Server(host, port, answer)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    await signalled.wait()
    await in_thread(server.shutdown)
    await close()
    for connection in list(server.connections):
        connection.stop_listening()
    await in_thread(server.server_close)


async def in_thread(function, *args):
    """In a thread that does not keep the process from ending, should the function never return."""
    future = concurrent.futures.Future()

    def call():
        try:
            outcome = function(*args)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(outcome)

    future.set_running_or_notify_cancel()
    threading.Thread(target=call, daemon=True).start()
    return await asyncio.wrap_future(future)


async def pulled(iterable):
    """A plain iterable as an async one, which may block: it is pulled in threads."""
    iterator, end = iter(iterable), object()
    while (item := await in_thread(next, iterator, end)) is not end:
        yield item
