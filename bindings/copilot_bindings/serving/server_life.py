"""The beginning and the end of one server: its store, and the application's functions for both.

A server opens its store and then calls ``on_start``; when its runs have ended it closes its agents,
calls ``on_close``, and closes its store, which others may use too (:mod:`.store_life`).

The rule that makes it right is: *each* ``on_start`` *is followed by an* ``on_close``, also if it
failed or was cancelled, because it may have acquired some of its resources.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from concurrent.futures import Future

from sansio_copilot import CopilotRuntime
from sansio_copilot.actions import Call
from sansio_copilot.agents import loop_of

from .backend import Backend
from .calls import Calls
from .steps_outside_requests import make
from .store_life import NotStarted, StoreLife, call_without_loop, has_life, wait_for

logger = logging.getLogger(__name__)


class StartFailed(NotStarted):
    """The application's ``on_start`` has failed, so that nothing can be served."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"on_start has failed: {type(error).__name__}: {error}")


class ServerLife:
    """The life of one server, which begins with :meth:`open` and ends with :meth:`close`.

    :param runtime: has the store, the agents and the application's functions.
    :param calls: makes the calls.
    :param backend: the async library in which to wait.
    """

    def __init__(self, runtime: CopilotRuntime, calls: Calls, backend: Backend) -> None:
        self._runtime = runtime
        self._calls = calls
        self._backend = backend
        self._store = StoreLife(runtime.store, calls, backend)
        self._opening: Future[None] | None = None
        """Done when everything is open; all requests of this server may wait for it together."""
        self.is_open = not must_be_opened(runtime)
        """Whether everything is open, so that a request need not wait."""

    async def open(self) -> None:
        """Open the store and call ``on_start``, or wait until another task has done so.

        :raises NotStarted: if that fails.
        """
        while not self.is_open:
            if self._opening is None:
                await self._begin(Future())
            else:
                await wait_for(self._opening, self._backend)

    async def _begin(self, opening: Future[None]) -> None:
        self._opening = opening
        try:
            await self._open()
        except BaseException as error:
            self._opening = None
            if isinstance(error, Exception):
                opening.set_exception(error)
                # The failure is retrieved here, because perhaps no request waits for it.
                opening.exception()
            else:
                # The future has no error, so that the requests that wait open the store themselves,
                # because only this task was cancelled.
                opening.set_result(None)
            raise
        self.is_open = True
        opening.set_result(None)

    async def _open(self) -> None:
        await self._store.open()
        try:
            await self._call("on_start")
        except BaseException as error:
            await self._backend.seen_through(self._end)
            if isinstance(error, Exception):
                raise StartFailed(error) from error
            raise

    async def close(self) -> None:
        """Close the agents, call ``on_close`` and close the store; a failure is logged."""
        await close_agents(self._runtime.agents, self._calls, self._backend)
        if self._leave():
            await self._end()

    def drop(self) -> None:
        """Close what can be closed without waiting, because the loop was dropped."""
        if not self._leave():
            return
        function = self._runtime.on_close
        if inspect.iscoroutinefunction(function):
            logger.warning("on_close is not called, because its event loop was closed before")
        elif function is not None:
            call_without_loop(function, "on_close has failed")
        self._store.drop()

    def _leave(self) -> bool:
        """Count as closed from now on; returns whether it was open."""
        was_open = self.is_open
        self._opening = None
        self.is_open = not must_be_opened(self._runtime)
        return was_open

    async def _end(self) -> None:
        try:
            await self._call("on_close")
        except Exception:
            logger.exception("on_close has failed")
        finally:
            await self._store.close()

    async def _call(self, name: str) -> None:
        function = getattr(self._runtime, name)
        if function is None:
            return
        logger.debug("%s is called", name)
        await make(Call(function, name=name, part="service"), self._calls, self._backend)
        logger.debug("%s has returned", name)


def must_be_opened(runtime: CopilotRuntime) -> bool:
    """Whether there is something to be done before and after ``runtime`` is served."""
    functions = (runtime.on_start, runtime.on_close)
    return has_life(runtime.store) or any(each is not None for each in functions)


async def close_agents(agents: object, calls: Calls, backend: Backend) -> None:
    """Close the agents that have a method ``aclose``, as HttpAgent has for its connections.

    Agents that the application's function makes for each request are not closed here. A failure is
    logged.
    """
    if not isinstance(agents, Mapping):
        return
    for agent_id, agent in agents.items():
        if (close := getattr(agent, "aclose", None)) is None:
            continue
        call = Call(
            close,
            name=f"aclose of agent {agent_id!r}",
            loop=loop_of(agent),
            kind="aclose of an agent",
        )
        try:
            await make(call, calls, backend)
        except Exception:
            logger.exception("agent %r could not be closed", agent_id)
