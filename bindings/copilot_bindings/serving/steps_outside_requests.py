"""Performs steps of the core that belong to no request: calls, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from sansio_copilot.actions import Call

from .backend import Backend
from .calls import Calls
from .context import CallContext
from .pending_call import Pending

T = TypeVar("T")


async def make(call: Call, calls: Calls, backend: Backend) -> Any:
    """Make one call in a context of its own; returns its outcome.

    :raises Exception: the error of the call.
    """
    outcome = calls.begin(call, CallContext.of_now(), lambda: backend)
    return await outcome.wait(backend) if isinstance(outcome, Pending) else outcome


async def perform(
    steps: Generator[Call, Any, T],
    calls: Calls,
    context: CallContext,
    backend: Backend,
    on_cancel: Callable[[], object] | None = None,
) -> T:
    """Make each call of ``steps``, and send them its outcome; returns their result.

    :param on_cancel: if given, each call is seen through, and this is called at a cancellation.
    :raises Exception: the error of the steps.
    """
    try:
        action = next(steps)
        while True:
            try:
                outcome = calls.begin(action, context, lambda: backend)
                if isinstance(outcome, Pending):
                    if on_cancel is None:
                        outcome = await outcome.wait(backend)
                    else:
                        outcome = await outcome.see_through(backend, on_cancel)
            except Exception as error:
                action = steps.throw(error)
            else:
                action = steps.send(outcome)
    except StopIteration as done:
        result: T = done.value
        return result
