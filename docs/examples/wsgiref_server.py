"""The standard library's server, for development."""

from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from wsgi_app import app


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    app.close_on_signals()
    with make_server("127.0.0.1", 4000, app, Server) as server:
        server.serve_forever()
