"""Failures of an application's code, which must end nothing but the call that has failed.

A hook, an agent or a store may raise anything, even a SystemExit. Its error is its own failure, and
reaches the caller as an Exception. Only a KeyboardInterrupt in the main thread is no failure,
because it comes from the user.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn


def contained(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function``, whose SystemExit is its own failure and not the server's end.

    :raises Exception: the error of ``function``; a RuntimeError if that is no Exception. A
        KeyboardInterrupt in the main thread is raised as it is.
    """
    try:
        return function(*args)
    except Exception:
        raise
    except BaseException as error:
        raise_failure(error)


def raise_failure(error: BaseException) -> NoReturn:
    """Raise the exception that :func:`contained` raises for an ``error`` that is no Exception."""
    if isinstance(error, passing()):
        raise error
    raise failure(error) from error


def passing(*others: type[BaseException]) -> tuple[type[BaseException], ...]:
    """Return the exceptions that are not failures of the code that raises them: a KeyboardInterrupt
    in the main thread, and ``others``."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return _with_interrupt(others) if in_main_thread else others


# The tuples are cached, so that open streams, each of which keeps one, share it.
@lru_cache(maxsize=8)
def _with_interrupt(others: tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    return (*others, KeyboardInterrupt)


def failure(error: BaseException) -> Exception:
    """Return ``error`` as an exception that ends nothing but the call."""
    failed = RuntimeError(f"what was called raised {error!r}")
    failed.__cause__ = error
    return failed
