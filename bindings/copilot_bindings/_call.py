"""Calling the application's functions and the store, whatever they are: plain, async, blocking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NoReturn, TypeGuard
from weakref import WeakKeyDictionary, WeakMethod

from sansio_copilot.actions import Call, StoreCall
from sansio_copilot.threads import Cancel, Log, check_cancel

from ._backend import Backend

logger = logging.getLogger("sansio_copilot")

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


def lock_of(store: object) -> threading.RLock:
    """The lock to hold while a plain method of ``store`` is called.

    The core's stores know nothing of threads, so that whoever has several takes turns, and one
    runtime may be served by several bindings at once. Held for moments only, and reentrant,
    since a store may call back.
    """
    with _locks_lock:
        lock = _locks.get(store)
        if lock is None:
            lock = _locks[store] = threading.RLock()
        return lock


def locked(lock: threading.RLock, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, called with ``lock`` held."""

    def call(*args: Any) -> Any:
        with lock:
            return function(*args)

    return call


def begin(action: Call, lock: threading.RLock, backend: Backend) -> Any:
    """Make the call; returns its outcome, or a :class:`Pending` one.

    :raises Exception: what a plain function raises.
    """
    if not isinstance(action, StoreCall):
        outcome = contained(action.function, *action.args)
    elif action.blocking:
        outcome = backend.in_thread(contained, action.function, *action.args)
    else:
        try:
            with lock:
                outcome = action.function(*action.args)
        except Exception:
            raise
        except BaseException as error:
            raise_failure(error)
    return Pending(action, outcome, backend) if is_pending(outcome) else outcome


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
    return RuntimeError(f"what was called raised {error!r}")


class Pending:
    """An outcome to be awaited. Raises Exceptions only, but for a cancellation."""

    def __init__(self, action: Call, awaitable: Awaitable[Any], backend: Backend) -> None:
        self._action = action
        self._awaitable = awaitable
        self._interrupts = passing(backend.cancelled)

    def __repr__(self) -> str:
        return self._action.name or repr(self._action.function)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._outcome().__await__()

    def close(self) -> None:
        """Never await it. Python warns of a coroutine that nobody awaits, unless it is closed."""
        if (close := getattr(self._awaitable, "close", None)) is not None:
            close()

    async def _outcome(self) -> Any:
        try:
            return await self._awaitable
        except self._interrupts:
            raise
        except Exception:
            raise
        except BaseExceptionGroup as group:
            # What a nursery makes of its cancellation and of what else was raised in it.
            if group.subgroup(self._interrupts) is not None:
                raise
            raise failure(group) from group
        except BaseException as error:
            raise failure(error) from error


def begin_watch(
    lock: threading.RLock, store: Log, method: str, subject: Any, notify: Callable[[], None]
) -> Cancel:
    """Watch ``subject`` by that method of the store; returns what :func:`end_watch` needs.

    :raises Exception: what the store raises, or for what it returns if that ends no watch.
    """
    with lock:
        return check_cancel(method, contained(getattr(store, method), subject, notify))


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Calls a bound method, and does not keep its object, which may be dropped with its loop."""
    of = WeakMethod(method)

    def call() -> None:
        if (method := of()) is not None:
            method()

    return call


def end_watch(lock: threading.RLock, unwatch: Cancel) -> None:
    """End a watch. Whoever does is on the way to something else, so a failure is only logged."""
    try:
        with lock:
            contained(unwatch)
    except Exception:
        logger.exception("the thread store failed to end a watch")


def is_pending(outcome: object) -> TypeGuard[Pending]:
    """Whether :func:`begin` returned something to await."""
    return hasattr(outcome, "__await__")
