"""The events of an agent as an async iterator, whatever the agent answers with."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from .agent_thread import ThreadedIterator
from .backend import Backend


async def open_events(call: Callable[[], Any], backend: Backend) -> AsyncIterator[Any]:
    """Call an agent; returns an async iterator of its events, whatever it answers with.

    :param backend: the backend of the running loop.
    """
    events = call()
    if inspect.isawaitable(events):
        events = await events
    plain = not hasattr(events, "__aiter__")
    return ThreadedIterator(iter(events), backend) if plain else aiter(events)
