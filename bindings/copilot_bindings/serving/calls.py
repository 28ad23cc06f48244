"""Calling the application's functions and the store, whatever they are: plain, async, blocking.

Where each is called: an ``async def`` function and what it returns on the event loop, a store that
says it does not block right here, and everything else in a thread, because it may. Each is called
in the context of its exchange (:mod:`._context`), and has so many seconds (:class:`Limits`). What
does not return in time fails, as far as its caller is concerned: a task is cancelled, and given up
if it swallows that; a thread is left alone.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn
from weakref import WeakMethod, WeakValueDictionary

from sansio_copilot import CopilotRuntime, RunRefused
from sansio_copilot.actions import Call, StoreCall
from sansio_copilot.stores.calls import check_cancel
from sansio_copilot.stores.protocol import Cancel, Log

from .backend import Backend, Task
from .context import CallContext, Dropped, Steps
from .pool import CallPool, Job

logger = logging.getLogger(__name__)

_CLEANUP_SECONDS = 2.0
"""How long what was cancelled may take to end."""


class StoreLock:
    """The lock to hold while a plain method of ``store`` is called.

    The core's stores know nothing of threads, so that whoever has several takes turns, and one
    store may be served by several bindings at once. Held for moments only, and reentrant, since a
    store may call back.
    """

    __slots__ = ("__weakref__", "_store", "held")

    def __init__(self, store: object) -> None:
        self._store = store
        self.held = threading.RLock()
        """The lock itself, which a ``with`` statement takes without a call of Python code."""


_locks: WeakValueDictionary[int, StoreLock] = WeakValueDictionary()
_locks_lock = threading.Lock()


def lock_of(store: object) -> StoreLock:
    """The lock of ``store``, the same for everyone who has it meanwhile.

    By identity, since a store may be equal to another, without a hash, or without a place for weak
    references. The lock keeps the store, so that its identity is nobody else's.
    """
    with _locks_lock:
        lock = _locks.get(id(store))
        if lock is None:
            lock = _locks[id(store)] = StoreLock(store)
        return lock


def locked(lock: StoreLock, function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function`` with ``lock`` held."""
    with lock.held:
        return function(*args)


class CallTimeout(TimeoutError):
    """What was called did not return in time."""


class Calls:
    """Makes the calls of one server to what the application brought.

    :param runtime: its store and limits are taken.
    """

    def __init__(self, runtime: CopilotRuntime) -> None:
        limits = runtime.limits
        self.lock = lock_of(runtime.store)
        self._seconds = {
            "hook": limits.hook_seconds,
            "store": limits.store_seconds,
            "service": limits.service_seconds,
        }
        size = int(limits.call_threads)
        self._pools = {
            part: CallPool(part, size, seconds) for part, seconds in self._seconds.items()
        }
        self._pending: set[Pending] = set()

    def begin(
        self, action: Call, context: CallContext, home: Callable[[], Backend], *, own: bool = False
    ) -> Any:
        """Make the call; returns its outcome, or a :class:`Pending` one.

        :param home: where to await; asked for it when there is something to be awaited.
        :param own: this thread is its caller's own, and may be blocked by what has all the time it
            wants.
        :raises Exception: what a plain function raises.
        """
        if isinstance(action, StoreCall) and not action.blocking:
            outcome = context.current.run(self._with_lock, action)
        elif is_async(action.function) or (own and self._seconds[action.part] == math.inf):
            outcome = context.current.run(contained, action.function, *action.args)
        else:
            pending = self._new_pending(action, context, home)
            pending.begin_in_thread(self._pools[action.part], action.function, *action.args)
            return pending
        if not hasattr(outcome, "__await__"):
            return outcome
        pending = self._new_pending(action, context, home)
        pending.begin_to_await(outcome)
        return pending

    def give_up(self) -> list[str]:
        """Have each call fail that has not returned, at the end of a server; what they were."""
        pending = [call for call in list(self._pending) if not call.done]
        for call in pending:
            call.give_up(RuntimeError(f"{call.name} was given up at the end of the server"))
        return [call.name for call in pending]

    def drop(self) -> None:
        """End what was cancelled and has not ended, now."""
        for call in list(self._pending):
            call.drop()

    def release(self) -> None:
        """End the threads, at the end of a server; those that hang are left alone."""
        for pool in self._pools.values():
            pool.release()

    def _new_pending(
        self, action: Call, context: CallContext, home: Callable[[], Backend]
    ) -> Pending:
        return Pending(action, self._seconds[action.part], context, home, self._pending)

    def _with_lock(self, action: Call) -> Any:
        try:
            with self.lock.held:
                return action.function(*action.args)
        except Exception:
            raise
        except BaseException as error:
            raise_failure(error)


