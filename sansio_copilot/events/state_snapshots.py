"""Snapshots of the state in a replay: each replaces the state events since the last one.

If every group of events became a snapshot, a large state that changes a little, again and again,
would be written again and again. So a snapshot may take only as many bytes as it saves: the first
one as many as the state that the run began with, and each further one as many as the events that it
replaces. If a snapshot would take more, the events are kept.
"""

from __future__ import annotations

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
    """

    folder: StateFolder
    events: list[Event] = []
    shown: list[Event] = []
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
        self.events.append(event)
        metadata = event.get("metadata")
        if metadata is not None:
            self._metadata = {} if self._metadata is None else self._metadata
            self._metadata.update(metadata)
        return True

    def take(self) -> list[Event]:
        """A snapshot for the events since the last one, or these events; [] if there are none."""
        shown, self.shown = self.shown, []
        events = self._take()
        is_whole = len(events) == 1 and events[0]["type"] == t.STATE_SNAPSHOT
        return events if is_whole and not self.folder.is_none else [*shown, *events]

    def _take(self) -> list[Event]:
        events, self.events = self.events, []
        if events and self._said >= self._snapshot_at and self._pays():
            snapshot: Event = {"type": t.STATE_SNAPSHOT, "snapshot": self.folder.state}
            if self._metadata is not None:
                snapshot["metadata"] = self._metadata
            events = [snapshot]
        self._metadata = None
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


def _removes_state(event: Event) -> bool:
    """Whether ``event`` may leave no state, for a client that takes some values for none."""
    if event["type"] == t.STATE_SNAPSHOT:
        return is_none(event.get("snapshot"))
    delta = event.get("delta")
    return isinstance(delta, list) and any(
        isinstance(op, dict) and op.get("path") == "" and is_none(op.get("value")) for op in delta
    )
