"""Signals that end a server, and the moments at which they come.

Python calls a handler in the main thread, between two steps of whatever runs there. That goes on
when the handler has returned, so a handler that waits for a lock of it waits for ever. And a signal
may come as soon as there is a socket that listens, since that is how others learn that a server has
begun; without a handler it would kill the process.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final, Self

# A pool holds its lock while it waits for a new thread to begin, so that under load a signal often
# comes then; and a server's handler shuts the pool down, which takes that lock (gunicorn 27).
_HOLDING: Final = {ThreadPoolExecutor.submit.__code__, ThreadPoolExecutor.shutdown.__code__}
# It may take long, and shutdown() holds no lock while it does.
_WAITING: Final = threading.Thread.join.__code__
_PAUSE_SECONDS: Final = 0.005


class EndingSignals:
    """Handles the signals that end a server while this lasts, which begins before it listens.

    The first one closes the server, at once or as soon as there is one, and puts back the handlers
    that were there before, so that a second one does what it would without this. In another thread
    than the main one, which alone may have handlers, signals are left alone.
    """

    def __init__(self) -> None:
        self._former: dict[int, Any] = {}
        self._came: int | None = None
        self._close: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _ending():
                # None is a handler of C's, which Python cannot put back.
                self._former[number] = signal.getsignal(number) or signal.SIG_DFL
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._put_back()
        if self._came is not None and self._close is None:
            # There was no server to be closed, and whoever wanted its end meant the process.
            signal.raise_signal(self._came)

    @property
    def handled(self) -> tuple[int, ...]:
        """The signals that are handled here now: none once one of them has come."""
        return tuple(self._former)

    def then(self, close: Callable[[], object]) -> None:
        """There is a server: have ``close`` called at a signal, be it one that has come already.

        :param close: may be called between any two steps of the main thread.
        """
        self._close = close
        if self._came is not None:
            close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._put_back()
        self._came = number
        if self._close is not None:
            self._close()

    def _put_back(self) -> None:
        former, self._former = self._former, {}
        for number, handler in former.items():
            signal.signal(number, handler)


def _ending() -> list[int]:
    """The numbers of the signals; that of SIGHUP too, unless the process was started by nohup."""
    numbers: list[int] = [signal.SIGTERM, signal.SIGINT]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers


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
