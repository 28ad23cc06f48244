"""An operating system thread that sends many calls to a store's server in one round trip.

A call of the store is a generator that yields commands, and is sent their replies; most yield once.
This one operating system thread takes all calls that wait, sends their commands together, and hands
out the replies. So the busier a store is, the less each call costs, and no call waits for a lock.
Only the server keeps apart the steps that must not overlap.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

import attrs

from sansio_copilot import StoreAnswerLost, StoreUnavailable

from .os_threads import begin_os_thread

T = TypeVar("T")
Command: TypeAlias = tuple[Any, ...]
"""A command of the server, and its arguments."""
RoundTrips: TypeAlias = Generator[list[Command], list[Any], T]

_MOST_AT_ONCE = 512


@attrs.define(eq=False)
class _OngoingCall:
    """A call that is being made.

    :ivar replies: the replies to its last commands; None before the first.
    """

    trips: RoundTrips[Any]
    future: Future[Any]
    replies: list[Any] | None = None


class PipelineThread:
    """The operating system thread, and the calls that wait for it.

    :param name: the name of the operating system thread.
    :param send: is given commands, and returns as many replies. A reply that is an exception fails
        only its own call; an exception that ``send`` raises fails all calls.
    :param end: called when nothing more will be sent.
    :raises StoreUnavailable: if no further operating system thread begins now.
    """

    def __init__(
        self, name: str, send: Callable[[list[Command]], list[Any]], end: Callable[[], object]
    ) -> None:
        self._send = send
        self._end = end
        self._jobs: queue.SimpleQueue[_OngoingCall | None] = queue.SimpleQueue()
        self._thread = begin_os_thread(name, self._live)

    def submit(self, trips: RoundTrips[T]) -> Future[T]:
        """Have the round trips made; returns a future that is done when they have returned."""
        future: Future[T] = Future()
        self._jobs.put(_OngoingCall(trips, future))
        return future

    def close(self, seconds: float) -> bool:
        """Make the calls that were submitted, then end; returns whether it has ended in time."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _live(self) -> None:
        going: list[_OngoingCall] = []
        ended = False
        while going or not ended:
            ended = self._take(going, ended)
            going = self._step(going)
        self._end()

    def _take(self, going: list[_OngoingCall], ended: bool) -> bool:
        """Take the calls that wait, or wait for one if none is in progress; returns whether the
        pipeline has to end."""
        try:
            job = self._jobs.get(block=not going and not ended)
            while job is not None:
                if job.future.set_running_or_notify_cancel():
                    going.append(job)
                if len(going) >= _MOST_AT_ONCE:
                    return ended
                job = self._jobs.get_nowait()
        except queue.Empty:
            return ended
        return True

    def _step(self, jobs: list[_OngoingCall]) -> list[_OngoingCall]:
        """Send each call its replies, and send the next commands of all calls to the server."""
        asking: list[tuple[_OngoingCall, list[Command]]] = []
        for job in jobs:
            try:
                wanted = next(job.trips) if job.replies is None else job.trips.send(job.replies)
            except StopIteration as done:
                job.future.set_result(done.value)
            except BaseException as error:
                job.future.set_exception(error)
            else:
                asking.append((job, wanted))
        if not asking:
            return []
        try:
            replies = iter(self._send([command for _, wanted in asking for command in wanted]))
        except Exception as error:
            for job, _ in asking:
                _fail(job, error)
            return []
        going = []
        for job, wanted in asking:
            replied = [next(replies) for _ in wanted]
            failed = [one for one in replied if isinstance(one, Exception)]
            if failed:
                _fail(job, failed[0], is_begun=len(failed) < len(replied))
            else:
                job.replies = replied
                going.append(job)
        return going


def _fail(job: _OngoingCall, error: Exception, *, is_begun: bool = False) -> None:
    """Fail a call.

    :param is_begun: whether some of the commands that were sent last have been carried out.
    """
    job.trips.close()
    if isinstance(error, StoreUnavailable) and (is_begun or job.replies is not None):
        # The error says that an answer was lost, because a part of the call was done: the same
        # call, made again, may find nothing to do.
        lost = StoreAnswerLost(*error.args)
        lost.__cause__ = error
        error = lost
    job.future.set_exception(error)
