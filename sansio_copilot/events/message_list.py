"""A conversation: messages in order, found by their id, and changed in the middle at no cost.

An event may put a message anywhere: a tool result goes behind the results of its call, a snapshot
drops some messages and keeps others, an activity takes the place of a text. In a Python list each
of these costs as much as the list is long, and a stream of them costs its square. So the messages
form a doubly linked list, with an index by id and another by tool call.

The messages of role ``tool`` that stand next to each other are a *row*. Its first entry knows its
last one, and the other way round, so that the place behind it is found without a walk.

Entries refer to each other in circles, and messages may be large. So the user of a conversation
closes it in the end, because otherwise the memory comes back only when the garbage collector runs.
A ``__del__`` method could not do it, because the collector also calls that of objects that live on,
such as a run that is ended because its event loop was dropped.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from msgspec import Struct

Message = dict[str, Any]

_CLIENT_ROLES: Final = ("activity", "reasoning")
# The edge of each conversation has this empty message, because the edge is an Entry, and every
# Entry has a message.
_NOTHING: Final[Message] = {}


class Entry(Struct, eq=False):
    """A message in its place. The code that makes an entry also links it to its neighbours.

    :ivar order: entries are in the order of these numbers.
    :ivar parts: the pieces that are being streamed, behind the content that was there before.
    :ivar before: the entry before it, or the edge.
    :ivar after: the entry behind it, or the edge.
    :ivar mate: if it is an end of a row, the row's other end.
    """

    message: Message
    order: int
    role: Any
    parts: list[str] | None = None
    gone: bool = False
    before: Entry = None  # type: ignore[assignment]
    after: Entry = None  # type: ignore[assignment]
    mate: Entry = None  # type: ignore[assignment]

    def hold(self, message: Message) -> None:
        """Have another message in this place."""
        self.message = message
        self.role = message.get("role")
        self.parts = None

    def part(self) -> None:
        """Refer to no entry any more."""
        del self.before, self.after, self.mate
        self.gone = True

    def stream(self) -> list[str]:
        """The list that takes the next pieces of the content."""
        if self.parts is None:
            content = self.message.get("content")
            self.parts = [content if isinstance(content, str) else ""]
        return self.parts

    def settle(self) -> None:
        """Join the pieces that are being streamed, so that the message is whole."""
        if self.parts is not None:
            self.message["content"] = "".join(self.parts)
            self.parts = None


class FoldedCall:
    """A tool call, and the entry of the message that holds it."""

    __slots__ = ("carrier", "fields", "parts")

    def __init__(self, fields: dict[str, Any], carrier: Entry) -> None:
        self.fields = fields
        self.carrier = carrier
        self.parts: list[str] | None = None

    def stream(self) -> list[str]:
        """The list that takes the next pieces of the arguments."""
        if self.parts is None:
            arguments = self.fields["function"].get("arguments")
            self.parts = [arguments if isinstance(arguments, str) else ""]
        return self.parts

    def settle(self) -> None:
        """Join the pieces that are being streamed, so that the arguments are whole."""
        if self.parts is not None:
            self.fields["function"]["arguments"] = "".join(self.parts)
            self.parts = None


class Conversation:
    """Messages in order. If an id occurs twice, the first message that has it is found."""

    __slots__ = ("_client_only", "_count", "_edge", "_others", "_twins", "by_id", "calls")

    def __init__(self) -> None:
        # The edge stands before the first entry and behind the last one, so that no entry lacks a
        # neighbour, and linking needs no special case.
        self._edge = edge = Entry(_NOTHING, 0, None)
        edge.before = edge.after = edge
        self._count = 0
        self.by_id: dict[str | None, Entry] = {}
        """The entry of each message, by its id; only this class changes it."""
        # The dict has the further entries of an id, because an agent may give two messages the same
        # id, and `by_id` has only the first of them.
        self._twins: dict[str, deque[Entry]] = {}
        self.calls: dict[str, FoldedCall] = {}
        """The tool calls, by their ids; only this class changes it."""
        # These ordered sets hold the messages that exist on the client alone, by their roles. Most
        # snapshots keep them, so that all messages should not be walked for each snapshot.
        self._client_only: dict[str, dict[Entry, None]] = {}
        # This ordered set holds all other messages.
        self._others: dict[Entry, None] = {}

    def close(self) -> None:
        """Part the entries, which are needed no longer."""
        entry = self._edge
        while not entry.gone:
            after, entry.gone = entry.after, True
            del entry.before, entry.after, entry.mate
            entry = after

    def messages(self) -> list[Message]:
        """The messages in order, each of them whole."""
        for call in self.calls.values():
            call.settle()
        messages = []
        entry = self._edge.after
        while entry is not self._edge:
            if entry.parts is not None:
                entry.settle()
            messages.append(entry.message)
            entry = entry.after
        return messages

    def append(self, message: Message, before: Entry | None = None) -> Entry:
        """Put a message at the end, or behind the entry ``before``."""
        if before is None:
            self._count += 1
            before, order = self._edge.before, self._count
        else:
            order = before.order
        entry, after = Entry(message, order, message.get("role")), before.after
        entry.before, entry.after, entry.mate = before, after, entry
        before.after = after.before = entry
        if entry.role == "tool":
            self._join_row(entry)
        first = self.by_id.setdefault(message["id"], entry)
        if first is not entry:
            self._add_twin(entry, first)
        role = entry.role
        alike = self._client_only.setdefault(role, {}) if role in _CLIENT_ROLES else self._others
        alike[entry] = None
        if "toolCalls" in message:
            self._add_calls(entry)
        return entry

    def add_result(self, message: Message, carrier: Entry) -> Entry:
        """Put a message behind those of role ``tool`` that follow ``carrier``."""
        return self.append(message, carrier.after.mate if carrier.after.role == "tool" else carrier)

    def add_call(self, fields: dict[str, Any], carrier: Entry) -> None:
        """Add a tool call, whose id is not taken, to the message of ``carrier``."""
        if not isinstance(carrier.message.get("toolCalls"), list):
            carrier.message["toolCalls"] = []
        carrier.message["toolCalls"].append(fields)
        self.calls[fields["id"]] = FoldedCall(fields, carrier)

    def replace(self, entry: Entry, message: Message) -> None:
        """Put a message with the same id in the place of another."""
        self._forget(entry)
        self._swap(entry, message)

    def merge(self, snapshot: list[Message]) -> None:
        """Become ``snapshot``, but keep the order, and the messages that only clients have.

        Activities and reasoning exist on the client alone, unless the snapshot has some. Then it
        has all of them, and those that it leaves out are dropped. A message that is replaced is
        kept once, even if it was there several times, because a short snapshot could make a long
        conversation otherwise.
        """
        latest = {message["id"]: message for message in snapshot}
        roles = {message.get("role") for message in snapshot}
        known = [role for role in _CLIENT_ROLES if role in roles]
        entries = [*self._others, *(e for role in known for e in self._client_only.get(role, ()))]
        for entry in entries:
            self._forget(entry)
        places: dict[str, Entry] = {}
        for entry in entries:
            place = places.setdefault(entry.message["id"], entry)
            if entry.order < place.order:
                places[entry.message["id"]] = entry
        for entry in entries:
            message_id = entry.message["id"]
            if message_id in latest and places[message_id] is entry:
                self._swap(entry, latest[message_id])
            else:
                self._remove(entry)
        present = {message_id for message_id in latest if message_id in self.by_id}
        for message in snapshot:
            if message["id"] not in present:
                self.append(message)

    # -- the indexes -----------------------------------------------------------------------

    def _add_twin(self, entry: Entry, first: Entry) -> None:
        message_id = entry.message["id"]
        twins = self._twins.setdefault(message_id, deque())
        if first.order > entry.order:
            self.by_id[message_id] = entry
            twins.appendleft(first)
        else:
            twins.append(entry)

    def _add_calls(self, entry: Entry) -> None:
        for call in calls_of(entry.message):
            if call["id"] not in self.calls:
                self.calls[call["id"]] = FoldedCall(call, entry)

    def _forget(self, entry: Entry) -> None:
        role = entry.role
        del (self._client_only[role] if role in _CLIENT_ROLES else self._others)[entry]
        for fields in calls_of(entry.message):
            call = self.calls.get(fields["id"])
            if call is not None and call.carrier is entry:
                del self.calls[fields["id"]]

    # -- the list --------------------------------------------------------------------------

    def _swap(self, entry: Entry, message: Message) -> None:
        was_tool, is_tool = entry.role == "tool", message.get("role") == "tool"
        if was_tool and not is_tool:
            self._split_row(entry)
        entry.hold(message)
        if is_tool and not was_tool:
            self._join_row(entry)
        role = entry.role
        alike = self._client_only.setdefault(role, {}) if role in _CLIENT_ROLES else self._others
        alike[entry] = None
        self._add_calls(entry)

    def _remove(self, entry: Entry) -> None:
        before, after = entry.before, entry.after
        if entry.role == "tool":
            # In the middle of a row nothing is to be done, because its ends stay the same.
            if before.role != "tool" and after.role == "tool":
                _pair(after, entry.mate)
            elif after.role != "tool" and before.role == "tool":
                _pair(entry.mate, before)
        elif before.role == after.role == "tool":
            _pair(before.mate, after.mate)
        before.after, after.before = after, before
        entry.part()
        message_id = entry.message["id"]
        if self.by_id.get(message_id) is entry:
            del self.by_id[message_id]
            twins = self._twins.pop(message_id, deque())
            while twins and twins[0].gone:
                twins.popleft()
            if twins:
                self.by_id[message_id] = twins.popleft()
                self._twins[message_id] = twins

    def _join_row(self, entry: Entry) -> None:
        first = entry.before.mate if entry.before.role == "tool" else entry
        last = entry.after.mate if entry.after.role == "tool" else entry
        _pair(first, last)

    def _split_row(self, entry: Entry) -> None:
        # The search for the ends goes in both directions at once, because many cuts may come; so
        # each cut costs no more than the smaller of the two parts that it leaves.
        left = right = entry
        while left.before.role == "tool" and right.after.role == "tool":
            left, right = left.before, right.after
        first, last = (left, left.mate) if left.before.role != "tool" else (right.mate, right)
        if entry is not first:
            _pair(first, entry.before)
        if entry is not last:
            _pair(entry.after, last)


def _pair(first: Entry, last: Entry) -> None:
    first.mate, last.mate = last, first


def calls_of(message: Message) -> list[dict[str, Any]]:
    """The tool calls of a message; one that a client made up may have anything in their place."""
    calls = message.get("toolCalls")
    if not isinstance(calls, list):
        return []
    return [
        call
        for call in calls
        if isinstance(call, dict)
        and isinstance(call.get("id"), str)
        and isinstance(call.get("function"), dict)
    ]
