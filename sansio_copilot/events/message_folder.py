"""The conversation, folded from the events of its runs.

Source: ``defaultApplyEvents`` of ``@ag-ui/client`` 0.0.59, without its subscribers. One
difference: the reference keeps text events from turning an activity's content into a string, and
here reasoning events are kept from it too.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any, Final

from . import types as t
from .input_shape import ACTIVITY_DEPTH
from .json_values import copy_json
from .message_list import Conversation, Entry, FoldedCall, Message
from .patch import PatchBudget, PatchDeclined, PatchHarmful, apply_patch
from .types import Event, EventError


class MessageFolder:
    """The messages after each event of a stream.

    An event that refers to a message or tool call that is not there is ignored, as is a message
    without an id.

    A delta costs the same however long the conversation and the message are, because entities are
    found by id, and text is joined only when its message ends or is looked at. Any other event
    costs time that is linear in its size.

    :param messages: the conversation before the first event, as AG-UI messages.
    :param budget: the budget of the patches of activities; None for the default.
    """

    __slots__ = ("budget", "conversation", "declined")

    def __init__(self, messages: Iterable[Message] = (), budget: PatchBudget | None = None) -> None:
        adopted = _adopt(list(messages))
        self.conversation = Conversation()
        """The messages themselves, to be read at once and not to be changed."""
        for message in adopted:
            self.conversation.append(message)
        self.budget = PatchBudget() if budget is None else budget
        self.declined: PatchDeclined | None = None
        """The error of the last ACTIVITY_DELTA, if it was declined rather than wrong."""

    @property
    def messages(self) -> list[Message]:
        """A copy of the conversation so far."""
        return [copy_json(message) for message in self.conversation.messages()]

    def feed(self, event: Event) -> None:
        """Apply one event; one that has no effect on messages is ignored."""
        handler = HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event)

    def continuation(self, event: Event) -> Callable[[str], object] | None:
        """Return a function that takes the next delta of a message or tool call.

        ``event`` was the delta before it. Calling the function is the same as feeding that delta,
        as long as no other event is fed and :attr:`messages` is not looked at.

        :returns: None if it has been looked at, or a delta has no effect.
        """
        entity: FoldedCall | Entry | None
        if event["type"] == t.TOOL_CALL_ARGS:
            entity = self.conversation.calls.get(event["toolCallId"])
        else:
            entity = self.conversation.by_id.get(event["messageId"])
        return None if entity is None or entity.parts is None else entity.parts.append

    # -- events of streams -----------------------------------------------------------------

    def _text_start(self, event: Event) -> None:
        entry = self.conversation.by_id.get(event["messageId"])
        if entry is None:
            message = {"id": event["messageId"], "role": "reasoning", "content": ""}
            if event["type"] == t.TEXT_MESSAGE_START:
                message["role"] = event.get("role") or "assistant"
                if (name := event.get("name")) is not None:
                    message["name"] = name
            self._append(message, event)
        elif entry.role != "activity":
            _add_metadata(entry.message, event)

    def _text_content(self, event: Event) -> None:
        entry = self.conversation.by_id.get(event["messageId"])
        if entry is None or entry.role == "activity":
            return
        entry.stream().append(event["delta"])
        if "metadata" in event:
            _add_metadata(entry.message, event)

    def _text_end(self, event: Event) -> None:
        entry = self.conversation.by_id.get(event["messageId"])
        if entry is None or entry.role == "activity":
            return
        # Pieces take more room than a text. But joining them each time that a message is opened and
        # ended once more would copy the text each time.
        if entry.parts is not None and not entry.parts[0]:
            entry.settle()
        if "metadata" in event:
            _add_metadata(entry.message, event)

    def _tool_start(self, event: Event) -> None:
        call_id = event["toolCallId"]
        call = self.conversation.calls.get(call_id)
        if call is not None:
            # The arguments so far stay, because a client that rejoins, for example, is sent the
            # start again.
            call.fields["function"]["name"] = event["toolCallName"]
            _add_metadata(call.fields, event)
            return
        parent_id = event.get("parentMessageId")
        carrier = self.conversation.by_id.get(parent_id) if parent_id else None
        if carrier is None or carrier.role != "assistant":
            new_id = parent_id if parent_id and carrier is None else call_id
            message = {"id": new_id, "role": "assistant", "toolCalls": []}
            if self.conversation.by_id.get(new_id) is None:
                _add_tag(message, event)
            carrier = self.conversation.append(message)
        fields = {
            "id": call_id,
            "type": "function",
            "function": {"name": event["toolCallName"], "arguments": ""},
        }
        _add_metadata(fields, event)
        self.conversation.add_call(fields, carrier)

    def _tool_args(self, event: Event) -> None:
        call = self.conversation.calls.get(event["toolCallId"])
        if call is None:
            return
        call.stream().append(event["delta"])
        if "metadata" in event:
            _add_metadata(call.fields, event)

    def _tool_end(self, event: Event) -> None:
        call = self.conversation.calls.get(event["toolCallId"])
        if call is None:
            return
        if call.parts is not None and not call.parts[0]:
            call.settle()
        if "metadata" in event:
            _add_metadata(call.fields, event)

    # -- events that are whole -------------------------------------------------------------

    def _tool_result(self, event: Event) -> None:
        result = {
            "id": event["messageId"],
            "toolCallId": event["toolCallId"],
            "role": event.get("role") or "tool",
            "content": event["content"],
        }
        call = self.conversation.calls.get(event["toolCallId"])
        if call is None or call.carrier.role != "assistant":
            self._append(result, event)
            return
        # The result goes behind its call, because providers refuse a history in which something
        # stands between a call and its results.
        _add_tag(result, event)
        _add_metadata(result, event)
        self.conversation.add_result(result, call.carrier)

    def _encrypted_value(self, event: Event) -> None:
        entity_id = event["entityId"]
        if event["subtype"] == "tool-call":
            call = self.conversation.calls.get(entity_id)
            target = None if call is None else call.fields
        else:
            entry = self.conversation.by_id.get(entity_id)
            target = None if entry is None or entry.role == "activity" else entry.message
        if target is not None:
            target["encryptedValue"] = event["encryptedValue"]

    def _activity_snapshot(self, event: Event) -> None:
        entry = self.conversation.by_id.get(event["messageId"])
        replace = event.get("replace") is not False
        activity = {
            "id": event["messageId"],
            "role": "activity",
            "activityType": event["activityType"],
            "content": copy_json(event["content"]),
        }
        if entry is None:
            self._append(activity, event)
        elif entry.role == "activity":
            if replace:
                # The metadata so far stays, but the tag is that of the replacement.
                entry.message.pop("subagentRunId", None)
                entry.message.update(activity)
                _add_tag(entry.message, event)
            _add_metadata(entry.message, event)
        elif replace:
            _add_tag(activity, event)
            _add_metadata(activity, event)
            self.conversation.replace(entry, activity)

    def _activity_delta(self, event: Event) -> None:
        entry = self.conversation.by_id.get(event["messageId"])
        if entry is None or entry.role != "activity":
            return
        message = entry.message
        content = message.get("content")
        document = {} if content is None else content
        patch = event.get("patch") or []
        self.declined = None
        try:
            content = apply_patch(document, patch, self.budget, ACTIVITY_DEPTH)
        except EventError as error:
            if isinstance(error, PatchDeclined):
                self.declined = error
            # The metadata counts even if the patch does not apply, as in a client, but no client is
            # sent a harmful delta.
            if not isinstance(error, PatchHarmful):
                _add_metadata(message, event)
            return
        _add_metadata(message, event)
        message["content"] = content
        message["activityType"] = event["activityType"]

    def _messages_snapshot(self, event: Event) -> None:
        self.conversation.merge(_adopt(event.get("messages")))

    def _run_started(self, event: Event) -> None:
        run_input = event.get("input")
        if isinstance(run_input, dict):
            for message in _adopt(run_input.get("messages"), self.conversation.by_id):
                if message["id"] not in self.conversation.by_id:
                    self.conversation.append(message)

    def _append(self, message: Message, event: Event) -> None:
        """Put the new ``message`` that ``event`` makes at the end."""
        if "subagentRunId" in event:
            _add_tag(message, event)
        if "metadata" in event:
            _add_metadata(message, event)
        self.conversation.append(message)


HANDLERS: Final[dict[str, Callable[[MessageFolder, Event], None]]] = {
    t.TEXT_MESSAGE_START: MessageFolder._text_start,
    t.TEXT_MESSAGE_CONTENT: MessageFolder._text_content,
    t.TEXT_MESSAGE_END: MessageFolder._text_end,
    t.TOOL_CALL_START: MessageFolder._tool_start,
    t.TOOL_CALL_ARGS: MessageFolder._tool_args,
    t.TOOL_CALL_END: MessageFolder._tool_end,
    t.TOOL_CALL_RESULT: MessageFolder._tool_result,
    t.MESSAGES_SNAPSHOT: MessageFolder._messages_snapshot,
    t.ACTIVITY_SNAPSHOT: MessageFolder._activity_snapshot,
    t.ACTIVITY_DELTA: MessageFolder._activity_delta,
    t.RUN_STARTED: MessageFolder._run_started,
    t.REASONING_MESSAGE_START: MessageFolder._text_start,
    t.REASONING_MESSAGE_CONTENT: MessageFolder._text_content,
    t.REASONING_MESSAGE_END: MessageFolder._text_end,
    t.REASONING_ENCRYPTED_VALUE: MessageFolder._encrypted_value,
}
"""The method that :meth:`MessageFolder.feed` calls for each type of event that has an effect."""


def _adopt(messages: Any, known: Container[str | None] = ()) -> list[Message]:
    """Copies of ``messages`` to keep and to change.

    Messages that cannot be kept are left out, and so are those whose ids are ``known``.
    """
    adopted = []
    for message in messages if isinstance(messages, list) else ():
        if (
            isinstance(message, dict)
            and isinstance(message.get("id"), str)
            and message["id"] not in known
        ):
            message = copy_json(message)
            if message.get("subagentRunId", "") is None:
                # The member is dropped, because null means absence, and must not go out with the
                # input of the next run.
                del message["subagentRunId"]
            adopted.append(message)
    return adopted


def _add_tag(message: Message, event: Event) -> None:
    if event.get("subagentRunId") is not None:
        message["subagentRunId"] = event["subagentRunId"]


def _add_metadata(target: dict[str, Any], event: Event) -> None:
    metadata = event.get("metadata")
    if metadata is not None:
        older = target.get("metadata")
        if isinstance(older, dict):
            # The dict is changed in place, because a new one for each event would cost as much as
            # all metadata so far.
            older.update(copy_json(metadata))
        else:
            target["metadata"] = copy_json(metadata)


def fold_messages(events: Iterable[Event], messages: Iterable[Message] = ()) -> list[Message]:
    """The conversation after ``events``, which began with ``messages``."""
    folder = MessageFolder(messages)
    for event in events:
        folder.feed(event)
    folded = folder.messages
    folder.conversation.close()
    return folded
