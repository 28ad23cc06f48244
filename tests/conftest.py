"""Settings that all tests share."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
from collections.abc import Generator

import pytest

# Tests end servers by these signals, and what nohup and the background jobs of a shell ignore, a
# child ignores as well. It does not inherit what handles a signal, and be that nothing. The workers
# of pytest-xdist, which are children, are told to outlive a hangup as pytest does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    os.environ["TESTS_OUTLIVE_A_HANGUP"] = "1"
if "TESTS_OUTLIVE_A_HANGUP" in os.environ:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the workers of pytest-xdist collect one after the other.

    In a fresh clone the first of them compiles every module, and the others load what it has
    written. All at once, each would compile all of them.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with open(__file__) as lock:
        # The lock is given up when the file is closed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_finish() -> None:
    """Have the collector pass over what is there before the first test.

    Hundreds of tests ask it for a collection, and that is a third of a second for each of them.
    """
    gc.collect()
    gc.freeze()
