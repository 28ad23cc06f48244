"""Snapshots of the state in a replay: each replaces the state events since the last one.

If every group of events became a snapshot, a large state that changes a little, again and again,
would be written again and again. So a snapshot may take only as many bytes as it saves: the first
one as many as the state that the run began with, and each further one as many as the events that it
replaces. If a snapshot would take more, the events are kept.

If it is not known whether the state that the deltas are about is an empty object or null, one delta
takes the place of the snapshot. It adds each member that the others have changed, as it is in the
end. That makes the same of any object, because the others apply to an empty one, and so use no
member that they have not added. It does not apply to null, as the others do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from . import types as t
from .json_values import measure
from .state import StateFolder, is_none
from .types import Event

# Snapshots of the state may take this many bytes of JSON more than the events that they stand for.
_FREE_SNAPSHOTS: Final = 8 * 1024
# The least state event has about this many bytes of JSON.
_LEAST: Final = 64


class StateSnapshots(Struct, eq=False):
    """The state events of a stream, and the snapshots that stand for them.

    :ivar folder: has the state after the events so far.
    :ivar events: the events that no snapshot stands for yet; those before the last STATE_SNAPSHOT
        are not kept.
    :ivar shown: the events behind which they come, which make the state that client 0.0.59 goes on
        showing when there is none any more.
    :ivar changed: the members that the events have changed, by their paths, if the state before
        them is an empty object or null; None if it is known.
    """

    folder: StateFolder
    events: list[Event] = []
    shown: Sequence[Event] = ()
    changed: dict[str, str] | None = None
    # An event about the whole state may apply to null, so that no other delta can stand for it.
    _is_whole: bool = False
    _metadata: dict[str, Any] | None = None
    # These three are bytes of JSON: the size of the events since the last snapshot, the size at
    # which the next snapshot is tried, and the size that snapshots may take beyond the events.
    _said: int = 0
    _snapshot_at: float = 0
    _free: int = _FREE_SNAPSHOTS

    def feed(self, event: Event) -> bool:
        """Take a state event; returns whether it applies to the state."""
        if self.events and _removes_state(event) and not self.folder.is_none:
            self.shown = self.take()
        made = self.folder.budget.made
        if not self.folder.feed(event):
            return False
        self._said += self.folder.budget.made - made + _LEAST
        if event["type"] == t.STATE_SNAPSHOT:
            self._said += measure(event.get("snapshot"))[0]
            self.events.clear()
            self.changed, self._is_whole = None, False
        elif self.changed is not None:
            self._is_whole = not _add_members(event["delta"], self.changed) or self._is_whole
        self.events.append(event)
        metadata = event.get("metadata")
        if metadata is not None:
            self._metadata = {} if self._metadata is None else self._metadata
            self._metadata.update(metadata)
        return True

    def take(self) -> list[Event]:
        """A snapshot for the events since the last one, or these events; [] if there are none."""
        shown, self.shown = self.shown, ()
        events = self._take()
        is_whole = len(events) == 1 and events[0]["type"] == t.STATE_SNAPSHOT
        return events if is_whole and not self.folder.is_none else [*shown, *events]

    def _take(self) -> list[Event]:
        events, self.events = self.events, []
        if events and not self._is_whole and self._said >= self._snapshot_at and self._pays():
            one: Event = {"type": t.STATE_SNAPSHOT, "snapshot": self.folder.state}
            if self.changed is not None:
                one = {"type": t.STATE_DELTA, "delta": _patch_of(self.folder.state, self.changed)}
            if self._metadata is not None:
                one["metadata"] = self._metadata
            events = [one]
        self._metadata = None
        if self.changed is not None:
            self.changed.clear()
        return events

    def _pays(self) -> bool:
        """Whether the events since the last snapshot pay for another one."""
        if self._snapshot_at:
            size, _ = measure(self.folder.state, self._said + self._free)
            if size > self._said + self._free:
                # This measurement has cost as much as a snapshot, so that the next one waits for
                # events of as many bytes.
                self._free = 0
                self._snapshot_at = 2 * self._said
                return False
            self._free -= max(0, size - self._said)
        self._said = 0
        self._snapshot_at = 1
        return True


def _add_members(patch: list[dict[str, Any]], members: dict[str, str]) -> bool:
    """Add the members of the state that ``patch``, which applies, is about to ``members``.

    :returns: whether it is about members alone, and not about the whole state.
    """
    for operation in patch:
        pointers = [operation["path"]]
        if operation["op"] in ("move", "copy"):
            pointers.append(operation["from"])
        for pointer in pointers:
            if not pointer:
                return False
            token = pointer.split("/", 2)[1]
            members["/" + token] = token.replace("~1", "/").replace("~0", "~")
    return True


def _patch_of(state: dict[str, Any], members: dict[str, str]) -> list[dict[str, Any]]:
    """The patch that gives ``members`` the values that they have in ``state``."""
    patch: list[dict[str, Any]] = []
    for path, name in members.items():
        patch.append({"op": "add", "path": path, "value": state.get(name)})
        if name not in state:
            patch.append({"op": "remove", "path": path})
    return patch


def _removes_state(event: Event) -> bool:
    """Whether ``event`` may leave no state, for a client that takes some values for none."""
    if event["type"] == t.STATE_SNAPSHOT:
        return is_none(event.get("snapshot"))
    delta = event.get("delta")
    return isinstance(delta, list) and any(
        isinstance(op, dict) and op.get("path") == "" and is_none(op.get("value")) for op in delta
    )
