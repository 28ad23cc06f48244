"""Signals that come while the main thread holds a lock, as under load they do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# A server as gunicorn is: its main thread hands requests to a pool, which its handler shuts down.
SERVER = """
import signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

class Pool(ThreadPoolExecutor):
    def _adjust_thread_count(self):
        # Called by submit(), which holds the lock that shutdown() takes.
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
ASGI = "app = CopilotASGI(runtime); app._watch()"


def run(code: str) -> None:
    """Run it in a process of its own, which has to end by itself and without complaint."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


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
