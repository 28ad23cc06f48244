"""The action by which the core asks a binding to call a function of the application.

The core calls no such function itself, because hooks, stores and services may wait. The binding
decides how each is called, in the event loop or in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeGuard, TypeVar

from msgspec import Struct

T_co = TypeVar("T_co", covariant=True)


class Call(Struct, frozen=True):
    """Call ``function(*args)``: a hook, or a function that picks agents or tells capabilities.

    Outcome: the value that it returns, or the result of awaiting that value if it is awaitable.

    :param name: the name by which the application knows it, such as "hook on_request", for log
        lines.
    :param loop: the event loop that the function has to be awaited in, even if the binding uses
        another; None for the binding's own.
    :param part: the part of the application to which the function belongs; each part has a time
        limit in :class:`~sansio_copilot.limits.Limits`.
    :param kind: the kind of the function, if ``name`` names a single function of this kind. A
        binding gives each kind threads of its own, so that a kind that hangs does not delay others.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    name: str = ""
    loop: Literal["asyncio"] | None = None
    part: Literal["hook", "service", "store"] = "hook"
    kind: str = ""

    @property
    def pool(self) -> str:
        """The kind of the function: the store, or what the application knows it by."""
        return "store" if self.part == "store" else self.kind or self.name


class Deferred(Protocol[T_co]):
    """The result of a call that is made elsewhere, in an operating system thread of the store.

    A ``concurrent.futures.Future`` is one. A binding waits for it without a thread of its own; code
    without an event loop asks for its result, and blocks until the result is there.
    """

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback`` with this object, in any operating system thread, when it is done."""
        ...

    def result(self) -> T_co:
        """Block until it is done; returns the outcome.

        :raises Exception: the error of the call.
        """
        ...


def is_deferred(outcome: object) -> TypeGuard[Deferred[Any]]:
    """Whether ``outcome`` is a :class:`Deferred`; a future of an event loop is awaited instead."""
    return hasattr(outcome, "add_done_callback") and not hasattr(outcome, "__await__")
