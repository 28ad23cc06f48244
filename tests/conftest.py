"""Settings that all tests share."""

from __future__ import annotations

import gc
import os
import signal

# Tests end servers by these signals, and what nohup and the background jobs of a shell ignore, a
# child ignores as well. It does not inherit what handles a signal, and be that nothing. The workers
# of pytest-xdist, which are children, are told to outlive a hangup as pytest does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    os.environ["TESTS_OUTLIVE_A_HANGUP"] = "1"
if "TESTS_OUTLIVE_A_HANGUP" in os.environ:
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_finish() -> None:
    """Have the collector pass over what is there before the first test.

    Hundreds of tests ask it for a collection, and that is a third of a second for each of them.
    """
    gc.collect()
    gc.freeze()
