"""Ctrl-C while the command imports its packages.

Python raises KeyboardInterrupt wherever it is. In an import that may be anywhere in the code of
others: it would end in a traceback, or in another exception where somebody catches it (pydantic
raises a SchemaError of its own in place of it).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Final

INTERRUPTED: Final = 130
"""The exit status: 128 and the number of SIGINT, as shells have it."""


@contextlib.contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """End the process at once, in one line, if the user interrupts what is in the block.

    An interrupt that somebody else handles or ignores, as nohup and shells may do, is left to them.
    """
    former = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if former is not signal.default_int_handler or not is_main:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _end(number: int, frame: object) -> None:
    os.write(2, b"sansio-copilot: interrupted\n")
    # The process ends without any cleaning up, because nothing has been opened yet.
    os._exit(INTERRUPTED)
