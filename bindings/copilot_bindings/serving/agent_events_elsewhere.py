"""The events of an agent that lives on another loop than its run, as an async iterator.

The agent has a task on its own loop, in a copy of the context of its run. Two things cross between
the operating system threads: events go to the run, and the first of several wakes it; permissions
for more events go to the agent, for half of the room at a time. So an agent is never further ahead
of its run than the room allows, and many events of a fast agent cost two wake-ups.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

from .agent_events import open_events
from .asyncio_backend import AsyncioBackend
from .asyncio_thread import for_asyncio
from .backend import Backend
from .events_of_another_thread import EventsOfAnotherThread

_ROOM = 16
"""The number of events that an agent may be ahead of its run."""


class EventsElsewhere(EventsOfAnotherThread):
    """The events of an agent on the loop of ``there``, for a run on the loop of ``here``.

    :param call: calls the agent.
    """

    def __init__(self, call: Callable[[], Any], there: AsyncioBackend, here: Backend) -> None:
        super().__init__(here)
        self._call = call
        self._there = there
        self._done = here.flag()
        self._taken = 0
        self._closed = False
        # The agent's loop alone uses the next three attributes, so that they need no lock.
        self._room = _ROOM
        self._has_room: asyncio.Event
        self._left = False
        self._task: asyncio.Task[None] | None = None
        context = for_asyncio(contextvars.copy_context())
        if not there.soon(context.run, self._begin):
            raise RuntimeError("the asyncio loop of agents has ended")

    def _took(self) -> None:
        self._taken += 1
        if self._taken * 2 >= _ROOM:
            self._there.soon(self._give_room, self._taken)
            self._taken = 0

    def cancel(self) -> None:
        """Cancel the agent once more, if it was cancelled and has not ended."""
        if self._closed:
            self._there.soon(self._leave)

    async def aclose(self) -> None:
        """Cancel the agent, and wait until it has ended.

        :raises Exception: the error that the agent raises meanwhile.
        """
        self._closed = True
        if not self._there.soon(self._leave):
            return
        await self._here.seen_through(self._done.wait)
        for _, error in self._ready:
            if isinstance(error, Exception):
                raise error

    # On the agent's loop

    def _begin(self) -> None:
        if self._closed:
            # The agent is not called any more, but the run still has to learn that there is no
            # event.
            self._ended()
            return
        self._has_room = asyncio.Event()
        self._task = self._there.spawn(self._pull_all, name="agent")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None] | None = None) -> None:
        # A task that is cancelled before its first step runs none of its own code.
        self._put()
        self._here.soon(self._done.set)

    def _leave(self) -> None:
        self._left = True
        if self._task is not None:
            self._task.cancel()

    def _give_room(self, events: int) -> None:
        self._room += events
        self._has_room.set()

    async def _pull_all(self) -> None:
        events: AsyncIterator[Any] | None = None
        try:
            try:
                events = await open_events(self._call, self._there)
                async for event in events:
                    if self._left:
                        break
                    self._put(event)
                    self._room -= 1
                    while self._room <= 0:
                        self._has_room.clear()
                        await self._has_room.wait()
            finally:
                if (close := getattr(events, "aclose", None)) is not None:
                    await close()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._put(None, error)
                return
            if not self._left:
                # The cancellation counts as an error of the agent, because nobody has cancelled the
                # agent: it awaited something that was cancelled.
                self._put(None, RuntimeError(f"the agent was cancelled: {error!r}"))
            raise
