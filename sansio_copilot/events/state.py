"""The state an agent shares with the front end, folded from snapshots and JSON Patches.

Source: https://docs.ag-ui.com/concepts/state, RFC 6902 (JSON Patch), and ``defaultApplyEvents``
of ``@ag-ui/client`` 0.0.59.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import jsonpatch

from . import types as t
from ._values import copy_json
from .types import Event, EventError

_NOTHING: Final = object()


def apply_delta(document: Any, delta: Any) -> Any:
    """Apply the JSON Patch ``delta`` to ``document``, in place.

    The cost is that of the patch, not of the document. No part of ``delta`` becomes part of the
    document.

    :returns: the patched document; another object than ``document`` if its root was replaced.
    :raises EventError: if the patch does not apply, whatever is wrong with it; the document is
        unchanged then.
    """
    if not isinstance(delta, list | tuple):
        raise EventError(f"the delta does not apply: it is no list, but {type(delta).__name__}")
    try:
        return jsonpatch.JsonPatch(delta).apply(document, in_place=True, atomic=True)
    except Exception as error:
        # Of many classes, and not all of them jsonpatch's own: the patch may hold anything.
        raise EventError(f"the delta does not apply: {error}") from error


class StateFolder:
    """The state after each event of a stream.

    :param state: the state before the first event; None if there is none, which a delta takes
        for an empty object.
    """

    __slots__ = ("_lent", "_state")

    def __init__(self, state: Any = None) -> None:
        self._state = _NOTHING if state is None else copy_json(state)
        self._lent = False

    @property
    def state(self) -> Any:
        """The state; None if there was none. What is fed later does not change this object."""
        if self._state is _NOTHING:
            return None
        self._lent = True
        return self._state

    def feed(self, event: Event) -> bool:
        """Apply a STATE_SNAPSHOT or a STATE_DELTA; any other event is ignored.

        :returns: False if it was a delta that does not apply. It has changed nothing then.
        """
        type_ = event["type"]
        if type_ == t.STATE_SNAPSHOT:
            # An agent may well go on changing the object that it sent.
            self._state = copy_json(event.get("snapshot"))
            self._lent = False
        elif type_ == t.STATE_DELTA:
            return self._patch(event.get("delta"))
        return True

    def _patch(self, delta: Any) -> bool:
        if self._lent:
            self._state = copy_json(self._state)
            self._lent = False
        try:
            self._state = apply_delta({} if self._state is _NOTHING else self._state, delta)
        except EventError:
            return False
        return True


def fold_state(events: Iterable[Event]) -> Any:
    """The state after all of ``events``; None if none of them set or changed it.

    A delta that does not apply is skipped.
    """
    folder = StateFolder()
    for event in events:
        folder.feed(event)
    return folder.state
