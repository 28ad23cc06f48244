"""Compaction: fewer events that fold to the same messages and the same state.

What a thread has been through is replayed to every client that connects. The deltas of a message
or tool call become one, and all state events of a run one snapshot. That is done in place: each
event stays where it was, and the deltas go where the first of them was, up to an event that says
something else of the same message. So nothing that can be seen changes, whatever overlaps.

The reference also puts the events of a message next to each other, at its end; see
:mod:`.arrange`. As long as that folds to the same, it is done here too. If not, because messages
overlap or a MESSAGES_SNAPSHOT arrived inside of one, everything stays where it was: **what a
reload shows is what was shown live**.

Source: ``compactEvents`` of ``@ag-ui/client`` 0.0.59, with three differences: the one above; state
carries over from run to run, as it does for the client that was there, where the reference starts
each run from an empty object; and a delta that does not apply is kept where it is, where the
reference dies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from . import types as t
from .arrange import STREAMED, arrange
from .conversation import Message
from .messages import MessageFolder
from .patch import PatchBudget, PatchRefused
from .state import StateFolder
from .types import Event, EventError
from .values import measure
from .verify import verify_events

# What snapshots of the state may take beyond what was said, in bytes of JSON; see _flush_state.
_FREE_SNAPSHOTS: Final = 8 * 1024
# About what the least state event is.
_LEAST: Final = 64


class _Content:
    """The deltas of a message or tool call, which become one event."""

    __slots__ = ("_fields", "_metadata", "parts")

    def __init__(self, type_: str, id_field: str, entity_id: str) -> None:
        self._fields: Event = {"type": type_, id_field: entity_id}
        self._metadata: dict[str, Any] | None = None
        self.parts: list[str] = []

    def add(self, event: Event) -> None:
        self.parts.append(event["delta"])
        metadata = event.get("metadata")
        if metadata is not None:
            self._metadata = {} if self._metadata is None else self._metadata
            self._metadata.update(metadata)

    def join(self) -> None:
        """Make one of the pieces, which take more room."""
        self.parts[:] = ["".join(self.parts)]

    def event(self) -> Event:
        event = {**self._fields, "delta": "".join(self.parts)}
        if self._metadata is not None:
            event["metadata"] = {**self._metadata}
        return event


class Compactor:
    """Compacts one event stream while it goes by.

    The events it is given are not changed, but kept and handed out again: whoever feeds it must
    not change them either.

    :param state: the state before the first event; None for an empty object.
    :param budget: what its deltas may make beyond what they say; None for the default.
    :param messages: the conversation before the first event, as AG-UI messages.
    """

    __slots__ = (
        "_args",
        "_folder",
        "_free",
        "_has_state",
        "_in_place",
        "_log",
        "_messages",
        "_open",
        "_said",
        "_snapshot_at",
        "_state_events",
        "_state_metadata",
        "_tangled",
        "_texts",
        "skipped",
    )

    def __init__(
        self,
        state: Any = None,
        budget: PatchBudget | None = None,
        messages: Iterable[Message] = (),
    ) -> None:
        self._messages = messages
        self._log: list[Event | _Content] = []
        # Where the next delta of a message or tool call goes, by its id.
        self._texts: dict[str, _Content] = {}
        self._args: dict[str, _Content] = {}
        # What has started and not ended; a message and a call may have the same id.
        self._open: set[tuple[str, str]] = set()
        # Whether the order of the reference may fold to something else.
        self._tangled = False
        # Whether a snapshot of messages arrived inside of one. What it does to an activity whose id
        # it has is not the same in all generations of the client, so that no fold can tell for all.
        self._in_place = False
        self._folder = StateFolder(state, budget)
        self._has_state = False
        # Those that no snapshot stands for yet, but what is before the last STATE_SNAPSHOT.
        self._state_events: list[Event] = []
        self._state_metadata: dict[str, Any] | None = None
        # In bytes of JSON: how much was said of the state since the last snapshot, when that is
        # enough to look whether there can be another, and what snapshots may take besides.
        self._said = 0
        self._snapshot_at: float = 0
        self._free = _FREE_SNAPSHOTS
        #: How many deltas did not apply to the state, and were kept as they are.
        self.skipped = 0

    @property
    def state(self) -> Any:
        """The state after what was fed so far; None if there was none. It is not to be changed."""
        return self._folder.state

    @property
    def has_state(self) -> bool:
        """Whether an event has set or changed the state."""
        return self._has_state

    @property
    def refused(self) -> PatchRefused | None:
        """Why a delta did not apply that made too much; None if none did."""
        return self._folder.refused

    def feed(self, event: Event) -> None:
        """Take the next event of the stream."""
        handler = _HANDLERS.get(event["type"])
        if handler is None:
            self._log.append(event)
        else:
            handler(self, event)

    def continuation(self, event: Event) -> Callable[[str], object]:
        """What takes a further delta of the message or tool call that ``event`` was a delta of.

        It is the same as to feed that delta, as long as nothing else is fed.
        """
        if event["type"] == t.TOOL_CALL_ARGS:
            return self._args[event["toolCallId"]].parts.append
        return self._texts[event["messageId"]].parts.append

    def finish(self) -> list[Event]:
        """The compacted events, with what is still open at the end.

        More may be fed, once nothing is open; what follows is then compacted for itself.
        """
        events = [item.event() if isinstance(item, _Content) else item for item in self._log]
        if not self._in_place:
            arranged = arrange(events)
            if not self._tangled or self._is_the_same(events, arranged):
                events = arranged
        before = len(self._log)
        self._flush_state()
        # The last state comes last, as in the reference.
        return [*events, *cast("list[Event]", self._log[before:])]

    def _is_the_same(self, events: list[Event], arranged: list[Event]) -> bool:
        """Whether a client that reads ``arranged`` sees what it would see of ``events``."""
        if _others(events) != _others(arranged) or (_is_valid(events) > _is_valid(arranged)):
            return False
        first, second = MessageFolder(self._messages), MessageFolder(self._messages)
        for event in events:
            first.feed(event)
        for event in arranged:
            second.feed(event)
        same = first.current == second.current
        first.close()
        second.close()
        return same

    # -- messages and tool calls -----------------------------------------------------------

    def _text_start(self, event: Event) -> None:
        self._start(("text", event["messageId"]))
        self._say_of_message(event["messageId"])
        self._log.append(event)

    def _text_content(self, event: Event) -> None:
        message_id = event["messageId"]
        content = self._texts.get(message_id)
        if content is None:
            content = _Content(t.TEXT_MESSAGE_CONTENT, "messageId", message_id)
            self._texts[message_id] = content
            self._log.append(content)
            self._tangled = self._tangled or ("text", message_id) not in self._open
        content.add(event)

    def _text_end(self, event: Event) -> None:
        self._end(("text", event["messageId"]))
        self._say_of_message(event["messageId"])
        self._log.append(event)

    def _tool_start(self, event: Event) -> None:
        call_id = event["toolCallId"]
        self._start(("call", call_id))
        self._say_of_call(call_id)
        # It may make a message with either id.
        self._say_of_message(call_id)
        self._say_of_message(event.get("parentMessageId"))
        self._log.append(event)

    def _tool_args(self, event: Event) -> None:
        call_id = event["toolCallId"]
        content = self._args.get(call_id)
        if content is None:
            content = _Content(t.TOOL_CALL_ARGS, "toolCallId", call_id)
            self._args[call_id] = content
            self._log.append(content)
            self._tangled = self._tangled or ("call", call_id) not in self._open
        content.add(event)

    def _tool_end(self, event: Event) -> None:
        self._end(("call", event["toolCallId"]))
        self._say_of_call(event["toolCallId"])
        self._log.append(event)

    def _one_message(self, event: Event) -> None:
        """What says something of one message, and is no text."""
        self._tangled = self._tangled or bool(self._open)
        message_id = event.get("messageId")
        if isinstance(message_id, str):
            self._say_of_message(message_id)
        self._log.append(event)

    def _all_messages(self, event: Event) -> None:
        """What may say something of any message, or tool call."""
        self._tangled = self._tangled or bool(self._open)
        for contents in (self._texts, self._args):
            for content in contents.values():
                content.join()
            contents.clear()
        self._log.append(event)

    def _start(self, entity: tuple[str, str]) -> None:
        self._tangled = self._tangled or bool(self._open)
        self._open.add(entity)

    def _end(self, entity: tuple[str, str]) -> None:
        self._tangled = self._tangled or entity not in self._open
        self._open.discard(entity)

    def _say_of_message(self, message_id: str | None) -> None:
        if message_id in self._texts:
            self._texts.pop(message_id).join()

    def _say_of_call(self, call_id: str) -> None:
        if call_id in self._args:
            self._args.pop(call_id).join()

    # -- runs and state --------------------------------------------------------------------

    def _messages_snapshot(self, event: Event) -> None:
        self._in_place = self._in_place or bool(self._open)
        self._all_messages(event)

    def _run_boundary(self, event: Event) -> None:
        self._flush_state()
        self._all_messages(event)

    def _state_event(self, event: Event) -> None:
        made = self._folder.budget.made
        if not self._folder.feed(event):
            self.skipped += 1
            self._flush_state()
            self._log.append(event)
            return
        self._said += self._folder.budget.made - made + _LEAST
        if event["type"] == t.STATE_SNAPSHOT:
            self._said += measure(event.get("snapshot"))[0]
            self._state_events.clear()
        self._has_state = True
        self._state_events.append(event)
        metadata = event.get("metadata")
        if metadata is not None:
            self._state_metadata = {} if self._state_metadata is None else self._state_metadata
            self._state_metadata.update(metadata)

    def _flush_state(self) -> None:
        """Let a snapshot of the state stand for the events since the last one, if there are any.

        A large state that changes a little, again and again, would so be written each time. So
        the first snapshot is paid for by what the run began with, and each further one by what
        was said since. If that is not enough, the events themselves are kept.
        """
        if not self._state_events:
            return
        if self._said >= self._snapshot_at and self._pays():
            snapshot: Event = {"type": t.STATE_SNAPSHOT, "snapshot": self._folder.state}
            if self._state_metadata is not None:
                snapshot["metadata"] = self._state_metadata
            self._log.append(snapshot)
        else:
            self._log.extend(self._state_events)
        self._state_events.clear()
        self._state_metadata = None

    def _pays(self) -> bool:
        if self._snapshot_at:
            size, _ = measure(self._folder.state, self._said + self._free)
            if size > self._said + self._free:
                # To find that out has cost as much. It is not worth while again before as much
                # has been said once more.
                self._free = 0
                self._snapshot_at = 2 * self._said
                return False
            self._free -= max(0, size - self._said)
        self._said = 0
        self._snapshot_at = 1
        return True


_HANDLERS: Final[dict[str, Callable[[Compactor, Event], None]]] = {
    t.TEXT_MESSAGE_START: Compactor._text_start,
    t.TEXT_MESSAGE_CONTENT: Compactor._text_content,
    t.TEXT_MESSAGE_END: Compactor._text_end,
    t.TOOL_CALL_START: Compactor._tool_start,
    t.TOOL_CALL_ARGS: Compactor._tool_args,
    t.TOOL_CALL_END: Compactor._tool_end,
    t.TOOL_CALL_RESULT: Compactor._one_message,
    t.REASONING_MESSAGE_START: Compactor._one_message,
    t.REASONING_MESSAGE_CONTENT: Compactor._one_message,
    t.REASONING_MESSAGE_END: Compactor._one_message,
    t.REASONING_ENCRYPTED_VALUE: Compactor._one_message,
    t.ACTIVITY_SNAPSHOT: Compactor._one_message,
    t.ACTIVITY_DELTA: Compactor._one_message,
    t.MESSAGES_SNAPSHOT: Compactor._messages_snapshot,
    t.RUN_STARTED: Compactor._run_boundary,
    t.RUN_FINISHED: Compactor._run_boundary,
    t.RUN_ERROR: Compactor._run_boundary,
    t.STATE_SNAPSHOT: Compactor._state_event,
    t.STATE_DELTA: Compactor._state_event,
}


def _others(events: list[Event]) -> list[int]:
    """What the reference may put elsewhere, by identity: it has to stay in its own order."""
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
