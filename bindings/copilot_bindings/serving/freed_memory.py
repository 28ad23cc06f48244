"""Freed memory, which the C library would keep."""

from __future__ import annotations

import contextlib


def give_back_to_the_system() -> None:
    """Have the C library give freed memory back to the system.

    Without this glibc keeps twice the longest body for each thread (mallopt(3), M_TRIM_THRESHOLD).
    """
    # ctypes is imported at the first long body, because few servers ever have one.
    import ctypes

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
