"""The end of a server: the order in which its connections, its runs and its store end.

Theory of operation
===================

:func:`serve_until_closed` waits until a :class:`~.service.Service` is asked to end, and then ends
it in this order:

1. ``closing`` is set. No connection is accepted, and idle connections are closed; each response is
   the last of its connection. Runs may still be started, because a request may be on its way to
   one. A connection that has had no request yet is not idle, because its client has just made it
   and may not be able to send its request again; it has a second.
2. For the grace period, connections and runs may end by themselves. ``hurry`` ends that period.
3. ``end_runs``: no run is started any more, and each live run is interrupted, which appends its
   well-formed terminal event.
4. For two seconds, connections may send those events to their readers; then they are aborted.
5. Runs, calls that hang and tasks are cancelled if they still have not ended.
6. The agents are closed, ``on_close`` is called, and the store is closed, if no other server uses
   it. It was opened before the first connection, and ``on_start`` was called then.

The rule that makes it right is: *runs end before connections, connections before tasks, and the
store last.* If connections ended first, no reader would learn how its run ended; if tasks ended
first, a run would break off without a terminal event. So a cancellation of ``serve_until_closed``
skips no step; it only sets the grace period to 0.

You may change how long each step takes, and what is logged, but the order only by this rule.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial

from .context import CallContext
from .run_home import RunHome
from .service import Service
from .steps_outside_requests import perform
from .sweeper import Sweeper

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
"""The seconds that each step behind the grace period may take: readers receive the last events of
their runs, calls return, cancelled agents end."""
AGENT_SECONDS = 10.0
"""The seconds after which an agent that ignores its cancellation is left behind. If the grace
period is longer, its seconds count."""
FIRST_REQUEST_SECONDS = 1.0
"""The seconds that a connection without a request yet is kept when a shutdown begins, because its
client cannot know that the request may be sent again."""
# An event loop needs this many turns to read what has arrived and hand it to the connections.
_TURNS_TO_READ = 3


class LoopEnded(RuntimeError):
    """The event loop of the runs has ended, although the server was not closed."""

    def __init__(self) -> None:
        super().__init__("the event loop of the runs has ended")


async def serve_until_closed(service: Service, stop_listening: Callable[[], object]) -> None:
    """Wait for :meth:`.Service.begin_close`, and then shut down; this is the main task of a server.

    A cancellation shuts down without a grace period: each run is ended at once by a well-formed
    terminal event.

    :param stop_listening: called once, at the beginning of the shutdown.
    """
    dropped = False
    sweeper = Sweeper(service.runtime, service.backend, service.calls, service.life)
    sweeper.begin()
    try:
        await service.close_begun.wait()
    except service.backend.cancelled:
        service.grace_seconds = 0
        raise
    except GeneratorExit:
        # The rest of the shutdown is left out, because the loop was dropped, and nothing can be
        # waited for.
        dropped = True
        service.life.drop()
        raise
    finally:
        sweeper.end()
        if not dropped:
            _stop_accepting(service, stop_listening)
            await service.backend.seen_through(partial(_shut_down, service, sweeper), service.hurry)


def _stop_accepting(service: Service, stop_listening: Callable[[], object]) -> None:
    counts = len(service.connections), service.runs
    logger.info("shutting down: %d connections are open, and %d runs are live", *counts)
    service.closing = True
    stop_listening()


def _close_idle(service: Service) -> None:
    for connection in list(service.connections):
        connection.close_if_idle()


async def _shut_down(service: Service, sweeper: Sweeper) -> None:
    """Let responses finish, then end the runs that are left.

    After the grace period each run is ended with a well-formed terminal event, which its
    readers receive. Every step may be taken again, after one that was cancelled.
    """
    begun = time.monotonic()
    # The loop has a few turns first, so that a request which has arrived is read before its
    # connection counts as idle.
    for _ in range(_TURNS_TO_READ):
        await service.backend.checkpoint()
    _close_idle(service)
    await service.quiet(service.is_empty, FIRST_REQUEST_SECONDS, begun, within_grace=True)
    service.welcoming = False
    _close_idle(service)
    await service.quiet(service.is_empty, math.inf, begun, within_grace=True)
    logger.debug("the grace period is over: %d runs are ended", service.runs)
    service.end_runs()
    # The connections have some time more, because the terminal events of the runs have to reach
    # their readers.
    await service.quiet(lambda: not service.connections, FLUSH_SECONDS)
    logger.debug("%d connections are dropped", len(service.connections))
    for connection in list(service.connections):
        connection.abort()
    await _give_up(service)
    await sweeper.see_through(FLUSH_SECONDS)
    await _tell_of_lost_runs(service)
    # Two turns are given to tasks that have done their work, so that they end by themselves.
    await service.backend.checkpoint()
    await service.backend.checkpoint()
    await _cancel_all(service)
    await service.life.close()
    service.calls.release()
    service.closed.set()
    logger.info("shut down")


async def _tell_of_lost_runs(service: Service) -> None:
    """Tell the application of lost runs that requests have ended since the last sweep."""
    if not service.runtime.lost:
        return
    told = service.backend.flag()

    async def tell() -> None:
        try:
            steps = service.runtime.tell_of_lost()
            await perform(steps, service.calls, CallContext.of_now(), service.backend)
        finally:
            told.set()

    service.backend.spawn(tell, name="hook on_run_end for lost runs")
    await service.backend.wait_for(told, FLUSH_SECONDS)


async def _cancel_all(service: Service) -> None:
    """Cancel the tasks that are left, and leave behind those that still do not end."""
    told: set[str] = set()
    until = time.monotonic() + FLUSH_SECONDS
    while names := service.backend.cancel_all():
        if new := set(names) - told:
            logger.warning("cancelled what does not end: %s", ", ".join(sorted(new)))
            told |= new
        if time.monotonic() > until:
            logger.error("left behind what does not end: %s", ", ".join(sorted(set(names))))
            return
        await service.backend.wait_for(service.backend.flag(), FLUSH_SECONDS / 20)
        if time.monotonic() > until - FLUSH_SECONDS / 2:
            service.calls.drop()


async def _give_up(service: Service) -> None:
    """Wait until all connections and runs have ended; cancel runs and give up calls that hang.

    An agent that ignores its cancellation is left behind after :data:`AGENT_SECONDS`, or the grace
    period if that is longer. Under trio it is waited for without limit, because no task can be left
    behind there; a second signal still ends the process.
    """
    seconds, told = FLUSH_SECONDS, set[RunHome]()
    until = time.monotonic() + max(AGENT_SECONDS, service.grace_seconds)
    while not await service.quiet(service.is_empty, seconds):
        calls = service.calls.give_up()
        for call in calls:
            logger.warning("%s does not return, and is given up", call)
        if not calls:
            for home in service.homes - told:
                logger.warning("an agent ignores its cancellation: %r", home)
            told |= service.homes
            if not service.homes:
                return
            if time.monotonic() > until:
                for home in list(service.homes):
                    if home.leave_behind():
                        logger.error("left behind an agent that does not end: %r", home)
        for home in service.homes:
            home.cancel()
        # The next wait is short after a call was given up, because the run or connection that
        # made it may be about to make another call.
        seconds = FLUSH_SECONDS / 20 if calls else FLUSH_SECONDS
