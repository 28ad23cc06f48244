"""Costs that are counted and not timed, so that a busy machine gives the same as an idle one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

PACKAGE = "sansio_copilot"


def steps(work: Callable[[], object]) -> int:
    """How many lines of the core ``work()`` executes, and calls in it of functions written in C.

    A loop counts each time around. What a function in C does inside is not seen, so whoever
    suspects one looks at how much it is given, or returns.
    """
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if PACKAGE not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
        return trace

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        if event == "c_call" and PACKAGE in frame.f_code.co_filename:
            count += 1

    before, profiled = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(profiled)
        sys.settrace(before)
    return count


def grows_linearly(cost: Callable[[int], int], n: int) -> bool:
    """Return whether ``cost`` of N, 2N and 4N grows no faster than these do.

    What it costs to begin does not count. The second half of what is added may cost three times as
    much as the first, where twice were linear and four times quadratic: what is done whenever
    something has doubled falls into one of them or the other.
    """
    first, second, fourth = cost(n), cost(2 * n), cost(4 * n)
    return fourth - second <= 3 * (second - first) + 100
