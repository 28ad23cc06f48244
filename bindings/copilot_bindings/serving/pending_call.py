"""A call that is in progress: in a thread, or awaited on an event loop."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from msgspec import Struct, field

from sansio_copilot import RunRefused, StoreAnswerLost

from .backend import Backend, Task
from .context import CallContext, ContextAwaitable, Dropped
from .failures import contained, failure
from .pool import CallPool, Job

logger = logging.getLogger(__name__)

_CLEANUP_SECONDS = 2.0
"""The seconds that a cancelled call may take to end."""


class CallTimeout(TimeoutError):
    """A call did not return in time."""


class StoreTimeout(CallTimeout, StoreAnswerLost):
    """A store did not return in time, which is an outage: it may have done what was asked."""


class Pending(Struct, eq=False):
    """A call in progress, which ends once: with its outcome, at its time limit, or given up.

    It may be ended and asked from any thread.

    :param name: its name in log lines.
    :param seconds: the seconds that it may take.
    :param is_seen_through: whether it is waited for even if nobody wants the outcome any more,
        because it may have changed the store.
    :param _late: the type of the error of a call that has taken longer.
    :param _context: the context in which it is made.
    :param _backend: returns the backend on which to await; called if there is something to await.
    :param _among: the calls in progress; this call is among them until it has ended.
    """

    name: str
    seconds: float
    is_seen_through: bool
    _late: type[CallTimeout]
    _context: CallContext
    _backend: Callable[[], Backend]
    _among: set[Pending]
    done: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _since: float = field(default_factory=time.monotonic)
    _callback: Callable[[], object] | None = None
    _outcome: Any = None
    _error: Exception | None = None
    _pool: CallPool | None = None
    _job: Job | None = None
    _deferred: Future[Any] | None = None
    _awaited: ContextAwaitable | None = None
    _begun: bool = False
    _task: Task | None = None
    _timer: Task | None = None

    # The side of the caller, which waits

    def then(self, callback: Callable[[], object]) -> bool:
        """Have ``callback`` called, in any thread, when the call has ended; return False if it has
        ended already."""
        with self._lock:
            if self.done:
                return False
            self._callback = callback
        return True

    def result(self) -> Any:
        """Return the outcome of the call, which has ended.

        :raises Exception: the error of the call.
        """
        if self._error is None:
            return self._outcome
        error, self._error = self._error, None
        try:
            raise error
        finally:
            # The name is deleted to break a cycle of references: the error's traceback has this
            # frame, and the error keeps the whole exchange.
            del error

    async def wait(self, backend: Backend) -> Any:
        """Wait for the outcome. A cancellation gives the call up.

        :raises Exception: the error of the call.
        """
        flag = backend.flag()
        if self.then(lambda: backend.promptly(flag.set)):
            try:
                while left := self.time_left():
                    await backend.wait_for(flag, left)
            except BaseException:
                self.give_up(RuntimeError(f"{self.name} was given up"))
                raise
        return self.result()

    async def see_through(self, backend: Backend, on_cancel: Callable[[], object]) -> Any:
        """Wait for the outcome; no cancellation cuts the wait short.

        :param on_cancel: called at a cancellation, if the library would otherwise forget it.
        :raises Exception: the error of the call.
        """
        flag = backend.flag()
        if self.then(lambda: backend.promptly(flag.set)):
            while left := self.time_left():
                await backend.wait_through(flag, left, on_cancel)
        return self.result()

    def block(self) -> Any:
        """Wait for the outcome, and block this thread meanwhile.

        :raises Exception: the error of the call.
        """
        event = threading.Event()
        if self.then(event.set):
            while left := self.time_left():
                event.wait(min(left, threading.TIMEOUT_MAX))
        return self.result()

    def time_left(self) -> float:
        """The seconds that the call has left; 0 if it has ended, for whatever reason."""
        if self.done:
            return 0
        job, now = self._job, time.monotonic()
        has_thread = job is None or job.since <= now
        left = (job.since if job is not None and has_thread else self._since) + self.seconds - now
        if left > 0:
            return left
        problem = "did not return" if has_thread else "had to wait for a thread, and got none"
        self.give_up(self._late(f"{self.name} {problem} within {self.seconds:g} s"))
        return 0

    # The end of the call

    def give_up(self, error: Exception) -> None:
        """End the call with ``error``, unless it has ended; leave the called function to itself."""
        with self._lock:
            if self.done:
                return
            # The context is left, because the exchange goes on while this call may be in it.
            self._context.leave()
            if self._job is not None and self._pool is not None:
                self._pool.leave(self._job)
                self._among.discard(self)
        if (deferred := self._deferred) is not None:
            # The store's future is cancelled, so that a call which has not begun never begins, and
            # only after this call has ended, because a cancelled future calls back.
            self._among.discard(self)
            self._settle(None, error)
            deferred.cancel()
            return
        # The task is cancelled after the call has ended with ``error``, because a task on a loop of
        # another thread may end at once, and the call would then fail with its cancellation.
        if self._settle(None, error) and self._awaited is not None:
            # The error is suppressed, because a loop that has ended has no task to cancel.
            with contextlib.suppress(RunRefused):
                self._backend().promptly(self._cancel)

    def drop(self) -> None:
        """End the task of a call that was given up and has ignored its cancellation."""
        if self.done and self._awaited is not None and self._task is not None:
            logger.warning("%s does not end when it is cancelled, and is dropped", self.name)
            self._awaited.give_up(keep_trying=self._backend().leave_behind is None)
            self._task.cancel()

    def _settle(self, outcome: Any, error: Exception | None = None) -> bool:
        with self._lock:
            if self.done:
                return False
            self.done = True
            self._outcome, self._error = outcome, error
            callback, self._callback = self._callback, None
        if callback is not None:
            callback()
        return True

    # In a thread

    def begin_in_thread(self, pool: CallPool, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function`` called in a thread of ``pool``.

        :raises RuntimeError: if no thread can be had.
        """
        self._pool = pool
        self._job = Job(partial(self._work, self._context.bound(contained), function, args))
        self._among.add(self)
        try:
            pool.submit(self._job)
        except RuntimeError:
            self._among.discard(self)
            raise

    def _work(self, run: Callable[..., Any], function: Callable[..., Any], args: Any) -> None:
        job = self._job
        assert job is not None
        try:
            try:
                outcome = run(function, *args)
            finally:
                job.returned = True
            if isinstance(outcome, Future) or hasattr(outcome, "__await__"):
                self._since, self._job = time.monotonic(), None
                self.begin_to_wait(outcome)
                return
        except Exception as error:
            self._among.discard(self)
            if not self._settle(None, error):
                self._log_late(error)
        else:
            self._among.discard(self)
            self._settle(outcome)

    def begin_to_wait(self, outcome: Future[Any] | Awaitable[Any]) -> None:
        """Wait for ``outcome``, which the function has returned.

        :raises RunRefused: if ``outcome`` has to be awaited and there is no event loop any more.
        """
        if isinstance(outcome, Future):
            self.begin_deferred(outcome)
        else:
            self.begin_to_await(outcome)

    # In a thread of the store's own

    def begin_deferred(self, outcome: Future[Any]) -> None:
        """Wait for a future that a store has returned."""
        self._deferred = outcome
        self._among.add(self)
        outcome.add_done_callback(self._took_place)

    def _took_place(self, outcome: Future[Any]) -> None:
        self._among.discard(self)
        self._deferred = None
        if outcome.cancelled():
            self._settle(None, RuntimeError(f"{self.name} was given up"))
        elif isinstance(error := outcome.exception(), Exception):
            if not self._settle(None, error):
                self._log_late(error)
        elif error is not None:
            self._settle(None, failure(error))
        else:
            self._settle(outcome.result())

    # On the event loop

    def begin_to_await(self, outcome: Awaitable[Any]) -> None:
        """Have ``outcome`` awaited on the event loop.

        :raises RunRefused: if there is no event loop any more.
        """
        self._among.add(self)
        self._awaited = self._context.awaitable(outcome)
        try:
            self._backend().promptly(self._begin)
        except Exception:
            self._among.discard(self)
            self._awaited.close()
            raise

    def _begin(self) -> None:
        assert self._awaited is not None
        if self.done:
            # The call was given up before its task began.
            self._among.discard(self)
            self._awaited.close()
            return
        # A task that began eagerly (Python 3.12) may have ended or been given up by the time that
        # this returns.
        self._task = self._backend().spawn(self._await, self._awaited, name=self.name)
        if self.done and self in self._among:
            self._cancel()

    def _cancel(self) -> None:
        """Cancel the task, and drop it if it does not end."""
        if self._task is None or self._timer is not None:
            # A task that has not begun will see that the call has ended; a task with a timer was
            # cancelled before.
            return
        assert self._awaited is not None
        self._task.cancel()
        if not self._begun:
            self._among.discard(self)
            self._awaited.close()
        elif self in self._among:
            self._timer = self._backend().later(_CLEANUP_SECONDS, self.drop)

    async def _await(self, awaited: ContextAwaitable) -> None:
        self._begun = True
        backend = self._backend()
        interrupt: BaseException | None = None
        outcome: Any = None
        failed: Exception | None = None
        try:
            if self.done:
                awaited.close()
            else:
                outcome = await awaited
        except (backend.cancelled, KeyboardInterrupt) as error:
            interrupt = error
        except Exception as error:
            failed = error
        except BaseExceptionGroup as group:
            # A nursery raises its cancellation in a group with the other errors of its tasks.
            interrupt, others = group.split((backend.cancelled, KeyboardInterrupt))
            failed = None if others is None else failure(others)
        except Dropped:
            pass
        except BaseException as error:
            failed = failure(error)
        self._among.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        try:
            if failed is not None:
                if not self._settle(None, failed):
                    self._log_late(failed)
            elif interrupt is not None:
                self._settle(None, RuntimeError(f"{self.name} was cancelled"))
            else:
                self._settle(outcome)
            if interrupt is not None:
                raise interrupt
        finally:
            # The names are deleted to break cycles of references: the traceback of each error has
            # this frame.
            del failed, interrupt

    def _log_late(self, error: Exception) -> None:
        logger.error("%s failed after it was given up", self.name, exc_info=error)
