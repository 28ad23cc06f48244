"""A server that owns its sockets already gives some of them to a runtime."""

import signal
import socket
import sys
import threading

from copilot_bindings.sockets import open_server
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
def hello(input, context):
    yield from ("Hello", " from", " a socket of yours")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    with (
        open_server(CopilotRuntime({"default": hello})) as server,
        socket.create_server(("127.0.0.1", 4000)) as listener,
    ):
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=server.serve_socket, args=(sock,)).start()
