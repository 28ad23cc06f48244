"""The parts of an event that only the runtime knows: the input of its run, and the ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import Struct

from ..events.types import Event
from ..stores.protocol import RunKey
from .compacted_result import messages_of

COMPLETED: Final = frozenset({"RUN_STARTED", "RUN_FINISHED"})
"""The types of events that are incomplete until the runtime has filled them in."""

# RUN_STARTED events may take this many bytes before one goes without the run's input, because a
# stream of many runs would otherwise have as many copies of it.
_REPEATED_INPUT_BYTES: Final = 64 * 1024
_OWN: Final = ("state", "resume")
"""The members of a run's own input that no agent tells."""


class Completion(Struct, eq=False):
    """Fills in the events of one run.

    :param key: the run.
    :param input: its input as JSON; None for a run that stores nothing.
    :param known: ids of the messages of the input that need not be repeated.
    :param input_bytes: bytes that RUN_STARTED events may take until one goes without the input.
    """

    key: RunKey
    input: Mapping[str, Any] | None
    known: Collection[str]
    input_bytes: int = _REPEATED_INPUT_BYTES

    def __call__(self, event: Event) -> Event:
        """``event`` with its missing members."""
        kind = event["type"]
        # The first RUN_STARTED always has the input, because no byte has been used up before it.
        if kind == "RUN_STARTED" and self.input and self.input_bytes > 0:
            given = self.input
            if self.known or not isinstance(given.get("messages"), list):
                news = [m for m in messages_of(given) if m.get("id") not in self.known]
                given = {**given, "messages": news}
            if event.get("input"):
                given = _united(given, event["input"])
            return {**event, "input": given}
        if kind == "RUN_FINISHED" and not ("threadId" in event and "runId" in event):
            # The AG-UI schema requires both ids, and a strict reader drops the stream without them.
            key = self.key
            return {**event, "threadId": key.thread_id, "runId": key.run_id, **event}
        return event


def _united(ours: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The input ``told`` by an agent, with the messages of the run's own in front, and its state
    and answers instead.

    An agent behind another runtime leaves out the messages that the other has already. The client
    shows them, and so must a reload. Whoever ends the run in its owner's place goes by the state
    and the answers that the run was given, and clients take neither from an input.
    """
    ids = {message.get("id") for message in ours["messages"]}
    others = [message for message in messages_of(told) if message.get("id") not in ids]
    own = {name: ours[name] for name in _OWN if name in ours}
    kept = {name: value for name, value in told.items() if name in own or name not in _OWN}
    return {**kept, **own, "messages": [*ours["messages"], *others]}
