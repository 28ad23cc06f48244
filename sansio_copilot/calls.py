"""The action by which the core asks a binding to call a function of the application.

The core calls no such function itself, because hooks, stores and services may wait. The binding
decides how each is called, in the event loop or in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs

from .records import record


@record
class Call:
    """Call ``function(*args)``: a hook, a function that picks agents, one that tells capabilities.

    Outcome: the value that it returns, or the result of awaiting that value if it is awaitable.

    :param name: the name by which the application knows it, such as "hook on_request", for log
        lines.
    :param part: the kind of the function, each of which has a time limit in
        :class:`~sansio_copilot.limits.Limits`.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    name: str = attrs.field(default="", kw_only=True, eq=False)
    part: Literal["hook", "service", "store"] = attrs.field(default="hook", kw_only=True)
