"""Signals at the worst of moments: the main thread holds a lock, or a server is about to begin."""

from __future__ import annotations

import signal
import textwrap

import pytest
from support.scripts import run_script

BINDINGS = ["asgi", "asyncio", "sockets", "trio", "wsgi"]
IMPORTS = ["uvloop", *(f"copilot_bindings.{binding}" for binding in BINDINGS)]

# This server does what gunicorn does, because the handler of a signal can run in the middle of
# submit() there: the main thread hands requests to a pool, and the handler shuts the pool down.
SERVER = """
import asyncio, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

class Pool(ThreadPoolExecutor):
    def _adjust_thread_count(self):
        # submit() calls this method, and holds the lock that shutdown() takes.
        super()._adjust_thread_count()
        if not handled:
            signal.raise_signal(signal.SIGTERM)

def handle(number, frame):
    pool.shutdown(wait=False)
    handled.append(number)
    ended.set()

handled, ended, pool = [], threading.Event(), Pool(1)
signal.signal(signal.SIGTERM, handle)
runtime = CopilotRuntime({})
"""
WSGI = "app = CopilotWSGI(runtime); app.close_on_signals(signal.SIGTERM)"
ASGI = """
async def receive():
    return {"type": "http.request"}

async def send(message):
    pass

# The application watches the signals from its first request on.
app = CopilotASGI(runtime)
url = {"path": "/api/copilotkit/info", "query_string": b""}
asyncio.run(app({"type": "http", "method": "GET", "headers": []} | url, receive, send))
"""


def run(code: str, status: int = 0) -> None:
    """Run it in a process of its own, which has to end by itself and without complaint."""
    ended = run_script(textwrap.dedent(code), options=["-W", "error"], imports=IMPORTS)
    assert ended == (status, "")


@pytest.mark.parametrize("app", [WSGI, ASGI])
def test_a_pool_that_begins_a_thread_is_not_shut_down_meanwhile(app: str) -> None:
    run(
        f"""{SERVER}
{app}
future = pool.submit(ended.wait)
assert future.result(30) and handled == [signal.SIGTERM]
"""
    )


@pytest.mark.parametrize("app", [WSGI, ASGI])
def test_a_main_thread_that_only_waits_is_interrupted_at_once(app: str) -> None:
    run(
        f"""{SERVER}
{app}
thread = threading.Thread(target=ended.wait)
thread.start()
sender = threading.Timer(0.01, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM))
sender.start()
thread.join()
assert handled == [signal.SIGTERM]
"""
    )


# The signal comes to this server when it listens and is not ready yet, because a supervisor may
# send one at any moment.
BEGINS = """
import asyncio, functools, signal, socket, trio, uvloop
from sansio_copilot import CopilotRuntime

class Listener(socket.socket):
    def listen(self, backlog):
        super().listen(backlog)
        at_listen()

def at_listen():
    signal.raise_signal(number)

def ready(server):
    begun.append(server.port)

def handlers():
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

socket.socket = Listener
runtime, begun, number, before = CopilotRuntime({}), [], signal.SIGTERM, handlers()
"""
SERVE = {
    "asyncio": """
from copilot_bindings.asyncio import serve
asyncio.run(serve(runtime, port=0, ready=ready))
""",
    "uvloop": """
from copilot_bindings.asyncio import serve
uvloop.run(serve(runtime, port=0, ready=ready))
""",
    "trio": """
from copilot_bindings.trio import serve
trio.run(functools.partial(serve, runtime, port=0, ready=ready))
""",
    "sockets": """
from copilot_bindings.sockets import serve
serve(runtime, port=0, ready=ready)
""",
}


@pytest.mark.parametrize("binding", SERVE)
class TestTheBeginning:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_server_that_listens_ends_gracefully(
        self, binding: str, number: signal.Signals
    ) -> None:
        run(
            f"""{BEGINS}
number = {int(number)}
{SERVE[binding]}
assert len(begun) == 1
assert handlers() == before
"""
        )

    def test_a_signal_ends_a_server_that_is_ready(self, binding: str) -> None:
        run(
            f"""{BEGINS}
def at_listen():
    pass

def ready(server):
    signal.raise_signal(number)
    begun.append(server.port)

{SERVE[binding]}
assert len(begun) == 1
assert handlers() == before
"""
        )

    def test_a_second_signal_kills(self, binding: str) -> None:
        run(
            f"""{BEGINS}
def at_listen():
    signal.raise_signal(number)
    signal.raise_signal(number)
{SERVE[binding]}
""",
            -signal.SIGTERM,
        )

    def test_a_signal_is_not_lost_with_a_server_that_cannot_begin(self, binding: str) -> None:
        run(
            f"""{BEGINS}
def at_listen():
    signal.raise_signal(number)
    raise OSError(5, "for a reason of its own")
{SERVE[binding]}
""",
            -signal.SIGTERM,
        )
