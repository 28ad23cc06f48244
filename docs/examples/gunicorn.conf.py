"""Settings of gunicorn for streams and a graceful end."""

import signal

bind = "127.0.0.1:4000"
# A stream keeps its thread for as long as it lasts.
worker_class = "gthread"
threads = 100
# Threads of a conversation live in the memory of one process, unless you bring another store.
workers = 1
# The time is longer than the grace period of the application.
graceful_timeout = 30


def post_worker_init(worker):
    """Have the streams end well formed when the worker is told to end."""
    from wsgi_app import app

    app.close_on_signals(signal.SIGTERM, signal.SIGQUIT)
