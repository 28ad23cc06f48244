"""Compaction: fewer events that fold to the same messages and the same state.

The history of a thread is replayed to every client that connects. The deltas of a message or tool
call become one, and all state events of a run become one snapshot. That is done in place: each
event stays where it was, and the deltas go where the first of them was, up to another event about
the same message. So a client sees no difference, whatever overlaps.

The reference also puts the events of a message next to each other, at its end; see
:mod:`.replay_order`. As long as that folds to the same, it is done here too. If not, because
messages overlap or a MESSAGES_SNAPSHOT arrived inside of one, everything stays where it was: **what
a reload shows is what was shown live**.

Source: ``compactEvents`` of ``@ag-ui/client`` 0.0.59, with three differences: the one above; state
carries over from run to run, as it does for the client that was there, where the reference starts
each run from an empty object; and a delta that does not apply is kept where it is, where the
reference dies on it. Deltas behind it are kept too, up to the next snapshot, because some clients
apply more than RFC 6902 allows, so that their state may be another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from msgspec import Struct

from . import types as t
from .message_folder import MessageFolder
from .message_list import Message
from .patch import PatchBudget, PatchDeclined, PatchHarmful
from .replay_order import STREAMED, arrange
from .state import StateFolder
from .state_snapshots import StateSnapshots
from .types import Event, EventError
from .verify import verify_events


class _DeltaKind(Struct, frozen=True):
    """Messages or tool calls, whose deltas become one event of this type.

    :param id_field: the member that has the id.
    """

    content_type: str
    id_field: str


_TEXT: Final = _DeltaKind(t.TEXT_MESSAGE_CONTENT, "messageId")
_CALL: Final = _DeltaKind(t.TOOL_CALL_ARGS, "toolCallId")


class _JoinedDeltas(Struct, eq=False):
    """The deltas of a message or tool call, which become one event; it has these fields too."""

    fields: Event
    parts: list[str] = []
    metadata: dict[str, Any] | None = None

    def add(self, event: Event) -> None:
        self.parts.append(event["delta"])
        metadata = event.get("metadata")
        if metadata is not None:
            self.metadata = {} if self.metadata is None else self.metadata
            self.metadata.update(metadata)

    def join(self) -> None:
        """Join the pieces to one, because pieces take more room."""
        self.parts[:] = ["".join(self.parts)]

    def event(self) -> Event:
        event = {**self.fields, "delta": "".join(self.parts)}
        if self.metadata is not None:
            event["metadata"] = {**self.metadata}
        return event


class Compactor:
    """Compacts one event stream while it goes by.

    The events that it is fed are not changed, but kept and handed out again, so that its user must
    not change them either.

    :param state: the state before the first event; None for an empty object.
    :param budget: the budget of the deltas of its state; None for the default.
    :param messages: the conversation before the first event, as AG-UI messages.
    :param knows_state: whether ``state`` is what clients have. It is not for one that has null,
        because what it sends counts as absent. Of the deltas in front of the first snapshot one
        delta is made then (:mod:`.state_snapshots`).
    """

    __slots__ = (
        *("_contents", "_has_guests", "_in_place", "_joins_deltas", "_log", "_messages", "_open"),
        *("_states", "_tangled", "has_state", "skipped"),
    )

    def __init__(
        self,
        state: Any = None,
        budget: PatchBudget | None = None,
        messages: Iterable[Message] = (),
        *,
        knows_state: bool = True,
    ) -> None:
        self._messages = messages
        self._log: list[Event | _JoinedDeltas] = []
        # The key of a content has its kind beside its id, because a message and a tool call may
        # have the same id.
        self._contents: dict[tuple[_DeltaKind, str | None], _JoinedDeltas] = {}
        # These entities have started and not ended. The dict stands in for a set, because an empty
        # set takes three times as much.
        self._open: dict[tuple[_DeltaKind, str], None] = {}
        # The flag is set once messages or tool calls overlap, because the order in which the
        # reference puts them may then fold to something else.
        self._tangled = False
        # The flag is set once an event that is about no message has arrived inside of a message.
        self._has_guests = False
        # The flag is set once a snapshot of messages has arrived inside of a message. No single
        # fold is right for all clients then, because their generations differ in what a snapshot
        # does to an activity with the same id.
        self._in_place = False
        changed: dict[str, str] | None = None if knows_state else {}
        self._states = StateSnapshots(StateFolder(state, budget), changed=changed)
        # The flag is unset from a delta that does not apply here up to the next snapshot, because a
        # client may have applied it, and has another state then.
        self._joins_deltas = True
        self.has_state = False
        """Whether an event has set or changed the state."""
        #: The number of deltas that did not apply to the state, and were kept as they are.
        self.skipped = 0

    @property
    def kept(self) -> list[Event]:
        """The events so far, in order, but for deltas of messages and tool calls, and of state."""
        return [item for item in self._log if not isinstance(item, _JoinedDeltas)]

    @property
    def state(self) -> Any:
        """The state after the events so far; None if there is no state. It must not be changed."""
        return self._states.folder.state

    @property
    def declined(self) -> PatchDeclined | None:
        """The error of the last delta of the state, if it was declined rather than wrong."""
        return self._states.folder.declined

    def feed(self, event: Event) -> None:
        """Take the next event of the stream."""
        HANDLERS.get(event["type"], KEEP)(self, event)

    def _keep(self, event: Event) -> None:
        self._has_guests = self._has_guests or bool(self._open)
        self._log.append(event)

    def continuation(self, event: Event) -> Callable[[str], object]:
        """A function that takes a further delta of the message that ``event`` was a delta of.

        A tool call will do as well. Calling it is the same as feeding that delta, as long as no
        other event is fed.
        """
        kind = _CALL if event["type"] == t.TOOL_CALL_ARGS else _TEXT
        return self._contents[kind, event[kind.id_field]].parts.append

    def finish(self) -> list[Event]:
        """The compacted events; those of messages that are still open come at the end.

        More events may be fed once no message is open. They are then compacted for themselves.
        """
        events = [item.event() if isinstance(item, _JoinedDeltas) else item for item in self._log]
        # Only these events are arranged, because messages that came one after the other, with
        # nothing inside of them, are in order already.
        if (self._tangled or self._has_guests) and not self._in_place:
            arranged = arrange(events)
            if not self._tangled or self._is_the_same(events, arranged):
                events = arranged
        if self._states.events or self._states.shown:
            # The last state comes last, as in the reference.
            last = self._states.take()
            self._log += last
            events += last
        return events

    def _is_the_same(self, events: list[Event], arranged: list[Event]) -> bool:
        """Whether a client shows the same for ``arranged`` as for ``events``."""
        if _others(events) != _others(arranged) or (_is_valid(events) > _is_valid(arranged)):
            return False
        first, second = MessageFolder(self._messages), MessageFolder(self._messages)
        for event in events:
            first.feed(event)
        for event in arranged:
            second.feed(event)
        same = first.conversation.messages() == second.conversation.messages()
        first.conversation.close()
        second.conversation.close()
        return same

    # -- messages and tool calls -----------------------------------------------------------

    def _start(self, event: Event, *, kind: _DeltaKind) -> None:
        key = kind, event[kind.id_field]
        self._tangled = self._tangled or bool(self._open)
        self._open[key] = None
        if key in self._contents:
            self._contents.pop(key).join()
        if kind is _CALL:
            # The deltas under both ids are joined up to here, because the tool call makes a message
            # with the id of its parent or, without one, with its own, and later deltas belong to
            # that message.
            self._say_of_message(key[1])
            self._say_of_message(event.get("parentMessageId"))
        self._log.append(event)

    def _delta(self, event: Event, *, kind: _DeltaKind) -> None:
        key = kind, event[kind.id_field]
        content = self._contents.get(key)
        if content is None:
            content = _JoinedDeltas({"type": kind.content_type, kind.id_field: key[1]})
            self._contents[key] = content
            self._log.append(content)
            self._tangled = self._tangled or key not in self._open
        content.add(event)

    def _end(self, event: Event, *, kind: _DeltaKind) -> None:
        key = kind, event[kind.id_field]
        self._tangled = self._tangled or key not in self._open
        self._open.pop(key, None)
        if key in self._contents:
            self._contents.pop(key).join()
        self._log.append(event)

    def _one_message(self, event: Event) -> None:
        """Take an event about one message that is no text."""
        self._tangled = self._tangled or bool(self._open)
        message_id = event.get("messageId")
        if isinstance(message_id, str):
            self._say_of_message(message_id)
        self._log.append(event)

    def _all_messages(self, event: Event) -> None:
        """Take an event that may be about any message or tool call."""
        if event["type"] == t.MESSAGES_SNAPSHOT:
            self._in_place = self._in_place or bool(self._open)
        elif self._states.events or self._states.shown:
            # The state of a run stands before its end, and before the run that follows.
            self._log += self._states.take()
        self._tangled = self._tangled or bool(self._open)
        for content in self._contents.values():
            content.join()
        self._contents.clear()
        self._log.append(event)

    def _say_of_message(self, message_id: str | None) -> None:
        if (_TEXT, message_id) in self._contents:
            self._contents.pop((_TEXT, message_id)).join()

    # -- state -----------------------------------------------------------------------------

    def _state_event(self, event: Event) -> None:
        self._has_guests = self._has_guests or bool(self._open)
        if event["type"] == t.STATE_SNAPSHOT:
            self._joins_deltas = True
        folder = self._states.folder
        if self._states.feed(event) if self._joins_deltas else folder.feed(event):
            self.has_state = True
            if not self._joins_deltas:
                self._log.append(event)
        # A harmful delta is left out, because a client that received it would apply it, and could
        # not send the state back.
        elif not isinstance(self.declined, PatchHarmful):
            self.skipped += 1
            if self._joins_deltas and not self.has_state and folder.state is not None:
                # The state comes first, because the run's deltas are about it, and a replay may not
                # have it.
                self._log.append({"type": t.STATE_SNAPSHOT, "snapshot": folder.state})
            self._log += [*self._states.take(), event]
            self._joins_deltas = False


HANDLERS: Final[dict[str, Callable[[Compactor, Event], None]]] = {
    t.TEXT_MESSAGE_START: partial(Compactor._start, kind=_TEXT),
    t.TEXT_MESSAGE_CONTENT: partial(Compactor._delta, kind=_TEXT),
    t.TEXT_MESSAGE_END: partial(Compactor._end, kind=_TEXT),
    t.TOOL_CALL_START: partial(Compactor._start, kind=_CALL),
    t.TOOL_CALL_ARGS: partial(Compactor._delta, kind=_CALL),
    t.TOOL_CALL_END: partial(Compactor._end, kind=_CALL),
    t.TOOL_CALL_RESULT: Compactor._one_message,
    t.REASONING_MESSAGE_START: Compactor._one_message,
    t.REASONING_MESSAGE_CONTENT: Compactor._one_message,
    t.REASONING_MESSAGE_END: Compactor._one_message,
    t.REASONING_ENCRYPTED_VALUE: Compactor._one_message,
    t.ACTIVITY_SNAPSHOT: Compactor._one_message,
    t.ACTIVITY_DELTA: Compactor._one_message,
    t.MESSAGES_SNAPSHOT: Compactor._all_messages,
    t.RUN_STARTED: Compactor._all_messages,
    t.RUN_FINISHED: Compactor._all_messages,
    t.RUN_ERROR: Compactor._all_messages,
    t.STATE_SNAPSHOT: Compactor._state_event,
    t.STATE_DELTA: Compactor._state_event,
}
"""The method that :meth:`Compactor.feed` calls for each type of event that is not only kept."""
KEEP: Final = Compactor._keep
"""The method that it calls for all others."""


def _others(events: list[Event]) -> list[int]:
    """The identities of the events that the reference may move, whose order must stay the same."""
    return [id(event) for event in events if event["type"] not in STREAMED]


def _is_valid(events: list[Event]) -> bool:
    """Whether a client reads ``events`` to their end."""
    try:
        verify_events(events)
    except EventError:
        return False
    return True


def compact_events(
    events: Iterable[Event], *, state: Any = None, messages: Iterable[Message] = ()
) -> list[Event]:
    """``events`` in fewer events that fold to the same; see :class:`Compactor`."""
    compactor = Compactor(state, None, list(messages))
    for event in events:
        compactor.feed(event)
    return compactor.finish()
