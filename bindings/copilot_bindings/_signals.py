"""Signal handlers that call others', at a moment when these cannot wait for what they interrupt.

Python calls a handler in the main thread, between two steps of whatever runs there. That goes on
when the handler has returned, so a handler that waits for a lock of it waits for ever.
"""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final

# A pool holds its lock while it waits for a new thread to begin, so that under load a signal often
# comes then; and a server's handler shuts the pool down, which takes that lock (gunicorn 27).
_HOLDING: Final = {ThreadPoolExecutor.submit.__code__, ThreadPoolExecutor.shutdown.__code__}
# It may take long, and shutdown() holds no lock while it does.
_WAITING: Final = threading.Thread.join.__code__
_PAUSE_SECONDS: Final = 0.005


def ending() -> tuple[signal.Signals, ...]:
    """The signals that end a server: SIGHUP too, unless the process was started by nohup."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    return tuple(numbers)


def comes_again(number: int, frame: FrameType | None) -> bool:
    """Whether a signal is to be handled later: the code that it interrupts holds a pool's lock.

    Then the signal comes again, after a moment.

    :param number: the signal's.
    :param frame: what it has interrupted.
    """
    while frame is not None and frame.f_code is not _WAITING:
        if frame.f_code in _HOLDING:
            threading.Thread(target=_send_again, args=(number,), daemon=True).start()
            return True
        frame = frame.f_back
    return False


def send_to_main_thread(number: int) -> None:
    """Send a signal to the main thread, which handles it even while it waits for the system."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)


def _send_again(number: int) -> None:
    time.sleep(_PAUSE_SECONDS)
    send_to_main_thread(number)
