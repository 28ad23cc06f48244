"""The state an agent shares with the front end, folded from snapshots and JSON Patches.

Source: https://docs.ag-ui.com/concepts/state, RFC 6902 (JSON Patch), and ``defaultApplyEvents``
of ``@ag-ui/client`` 0.0.59.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from . import types as t
from .input_shape import STATE_DEPTH
from .json_values import copy_json
from .patch import PatchBudget, PatchDeclined, apply_patch
from .types import Event, EventError

_NOTHING: Final = object()


class StateFolder:
    """The state after each event of a stream.

    :param state: the state before the first event; None if there is no state, which a delta takes
        for an empty object.
    :param budget: the budget of its deltas; None for the default.
    """

    __slots__ = ("_lent", "_state", "budget", "declined")

    def __init__(self, state: Any = None, budget: PatchBudget | None = None) -> None:
        self._state = _NOTHING if state is None else copy_json(state)
        self._lent = False
        self.budget = PatchBudget() if budget is None else budget
        self.declined: PatchDeclined | None = None
        """The error of the last delta, if it was declined rather than wrong."""

    @property
    def state(self) -> Any:
        """The state; None if there is no state. Later events do not change this object."""
        if self._state is _NOTHING:
            return None
        self._lent = True
        return self._state

    @property
    def is_none(self) -> bool:
        """Whether :func:`is_none` is true of the state."""
        return self._state is _NOTHING or is_none(self._state)

    def feed(self, event: Event) -> bool:
        """Apply a STATE_SNAPSHOT or a STATE_DELTA; any other event is ignored.

        :returns: False if the event is a delta that does not apply; the state is unchanged then.
        """
        type_ = event["type"]
        if type_ == t.STATE_SNAPSHOT:
            # The snapshot is copied, because an agent may go on changing the object that it sent.
            self._state = copy_json(event.get("snapshot"))
            self._lent = False
        elif type_ == t.STATE_DELTA:
            return self._patch(event.get("delta"))
        return True

    def _patch(self, delta: Any) -> bool:
        if self._lent:
            self._state = copy_json(self._state)
            self._lent = False
        self.declined = None
        try:
            document = {} if self._state is _NOTHING else self._state
            self._state = apply_patch(document, delta, self.budget, STATE_DEPTH)
        except EventError as error:
            if isinstance(error, PatchDeclined):
                self.declined = error
            return False
        return True


def is_none(state: Any) -> bool:
    """Whether client 0.0.59 takes ``state`` for no state, and goes on showing the one before it.

    The client does so for values that are false in JavaScript: null, false, 0 and "".
    """
    return not state and not isinstance(state, dict | list)


def fold_state(events: Iterable[Event]) -> Any:
    """The state after all of ``events``; None if no event sets or changes it.

    A delta that does not apply is skipped.
    """
    folder = StateFolder()
    for event in events:
        folder.feed(event)
    return folder.state
