"""Checks of an application's functions: whether they can be called, and with how many arguments.

The number of arguments is found out once, when the function is given. It is never tried by a call,
because a TypeError that the function itself raises would look the same.
"""

from __future__ import annotations

import inspect
from typing import Any


def check_function(
    name: str, function: object, kind: str = "a function", arguments: int | None = None
) -> None:
    """Check an argument that is a function, or None.

    :param name: the name of the argument in the error.
    :param kind: the kind of function that is needed, in words.
    :param arguments: the number of arguments that it is called with; None for any number.
    :raises TypeError: if it cannot be called so.
    """
    if function is None:
        return
    if not callable(function):
        raise TypeError(f"{name} is {kind}, not {type(function).__name__}")
    if arguments is not None and not fits(function, arguments):
        raise TypeError(f"{name} is {kind}, not of {signature_of(function)}")


def fits(function: Any, arguments: int) -> bool:
    """Whether a function can be called with that number of arguments, as far as it tells."""
    signature = signature_of(function)
    if signature is None:
        return True
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def signature_of(function: Any) -> inspect.Signature | None:
    """The signature; None for a function that does not tell it, like some that are written in C."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def is_async(function: Any) -> bool:
    """Whether calling ``function`` does nothing but to make a coroutine."""
    # The class is looked at too, because an object that is no function has its __call__ there.
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
