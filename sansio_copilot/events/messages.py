"""The conversation, folded from the events of its runs.

Source: ``defaultApplyEvents`` of ``@ag-ui/client`` 0.0.59, without its subscribers. One
difference: the reference keeps text events from turning an activity's content into a string, and
here reasoning events are kept from it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from . import types as t
from ._values import copy_json, merge_metadata
from .state import apply_delta
from .types import Event, EventError

Message = dict[str, Any]


class MessageFolder:
    """The messages after each event of a stream.

    An event that refers to a message or tool call that is not there is ignored, as is a message
    without an id.

    A delta costs the same however long the conversation and the message are: entities are found
    by id, and text is joined when its message ends or somebody looks.

    :param messages: the conversation before the first event, as AG-UI messages.
    """

    __slots__ = ("_args", "_by_id", "_calls", "_carriers", "_messages", "_texts")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages = _adopt(list(messages))
        # Where an id occurs twice, the first in the conversation counts, here and below.
        self._by_id: dict[str, Message] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        self._carriers: dict[str, Message] = {}  # tool call id -> the message that holds it
        # id -> the parts of a content or of arguments that is being streamed
        self._texts: dict[str, list[str]] = {}
        self._args: dict[str, list[str]] = {}
        self._index()

    @property
    def messages(self) -> list[Message]:
        """A copy of the conversation so far."""
        copied: list[Message] = copy_json(self.current)
        return copied

    @property
    def current(self) -> list[Message]:
        """The conversation itself, to be read at once: it is not to be changed, and goes on to."""
        self._settle()
        return self._messages

    def feed(self, event: Event) -> None:
        """Apply one event; one that has no effect on messages is ignored."""
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event)

    def continuation(self, event: Event) -> Callable[[str], object] | None:
        """What takes a further delta of the message or tool call that ``event`` was a delta of.

        It is the same as to feed that delta, as long as nothing else is fed, and nobody looks at
        :attr:`messages`. None if somebody has, or a delta has no effect.
        """
        if event["type"] == t.TOOL_CALL_ARGS:
            parts = self._args.get(event["toolCallId"])
        else:
            parts = self._texts.get(event["messageId"])
        return None if parts is None else parts.append

    # -- what is streamed ------------------------------------------------------------------

    def _text_start(self, event: Event) -> None:
        message = self._by_id.get(event["messageId"])
        if message is None:
            message = {
                "id": event["messageId"],
                "role": event.get("role") or "assistant",
                "content": "",
            }
            if event.get("name") is not None:
                message["name"] = event["name"]
            self._append(message, event)
        elif message.get("role") != "activity":
            _add_metadata(message, event)

    def _reasoning_start(self, event: Event) -> None:
        message = self._by_id.get(event["messageId"])
        if message is None:
            message = {"id": event["messageId"], "role": "reasoning", "content": ""}
            self._append(message, event)
        elif message.get("role") != "activity":
            _add_metadata(message, event)

    def _text_content(self, event: Event) -> None:
        message_id = event["messageId"]
        parts = self._texts.get(message_id)
        if parts is None:
            message = self._by_id.get(message_id)
            if message is None or message.get("role") == "activity":
                return
            content = message.get("content")
            parts = self._texts[message_id] = [content] if isinstance(content, str) else []
        parts.append(event["delta"])
        if "metadata" in event:
            _add_metadata(self._by_id[message_id], event)

    def _text_end(self, event: Event) -> None:
        message = self._by_id.get(event["messageId"])
        if message is not None and message.get("role") != "activity":
            self._settle_text(event["messageId"])
            _add_metadata(message, event)

    def _tool_start(self, event: Event) -> None:
        call_id = event["toolCallId"]
        call = self._calls.get(call_id)
        if call is not None:
            # Sent again, say when a client rejoins: the arguments so far are all there are.
            call["function"]["name"] = event["toolCallName"]
            _add_metadata(call, event)
            return
        parent_id = event.get("parentMessageId")
        message = self._by_id.get(parent_id) if parent_id else None
        if message is None or message.get("role") != "assistant":
            new_id = parent_id if parent_id and message is None else call_id
            message = {"id": new_id, "role": "assistant", "toolCalls": []}
            if new_id not in self._by_id and event.get("subagentRunId") is not None:
                message["subagentRunId"] = event["subagentRunId"]
            self._messages.append(message)
            self._by_id.setdefault(new_id, message)
        call = {
            "id": call_id,
            "type": "function",
            "function": {"name": event["toolCallName"], "arguments": ""},
        }
        _add_metadata(call, event)
        if not isinstance(message.get("toolCalls"), list):
            message["toolCalls"] = []
        message["toolCalls"].append(call)
        self._calls[call_id] = call
        self._carriers[call_id] = message

    def _tool_args(self, event: Event) -> None:
        call_id = event["toolCallId"]
        parts = self._args.get(call_id)
        if parts is None:
            call = self._calls.get(call_id)
            if call is None:
                return
            arguments = call["function"].get("arguments")
            parts = self._args[call_id] = [arguments] if isinstance(arguments, str) else []
        parts.append(event["delta"])
        if "metadata" in event:
            _add_metadata(self._calls[call_id], event)

    def _tool_end(self, event: Event) -> None:
        call = self._calls.get(event["toolCallId"])
        if call is not None:
            self._settle_args(event["toolCallId"])
            _add_metadata(call, event)

    # -- what comes whole ------------------------------------------------------------------

    def _tool_result(self, event: Event) -> None:
        result = {
            "id": event["messageId"],
            "toolCallId": event["toolCallId"],
            "role": event.get("role") or "tool",
            "content": event["content"],
        }
        carrier = self._carriers.get(event["toolCallId"])
        if carrier is None or carrier.get("role") != "assistant":
            self._append(result, event)
            return
        # Providers refuse a history in which something stands between a call and its results.
        at = self._position(carrier) + 1
        while at < len(self._messages) and self._messages[at].get("role") == "tool":
            at += 1
        self._append(result, event, at)

    def _encrypted_value(self, event: Event) -> None:
        entity_id = event["entityId"]
        if event["subtype"] == "tool-call":
            target = self._calls.get(entity_id)
        else:
            target = self._by_id.get(entity_id)
        if target is not None and target.get("role") != "activity":
            target["encryptedValue"] = event["encryptedValue"]

    def _activity_snapshot(self, event: Event) -> None:
        message = self._by_id.get(event["messageId"])
        replace = event.get("replace") is not False
        activity = {
            "id": event["messageId"],
            "role": "activity",
            "activityType": event["activityType"],
            "content": copy_json(event["content"]),
        }
        if message is None:
            self._append(activity, event)
        elif message.get("role") == "activity":
            if replace:
                # The metadata so far stays; the owner is whoever sent the replacement.
                message.pop("subagentRunId", None)
                message.update(activity)
                _add_owner(message, event)
            _add_metadata(message, event)
        elif replace:
            self._settle()
            _add_owner(activity, event)
            _add_metadata(activity, event)
            self._messages[self._position(message)] = activity
            self._index()

    def _activity_delta(self, event: Event) -> None:
        message = self._by_id.get(event["messageId"])
        if message is None or message.get("role") != "activity":
            return
        _add_metadata(message, event)
        content = message.get("content")
        try:
            content = apply_delta({} if content is None else content, event.get("patch") or [])
        except EventError:
            return
        message["content"] = content
        message["activityType"] = event["activityType"]

    def _messages_snapshot(self, event: Event) -> None:
        self._settle()
        snapshot = _adopt(event.get("messages"))
        latest = {message["id"]: message for message in snapshot}
        # Activities and reasoning exist on the client alone, unless the snapshot has some: then
        # it has them all, and one it leaves out is gone.
        kept_roles = {"activity", "reasoning"} - {message.get("role") for message in snapshot}
        messages = []
        for message in self._messages:
            if message.get("role") in kept_roles:
                messages.append(message)
            elif message["id"] in latest:
                messages.append(latest[message["id"]])
        present = {message["id"] for message in messages}
        messages.extend(message for message in snapshot if message["id"] not in present)
        self._messages = messages
        self._index()

    def _run_started(self, event: Event) -> None:
        run_input = event.get("input")
        if isinstance(run_input, dict):
            for message in _adopt(run_input.get("messages")):
                if message["id"] not in self._by_id:
                    self._messages.append(message)
                    self._index_message(message)

    # -- keeping order ---------------------------------------------------------------------

    def _append(self, message: Message, event: Event, at: int | None = None) -> None:
        """Put the new ``message`` that ``event`` makes at the end, or at ``at``."""
        _add_owner(message, event)
        _add_metadata(message, event)
        self._messages.insert(len(self._messages) if at is None else at, message)
        message_id = message["id"]
        first = self._by_id.setdefault(message_id, message)
        if first is not message and at is not None and self._position(first) > at:
            self._settle_text(message_id)
            self._by_id[message_id] = message

    def _position(self, wanted: Message) -> int:
        # From the end, where what is looked for almost always is.
        return next(
            index
            for index in range(len(self._messages) - 1, -1, -1)
            if self._messages[index] is wanted
        )

    def _index(self) -> None:
        self._by_id.clear()
        self._calls.clear()
        self._carriers.clear()
        for message in self._messages:
            self._index_message(message)

    def _index_message(self, message: Message) -> None:
        self._by_id.setdefault(message["id"], message)
        calls = message.get("toolCalls")
        for call in calls if isinstance(calls, list) else ():
            if (
                isinstance(call, dict)
                and isinstance(call.get("id"), str)
                and isinstance(call.get("function"), dict)
            ):
                self._calls.setdefault(call["id"], call)
                self._carriers.setdefault(call["id"], message)

    def _settle(self) -> None:
        """Join what is being streamed, so that the messages are whole."""
        for message_id in list(self._texts):
            self._settle_text(message_id)
        for call_id in list(self._args):
            self._settle_args(call_id)

    def _settle_text(self, message_id: str) -> None:
        parts = self._texts.pop(message_id, None)
        if parts is not None:
            self._by_id[message_id]["content"] = "".join(parts)

    def _settle_args(self, call_id: str) -> None:
        parts = self._args.pop(call_id, None)
        if parts is not None:
            self._calls[call_id]["function"]["arguments"] = "".join(parts)


_HANDLERS: Final[dict[str, Callable[[MessageFolder, Event], None]]] = {
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
    t.REASONING_MESSAGE_START: MessageFolder._reasoning_start,
    t.REASONING_MESSAGE_CONTENT: MessageFolder._text_content,
    t.REASONING_MESSAGE_END: MessageFolder._text_end,
    t.REASONING_ENCRYPTED_VALUE: MessageFolder._encrypted_value,
}


def _adopt(messages: Any) -> list[Message]:
    """Copies of ``messages`` to keep and to change; those that cannot be kept are left out."""
    adopted = []
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and isinstance(message.get("id"), str):
            message = copy_json(message)
            if message.get("subagentRunId", "") is None:
                # Null reads as absent, and must not go out with the input of the next run.
                del message["subagentRunId"]
            adopted.append(message)
    return adopted


def _add_owner(message: Message, event: Event) -> None:
    if event.get("subagentRunId") is not None:
        message["subagentRunId"] = event["subagentRunId"]


def _add_metadata(target: dict[str, Any], event: Event) -> None:
    metadata = event.get("metadata")
    if metadata is not None:
        older = target.get("metadata")
        target["metadata"] = merge_metadata(
            older if isinstance(older, dict) else None, copy_json(metadata)
        )


def fold_messages(events: Iterable[Event], messages: Iterable[Message] = ()) -> list[Message]:
    """The conversation after ``events``, which began with ``messages``."""
    folder = MessageFolder(messages)
    for event in events:
        folder.feed(event)
    return folder.messages
