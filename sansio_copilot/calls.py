"""What the core asks for when a function of the application is to be called.

The core calls none itself, because hooks, stores and services may wait; how each is called, in the
event loop or in a thread, is a binding's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs


@attrs.frozen
class Call:
    """Call ``function(*args)``: a hook, a function that picks agents, one that tells capabilities.

    Outcome: what it returns; if that is awaitable, what awaiting it gives. The core never calls
    the application's functions itself, because they may wait.

    :param name: what the application knows it by: "hook on_request", say. For log lines.
    :param part: what kind of part it is, which has a time limit in
        :class:`~sansio_copilot.limits.Limits`.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    name: str = attrs.field(default="", kw_only=True, eq=False)
    part: Literal["hook", "service", "store"] = attrs.field(default="hook", kw_only=True)
