"""Calling what may be plain, async or blocking, under asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeGuard

from sansio_copilot.actions import Call, StoreCall

INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt)
"""What is not a failure of what was called. Anything else is, a SystemExit of an agent's too:
in a task group it would take every other run with it."""


def begin(action: Call) -> Any:
    """Make the call; returns its outcome, or an awaitable of it.

    :raises Exception: what a plain function raises.
    """
    if isinstance(action, StoreCall) and action.blocking:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, action.function, *action.args)
    return action.function(*action.args)


def is_pending(outcome: object) -> TypeGuard[Awaitable[Any]]:
    """Whether :func:`begin` returned something to await."""
    return hasattr(outcome, "__await__")
