"""Stores of one kind, wherever the kind has its threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from copilot_bindings.stores.retention import Retention
from sansio_copilot.testing.stores import Driven


@attrs.define
class Place:
    """A place where stores of one kind have their threads.

    :param make: another store there, with that retention.
    """

    make: Callable[..., Any]
    opened: list[Any] = attrs.field(factory=list)

    def new(self, **retention: Any) -> Driven:
        store = self.make(retention=Retention(**retention))
        self.opened.append(store)
        return Driven(store, lambda awaitable: awaitable)
