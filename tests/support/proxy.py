"""An address that leads to a server, or to another one later, and may lose what that answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Proxy:
    """Passes on what it is sent, each connection in two threads.

    :param target: the port to which new connections lead.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._loses_answers = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def losing_answers(self) -> Iterator[None]:
        """Meanwhile an answer never arrives, and breaks off its connection in its place."""
        self._loses_answers = True
        try:
            yield
        finally:
            self._loses_answers = False

    def cut(self) -> None:
        """Break off all connections."""
        for pair in list(self._pairs):
            self._end(pair)

    def close(self) -> None:
        """Take no connection any more, and break off those that there are."""
        # A thread that waits for a connection does not notice that its socket is closed.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                pair = (client, server)
                self._pairs.add(pair)
                for number in (0, 1):
                    threading.Thread(target=self._pass_on, args=(pair, number), daemon=True).start()

    def _pass_on(self, pair: tuple[socket.socket, socket.socket], number: int) -> None:
        source, sink = pair[number], pair[1 - number]
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if number == 1 and self._loses_answers:
                    break
                sink.sendall(data)
        self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