class Pending:
    """A call in progress, which ends once: with its outcome, at its time limit, or given up.

    It may be ended and asked from any thread.
    """

    __slots__ = (
        *("_among", "_begun", "_callback", "_context", "_error", "_home", "_job", "_lock"),
        *("_outcome", "_pool", "_since", "_steps", "_task", "_timer", "done", "name", "seconds"),
    )

    def __init__(
        self,
        action: Call,
        seconds: float,
        context: CallContext,
        home: Callable[[], Backend],
        among: set[Pending],
    ) -> None:
        self.name = action.name or repr(action.function)
        self.seconds = seconds
        self.done = False
        self._context = context
        self._home = home
        self._among = among
        self._lock = threading.Lock()
        self._callback: Callable[[], object] | None = None
        self._outcome: Any = None
        self._error: Exception | None = None
        self._since = time.monotonic()
        self._pool: CallPool | None = None
        self._job: Job | None = None
        self._steps: Steps | None = None
        self._begun = False
        self._task: Task | None = None
        self._timer: Task | None = None

    # For who waits

    def then(self, callback: Callable[[], object]) -> bool:
        """Have ``callback`` called once it has ended, in whatever thread; False if it has."""
        with self._lock:
            if self.done:
                return False
            self._callback = callback
        return True

    def result(self) -> Any:
        """The outcome, when it has ended.

        :raises Exception: what was raised instead.
        """
        if self._error is None:
            return self._outcome
        error, self._error = self._error, None
        try:
            raise error
        finally:
            # The traceback has this frame, which would keep the error, and it all of the exchange.
            del error

    async def wait(self, backend: Backend) -> Any:
        """Wait for the outcome. A cancellation gives it up.

        :raises Exception: what was raised instead.
        """
        event = backend.event()
        if self.then(lambda: backend.promptly(event.set)):
            try:
                while left := self.time_left():
                    await backend.wait_for(event, left)
            except BaseException:
                self.give_up(RuntimeError(f"{self.name} was given up"))
                raise
        return self.result()

    async def see_through(self, backend: Backend, on_cancel: Callable[[], object]) -> Any:
        """Wait for the outcome, which no cancellation cuts short.

        :param on_cancel: told of one that came meanwhile, where the library forgets it otherwise.
        :raises Exception: what was raised instead.
        """
        event = backend.event()
        if self.then(lambda: backend.promptly(event.set)):
            while left := self.time_left():
                await backend.wait_through(event, left, on_cancel)
        return self.result()

    def block(self) -> Any:
        """Wait for the outcome in a thread, which is blocked.

        :raises Exception: what was raised instead.
        """
        event = threading.Event()
        if self.then(event.set):
            while left := self.time_left():
                event.wait(min(left, threading.TIMEOUT_MAX))
        return self.result()

    def time_left(self) -> float:
        """The seconds it has left; 0 if it has ended, be it because there are none."""
        if self.done:
            return 0
        job, now = self._job, time.monotonic()
        has_thread = job is None or job.since <= now
        left = (job.since if job is not None and has_thread else self._since) + self.seconds - now
        if left > 0:
            return left
        problem = "did not return" if has_thread else "had to wait for a thread, and got none"
        self.give_up(CallTimeout(f"{self.name} {problem} within {self.seconds:g} s"))
        return 0

    # Its end

    def give_up(self, error: Exception) -> None:
        """It ends with ``error``, unless it has ended; what was called is left to itself."""
        with self._lock:
            if self.done:
                return
            # The context is left, because the exchange goes on while this call may be in it.
            self._context.leave()
            if self._job is not None and self._pool is not None:
                self._pool.leave(self._job)
                self._among.discard(self)
        # The task is cancelled after that, since on a loop of another thread it may end at once,
        # and its cancellation is not the reason.
        if self._settle(None, error) and self._steps is not None:
            # A loop that has ended has no task either.
            with contextlib.suppress(RunRefused):
                self._home().promptly(self._cancel)

    def drop(self) -> None:
        """End the task of what was given up and has swallowed its cancellation."""
        if self.done and self._steps is not None and self._task is not None:
            logger.warning("%s does not end when it is cancelled, and is dropped", self.name)
            self._steps.give_up(keep_trying=not self._home().may_drop)
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

        :raises RuntimeError: if there is none to be had.
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
            if hasattr(outcome, "__await__"):
                self._since, self._job = time.monotonic(), None
                self.begin_to_await(outcome)
                return
        except Exception as error:
            self._among.discard(self)
            if not self._settle(None, error):
                self._log_late(error)
        else:
            self._among.discard(self)
            self._settle(outcome)

    # On the event loop

    def begin_to_await(self, outcome: Awaitable[Any]) -> None:
        """Have ``outcome`` awaited on the event loop.

        :raises RunRefused: if there is none any more.
        """
        self._among.add(self)
        self._steps = self._context.steps(outcome)
        try:
            self._home().promptly(self._begin)
        except Exception:
            self._among.discard(self)
            self._steps.close()
            raise

    def _begin(self) -> None:
        assert self._steps is not None
        if self.done:
            # It was given up before.
            self._among.discard(self)
            self._steps.close()
            return
        # Eagerly (Python 3.12), it may have ended or been given up by the time that this returns.
        self._task = self._home().spawn(self._await, self._steps, name=self.name)
        if self.done and self in self._among:
            self._cancel()

    def _cancel(self) -> None:
        """Cancel the task, and drop it if it does not end."""
        if self._task is None or self._timer is not None:
            # It is yet to begin, which will see that it is done; or it was cancelled before.
            return
        assert self._steps is not None
        self._task.cancel()
        if not self._begun:
            self._among.discard(self)
            self._steps.close()
        elif self in self._among:
            self._timer = self._home().later(_CLEANUP_SECONDS, self.drop)

    async def _await(self, steps: Steps) -> None:
        self._begun = True
        home = self._home()
        interrupt: BaseException | None = None
        outcome: Any = None
        failed: Exception | None = None
        try:
            if self.done:
                steps.close()
            else:
                outcome = await steps
        except (home.cancelled, KeyboardInterrupt) as error:
            interrupt = error
        except Exception as error:
            failed = error
        except BaseExceptionGroup as group:
            # A nursery raises its cancellation in one group with whatever else was raised in it.
            interrupt, others = group.split((home.cancelled, KeyboardInterrupt))
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
            # The traceback of each has this frame, which would keep it.
            del failed, interrupt

    def _log_late(self, error: Exception) -> None:
        logger.error("%s failed after it was given up", self.name, exc_info=error)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` does nothing but to make a coroutine."""
    # The class is looked at too, because it has the __call__ of an object that is no function.
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def contained(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function``, whose SystemExit is its own failure and not the server's end.

    :raises Exception: what it raises, or a RuntimeError for what is none. A KeyboardInterrupt in
        the main thread is no failure of anybody.
    """
    try:
        return function(*args)
    except Exception:
        raise
    except BaseException as error:
        raise_failure(error)


def raise_failure(error: BaseException) -> NoReturn:
    """Raise what :func:`contained` raises for ``error``, which is no Exception."""
    if isinstance(error, passing()):
        raise error
    raise failure(error) from error


def passing(*others: type[BaseException]) -> tuple[type[BaseException], ...]:
    """What is no failure of whoever raises it: a KeyboardInterrupt in the main thread, and
    ``others``."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return (*others, KeyboardInterrupt) if in_main_thread else others


def failure(error: BaseException) -> Exception:
    """``error`` as an exception that ends nothing but what was called."""
    failed = RuntimeError(f"what was called raised {error!r}")
    failed.__cause__ = error
    return failed


def begin_watch(
    lock: StoreLock, store: Log, method: str, subject: Any, notify: Callable[..., None]
) -> Cancel:
    """Watch ``subject`` by that method of the store; returns what :func:`end_watch` needs.

    :raises Exception: what the store raises, or for what it returns if that ends no watch.
    """
    with lock.held:
        return check_cancel(method, contained(getattr(store, method), subject, notify))


def weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Calls a bound method, and does not keep its object, which may be dropped with its loop."""
    of = WeakMethod(method)

    def call(*args: Any) -> None:
        if (method := of()) is not None:
            method(*args)

    return call


def end_watch(lock: StoreLock, unwatch: Cancel) -> None:
    """End a watch. Whoever does is on the way to something else, so a failure is only logged."""
    try:
        with lock.held:
            contained(unwatch)
    except Exception:
        logger.exception("the thread store failed to end a watch")
