"""The calls of a store's methods, which a binding makes."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from ..calls import Call
from .protocol import Log


@attrs.frozen
class StoreCall(Call):
    """Call a method of the thread store, in a worker thread if ``blocking``. Outcome as above.

    Once begun it is seen through even if the client goes, because a run may have been opened.
    """

    blocking: bool = False
    part: Literal["hook", "service", "store"] = attrs.field(default="store", kw_only=True)


def store_call(store: Log, method: str, *args: Any) -> StoreCall:
    """The action that calls ``store.method(*args)``."""
    return StoreCall(getattr(store, method), args, store.blocking, name=f"store method {method}")
