"""Subagents: which of them live, and which event may continue what another agent began.

An event with a ``subagentRunId`` (its *tag*) was sent on behalf of a subagent; one without was sent
by the parent agent, or says nothing. Whatever an event opens belongs to its sender, the *opener*,
and stays with it after it has ended, because an encrypted value may follow, or another agent may
want to open the same id again. Two rules follow from that:

- An event that has a tag must have that of the opener. One without a tag always agrees.
- A subagent starts once in a run and ends once; its parent must have started before it.

Source: ``verifyEvents`` of ``@ag-ui/client`` 0.0.59, whose messages these are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

from . import types as t
from .types import Event, EventError

_MISSING: Final = object()

#: The opener of each entity: the id of a subagent's run, or None for the parent agent.
Openers: TypeAlias = dict[str, str | None]


class OpenersOfKinds(Struct, eq=False):
    """The openers of each kind of entity, because an id is unique only within its kind.

    An opener stays on record when its entity has ended, because an encrypted value may follow, or
    another agent may open the id again.
    """

    messages: Openers = {}
    tool_calls: Openers = {}
    reasoning: Openers = {}
    activities: Openers = {}


def check_opener(event: Event, tag: str, openers: Openers, entity_id: str, noun: str) -> None:
    """Refuse an event whose tag disagrees with the opener on record.

    An entity that is not on record belongs to nobody yet. An entity on record without a tag belongs
    to the parent agent, which is an opener like any other.
    """
    if openers.get(entity_id, tag) != tag:
        raise EventError(
            f"Cannot send '{event['type']}': subagentRunId '{tag}' does not match the {noun} "
            f"'{entity_id}' opener's subagent '{_opener_name(openers[entity_id])}'."
        )


def opener_of_call(
    event: Event, tag: str | None, of_messages: Openers, of_tool_calls: Openers
) -> str | None:
    """The opener of the tool call that a TOOL_CALL_START opens.

    A call lives in the message that ``parentMessageId`` names. So it must agree with the opener of
    that message, and inherits it if the event has no tag.

    :raises EventError: if it does not agree.
    """
    call_id = event["toolCallId"]
    parent_id = event.get("parentMessageId")
    has_parent = parent_id in of_messages
    inherited = of_messages.get(parent_id or "") if has_parent else None
    if has_parent and tag is not None and tag != inherited:
        raise EventError(
            f"Cannot send 'TOOL_CALL_START': subagentRunId '{tag}' does not match its parent "
            f"message '{parent_id}' owner '{_opener_name(inherited)}'. A tool call belongs to the "
            "message that carries it."
        )
    if tag is not None:
        check_opener(event, tag, of_tool_calls, call_id, "tool call")
    opener = of_tool_calls.get(call_id, inherited)
    if has_parent and tag is None and opener != inherited:
        raise EventError(
            f"Cannot send 'TOOL_CALL_START': tool call '{call_id}' is owned by "
            f"'{_opener_name(opener)}' but its parent message '{parent_id}' is owned by "
            f"'{_opener_name(inherited)}'. A tool call belongs to the message that carries it."
        )
    return inherited if tag is None else tag


def record_openers(messages: Any, on_record: OpenersOfKinds, *, replace: bool) -> None:
    """Take the openers of messages that a client or a snapshot repeats.

    :param replace: whether they take the place of what is on record.
    """
    for message in _identified(messages):
        openers = on_record.messages
        if message.get("role") == "reasoning":
            openers = on_record.reasoning
        elif message.get("role") == "activity":
            openers = on_record.activities
        opener = message.get("subagentRunId")
        if replace or message["id"] not in openers:
            openers[message["id"]] = opener
        for call in _identified(message.get("toolCalls")):
            if replace or call["id"] not in on_record.tool_calls:
                on_record.tool_calls[call["id"]] = opener


def check_message_tags(messages: Any) -> None:
    """Refuse messages if the tag of one is null."""
    for message in _identified(messages):
        if message.get("subagentRunId", "") is None:
            raise EventError(
                f"Cannot send a message (id '{message['id']}') with 'subagentRunId: null'. The "
                "field is optional — omit it entirely."
            )


def check_interrupt_tags(outcome: Any) -> None:
    """Refuse an outcome of RUN_FINISHED if the tag of one of its interrupts is null."""
    if not isinstance(outcome, dict) or outcome.get("type") != "interrupt":
        return
    interrupts = outcome.get("interrupts")
    for interrupt in interrupts if isinstance(interrupts, list) else ():
        if isinstance(interrupt, dict) and interrupt.get("subagentRunId", "") is None:
            raise EventError(
                "Cannot send 'RUN_FINISHED' with an interrupt (id "
                f"'{_js_string(interrupt.get('id', _MISSING))}') carrying "
                "'subagentRunId: null'. The field is optional — omit it entirely."
            )


def check_started(event: Event, started: Mapping[str, bool]) -> str:
    """Check a SUBAGENT_STARTED.

    :param started: the ids of the subagents that have started in this run, and whether each is
        active, because it has not ended.
    :returns: the id of the subagent that starts.
    :raises EventError: if it may not start.
    """
    for field in ("description", "parentSubagentRunId", "parentToolCallId", "parentMessageId"):
        _check_not_null(event, field)
    _check_outcome(event)
    subagent_id = _required(event, "subagentRunId")
    _required(event, "name")
    if started.get(subagent_id):
        raise EventError(
            f"Cannot send 'SUBAGENT_STARTED': subagent '{subagent_id}' is already active. "
            "Finish it with 'SUBAGENT_FINISHED' first."
        )
    if subagent_id in started:
        raise EventError(
            f"Cannot send 'SUBAGENT_STARTED': subagent '{subagent_id}' has already finished "
            "in this run. Subagent IDs are per-invocation and cannot be reused."
        )
    parent = event.get("parentSubagentRunId")
    if parent is not None and parent not in started:
        raise EventError(
            f"Cannot send 'SUBAGENT_STARTED': parentSubagentRunId '{parent}' has not been "
            "started in this run."
        )
    return subagent_id


def check_ended(event: Event, started: Mapping[str, bool]) -> str:
    """Check a SUBAGENT_FINISHED or SUBAGENT_ERROR.

    :param started: see :func:`check_started`.
    :returns: the id of the subagent that ends.
    :raises EventError: if it may not end, or if the event is malformed.
    """
    type_ = event["type"]
    _check_not_null(event, "outcome" if type_ == t.SUBAGENT_FINISHED else "code")
    _check_outcome(event)
    subagent_id = _required(event, "subagentRunId")
    if type_ == t.SUBAGENT_ERROR:
        _required(event, "message")
    if not started.get(subagent_id):
        raise EventError(
            f"Cannot send '{type_}': no active subagent found with ID '{subagent_id}'. "
            "A 'SUBAGENT_STARTED' event must be sent first."
        )
    return subagent_id


def _identified(items: Any) -> list[dict[str, Any]]:
    """The dicts among ``items`` that have a string as id; ``items`` may be anything."""
    if not isinstance(items, list):
        return []
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]


def _required(event: Event, field: str) -> str:
    value = event.get(field)
    if not isinstance(value, str):
        raise EventError(f"Cannot send '{event['type']}' without a '{field}'.")
    return value


def _check_not_null(event: Event, field: str) -> None:
    if event.get(field, "") is None:
        raise null_field(event["type"], field)


def null_field(type_: str, field: str) -> EventError:
    """Return the error for a ``field`` that is null, although it may only be absent."""
    return EventError(
        f"Cannot send '{type_}' with '{field}: null'. The field is optional — omit it entirely."
    )


def _check_outcome(event: Event) -> None:
    outcome = event.get("outcome")
    if outcome is None:
        return
    kind = outcome.get("type", _MISSING) if isinstance(outcome, dict) else _MISSING
    if kind not in ("success", "suspended"):
        raise EventError(
            f"Cannot send '{event['type']}' with outcome type '{_js_string(kind)}'. The outcome is "
            'either { type: "success" } or { type: "suspended" }.'
        )
    interrupt_ids = outcome.get("interruptIds", ())
    if interrupt_ids is None:
        raise null_field(event["type"], "outcome.interruptIds")
    if isinstance(interrupt_ids, list) and not all(isinstance(id_, str) for id_ in interrupt_ids):
        raise EventError(
            f"Cannot send '{event['type']}' with a non-string entry in 'outcome.interruptIds'. "
            "Interrupt ids are strings."
        )


def _js_string(value: Any) -> str:
    """``String(value)`` of JavaScript, for the messages that quote what should be a string."""
    if isinstance(value, str):
        return value
    if value is _MISSING:
        return "undefined"
    return "[object Object]" if isinstance(value, dict) else json.dumps(value, default=str)


def _opener_name(opener: str | None) -> str:
    """An agent as the reference quotes it."""
    return "(the parent agent)" if opener is None else opener


def agent_name(opener: str | None) -> str:
    """An agent as the reference speaks of it."""
    return "the parent agent" if opener is None else f"subagent '{opener}'"
