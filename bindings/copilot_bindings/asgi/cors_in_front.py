"""The search for CORS middleware in an application that the runtime is part of.

Such middleware wraps an application, and does its work in the ``send`` that it hands on. So it is
found in the list of middleware of the innermost application, which Starlette and FastAPI show, and
on the way of the response through ``send``, whether it is around a mount, a router, an outer
application, or all of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Final

from .wire import ASGISend

_MOST_HOPS: Final = 100


def is_behind_cors(scope: Mapping[str, Any], send: ASGISend) -> bool:
    """Whether CORS middleware will see the response to the request.

    CORS middleware is recognised by its name, because each framework has its own. Middleware that
    answers by a stream of its own, as Starlette's ``BaseHTTPMiddleware`` does, hides the middleware
    in front of it, except for the list that the innermost application shows.

    :param scope: the scope of the request.
    :param send: the callable that the request was handed over with.
    """
    shown = getattr(scope.get("app"), "user_middleware", ())
    return any(_is_cors(each.cls) for each in shown) or _passes_cors(send)


def _passes_cors(send: object) -> bool:
    """Whether CORS middleware made one of the callables that ``send`` hands its messages to."""
    for _ in range(_MOST_HOPS):
        if send is None:
            break
        # Middleware binds the next callable by functools.partial, in an object or in a closure.
        keywords, function = {}, send
        if isinstance(send, partial):
            keywords, function = send.keywords, send.func
        owner = function.__self__ if isinstance(function, MethodType) else None
        if _is_cors(type(owner)) or _is_cors(function):
            return True
        bound = {**_closure_of(function), **getattr(owner, "__dict__", {}), **keywords}
        send = bound.get("send")
    return False


def _is_cors(named: object) -> bool:
    """Whether a class, one of its bases, or a function is CORS middleware by its name."""
    names = named.__mro__ if isinstance(named, type) else (named,)
    return any("cors" in getattr(each, "__qualname__", "").lower() for each in names)


def _closure_of(function: object) -> dict[str, object]:
    """The variable ``send`` of the scope around a function, if it has one there."""
    if isinstance(function, FunctionType) and "send" in function.__code__.co_freevars:
        cell = (function.__closure__ or ())[function.__code__.co_freevars.index("send")]
        # A cell is empty before its variable is set.
        with contextlib.suppress(ValueError):
            return {"send": cell.cell_contents}
    return {}
