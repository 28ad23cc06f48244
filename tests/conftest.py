"""Settings that all tests share."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
from collections.abc import Generator

import pytest

# SIGINT is no longer ignored, because tests end servers by it, and a server, which is a child of
# this process, inherits an ignored signal. A shell lets its background jobs ignore SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# SIGHUP gets a handler that does nothing in place of being ignored, as under nohup, because a child
# does not inherit a handler: the tests outlive a hangup, and servers still end by it. The workers
# of pytest-xdist are children too, so that the environment tells them to do the same.
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
