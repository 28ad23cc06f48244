"""The WSGI binding under the standard library's server, a thread for each request."""

from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

CANNOT = {
    "keep-alive": "it speaks HTTP/1.0",
    "http/1.1": "it speaks HTTP/1.0",
    "chunked-body": "it speaks HTTP/1.0",
    "escaped-slash": "it hides the target of the request",
    "notices-leaving": "nothing tells a WSGI application that its client has gone",
    "a-thousand-streams": "it has a thread for each",
}


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    app = CopilotWSGI(runtime, grace_seconds=0.2)
    app.close_on_signals()
    with make_server(host, port, app, Server) as server:
        server.serve_forever()
