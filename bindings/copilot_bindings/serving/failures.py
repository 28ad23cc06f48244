"""Failures of what an application brought, which must end nothing but what was called.

A hook, an agent or a store may raise anything, a SystemExit too. Whatever it raises is its failure,
and reaches its caller as an Exception. The one exception that is nobody's failure is a
KeyboardInterrupt in the main thread, because it comes from the user.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn


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
    """Return the exceptions that are not failures of the code that raises them: a KeyboardInterrupt
    in the main thread, and ``others``."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return (*others, KeyboardInterrupt) if in_main_thread else others


def failure(error: BaseException) -> Exception:
    """``error`` as an exception that ends nothing but what was called."""
    failed = RuntimeError(f"what was called raised {error!r}")
    failed.__cause__ = error
    return failed
