"""Signals that end a server, and the moments at which they come.

Python calls a handler in the main thread, between two steps of the code that runs there. That code
goes on only when the handler has returned, so a handler that waits for one of its locks waits for
ever.

A signal may come as soon as a socket listens, because other programs then see that the server has
begun. So the handlers are set before that, because a signal without a handler would kill the
process.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final, Self

# These functions hold the pool's lock. Under load a signal often comes while submit() waits for a
# new thread to begin, and a server's handler shuts the pool down, which takes that lock (gunicorn
# 27).
_HOLDING: Final = {ThreadPoolExecutor.submit.__code__, ThreadPoolExecutor.shutdown.__code__}
# A join may take long, and shutdown() calls it without holding its lock.
_WAITING: Final = threading.Thread.join.__code__
_PAUSE_SECONDS: Final = 0.005


class EndingSignals:
    """A context manager that handles SIGTERM, SIGINT and SIGHUP; entered before the server listens.

    The first signal closes the server, at once or as soon as :meth:`then` was called. It also puts
    back the former handlers, so that a second signal does what it would do without this. Outside
    the main thread nothing is done, because only the main thread may set handlers.
    """

    def __init__(self) -> None:
        self._former: dict[int, Any] = {}
        self._came: int | None = None
        self._close: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _ending():
                # getsignal() returns None for a handler of C code, which Python cannot put back, so
                # the default takes its place.
                self._former[number] = signal.getsignal(number) or signal.SIG_DFL
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._put_back()
        if self._came is not None and self._close is None:
            # The signal is raised again, because there was no server that it could have closed.
            signal.raise_signal(self._came)

    @property
    def handled(self) -> tuple[int, ...]:
        """The numbers of the signals that are handled here now; empty once a signal has come."""
        return tuple(self._former)

    def then(self, close: Callable[[], object]) -> None:
        """Have ``close`` called at a signal; at once if a signal has come already.

        :param close: closes the server. It may be called between any two steps of the main thread.
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
    """The numbers of the signals; SIGHUP is left out if it is ignored, as nohup has it."""
    numbers: list[int] = [signal.SIGTERM, signal.SIGINT]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers


def comes_again(number: int, frame: FrameType | None) -> bool:
    """Whether a signal has to be handled later, because it has interrupted code with a pool's lock.

    If so, the signal is sent again after 5 milliseconds.

    :param number: the number of the signal.
    :param frame: the frame that it has interrupted.
    """
    while frame is not None and frame.f_code is not _WAITING:
        if frame.f_code in _HOLDING:
            threading.Thread(target=_send_again, args=(number,), daemon=True).start()
            return True
        frame = frame.f_back
    return False


def send_to_main_thread(number: int) -> None:
    """Send a signal to the main thread, which wakes for it even in a call of the system."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)


def _send_again(number: int) -> None:
    time.sleep(_PAUSE_SECONDS)
    send_to_main_thread(number)
