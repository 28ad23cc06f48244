"""The order rules of AG-UI: what may follow what, and who may continue whose message.

Source: https://docs.ag-ui.com/concepts/events, and ``verifyEvents`` of ``@ag-ui/client`` 0.0.59,
whose rules and messages these are; of reasoning it is that of 1.0.0, which is stricter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable
from typing import Any, Final

import attrs

from . import types as t
from .normalize import normalize_event
from .thinking import ThinkingUpgrader
from .types import Event, EventError

# Where the verifier is in the life of a run.
_NEW: Final = "new"  # nothing was fed yet
_RUNNING: Final = "running"
_FINISHED: Final = "finished"
_ERRORED: Final = "errored"

_MISSING: Final = object()

# Who opened an entity: the id of a subagent run, or None for the parent agent.
_Owners = dict[str, str | None]


@attrs.frozen
class _Bracket:
    """What one event opens and another closes, and what the reference calls it.

    :param noun: its name in messages.
    :param start: the type of the event that opens it.
    :param end: the type of the event that closes it.
    """

    noun: str
    start: str
    end: str

    def check_start(self, event: Event, entity_id: str, open_ids: Container[str]) -> None:
        """Refuse ``event`` if what it opens is open already."""
        if entity_id in open_ids:
            raise EventError(
                f"Cannot send '{event['type']}' event: A {self.noun} with ID '{entity_id}' is "
                f"already in progress. Complete it with '{self.end}' first."
            )

    def check_goes_on(self, event: Event, entity_id: str, open_ids: Container[str]) -> None:
        """Refuse ``event`` if what it goes on with is not open."""
        if entity_id not in open_ids:
            raise self._not_open(event, entity_id, f"Start a {self.noun} with '{self.start}'")

    def check_end(self, event: Event, entity_id: str, open_ids: Container[str]) -> None:
        """Refuse ``event`` if what it closes is not open."""
        if entity_id not in open_ids:
            raise self._not_open(event, entity_id, f"A '{self.start}' event must be sent")

    def _not_open(self, event: Event, entity_id: str, remedy: str) -> EventError:
        return EventError(
            f"Cannot send '{event['type']}' event: No active {self.noun} found with ID "
            f"'{entity_id}'. {remedy} first."
        )


_TEXT: Final = _Bracket("text message", t.TEXT_MESSAGE_START, t.TEXT_MESSAGE_END)
_TOOL: Final = _Bracket("tool call", t.TOOL_CALL_START, t.TOOL_CALL_END)
_REASONING: Final = _Bracket(
    "reasoning message", t.REASONING_MESSAGE_START, t.REASONING_MESSAGE_END
)
_SPAN: Final = _Bracket("reasoning span", t.REASONING_START, t.REASONING_END)


class Verifier:
    """Checks one event stream, which may hold several runs, event by event.

    An event that breaks a rule changes nothing, but the stream is over then: the reference
    forwards no event after the first that it refuses.
    """

    __slots__ = (
        "_active_subagents",
        "_closed_subagents",
        "_open_messages",
        "_open_reasoning",
        "_open_spans",
        "_open_tool_calls",
        "_owners_of_activities",
        "_owners_of_messages",
        "_owners_of_reasoning",
        "_owners_of_tool_calls",
        "_phase",
        "_steps",
    )

    def __init__(self) -> None:
        self._phase = _NEW
        self._reset()

    def _reset(self) -> None:
        # Dicts stand in for sets: an empty one is a third of the size, and some messages list the
        # ids in the order they opened.
        self._open_messages: dict[str, None] = {}
        # Reasoning has two brackets, spans and the messages in them, and one id may name both.
        self._open_reasoning: dict[str, None] = {}
        self._open_spans: dict[str, None] = {}
        self._open_tool_calls: dict[str, None] = {}
        self._active_subagents: dict[str, None] = {}
        self._closed_subagents: dict[str, None] = {}
        # An id is unique only within its kind. Owners outlive their entity, for what may come
        # after its end: an encrypted value, or another producer that reopens the id.
        self._owners_of_messages: _Owners = {}
        self._owners_of_tool_calls: _Owners = {}
        self._owners_of_reasoning: _Owners = {}
        self._owners_of_activities: _Owners = {}
        # By owner first: a subagent and its parent may have steps of the same name.
        self._steps: dict[str | None, dict[str, None]] = {}

    def closers(self) -> list[Event]:
        """The events that end all that is open, as RUN_FINISHED demands.

        Messages, reasoning and tool calls first, then steps, then subagents.
        """
        closers: list[Event] = [
            {"type": type_, "messageId": message_id}
            for type_, open_ids in (
                (t.TEXT_MESSAGE_END, self._open_messages),
                (t.REASONING_MESSAGE_END, self._open_reasoning),
                (t.REASONING_END, self._open_spans),
            )
            for message_id in open_ids
        ]
        for call_id in self._open_tool_calls:
            closers.append({"type": t.TOOL_CALL_END, "toolCallId": call_id})
        for owner, names in self._steps.items():
            tag = {} if owner is None else {"subagentRunId": owner}
            for name in names:
                closers.append({"type": t.STEP_FINISHED, "stepName": name, **tag})
        for subagent_id in self._active_subagents:
            closers.append({"type": t.SUBAGENT_FINISHED, "subagentRunId": subagent_id})
        return closers

    def feed(self, event: Event) -> None:
        """Check that ``event`` may come next.

        :param event: what :func:`~sansio_copilot.events.normalize_event` returned; one of an
            unknown type may come at any time of a run.
        :raises EventError: if it may not, with the reference's message.
        """
        type_ = event["type"]
        if self._phase is not _RUNNING:
            self._check_outside_run(type_)
        elif type_ == t.RUN_STARTED:
            raise EventError(
                "Cannot send 'RUN_STARTED' while a run is still active. The previous run must be "
                "finished with 'RUN_FINISHED' before starting a new run."
            )
        tag = event.get("subagentRunId")
        if tag is None and "subagentRunId" in event:
            raise _null_field(type_, "subagentRunId")
        rule = _RULES.get(type_)
        if rule is not None:
            rule(self, event, tag)

    def _check_outside_run(self, type_: str) -> None:
        if type_ == t.RUN_STARTED:
            return
        if self._phase is _ERRORED:
            raise EventError(
                f"Cannot send event type '{type_}': The run has already errored with 'RUN_ERROR'. "
                "No further events can be sent."
            )
        if type_ == t.RUN_ERROR:
            return
        if self._phase is _FINISHED:
            raise EventError(
                f"Cannot send event type '{type_}': The run has already finished with "
                "'RUN_FINISHED'. Start a new run with 'RUN_STARTED'."
            )
        raise EventError("First event must be 'RUN_STARTED'")

    # -- runs ------------------------------------------------------------------------------

    def _run_started(self, event: Event, tag: str | None) -> None:
        run_input = event.get("input")
        messages = run_input.get("messages") if isinstance(run_input, dict) else None
        _check_message_tags(messages)
        if self._phase is not _NEW:
            self._reset()
        self._record_owners(messages, replace=False)
        self._phase = _RUNNING

    def _run_finished(self, event: Event, tag: str | None) -> None:
        outcome = event.get("outcome")
        if isinstance(outcome, dict) and outcome.get("type") == "interrupt":
            interrupts = outcome.get("interrupts")
            for interrupt in interrupts if isinstance(interrupts, list) else ():
                if isinstance(interrupt, dict) and interrupt.get("subagentRunId", "") is None:
                    raise EventError(
                        "Cannot send 'RUN_FINISHED' with an interrupt (id "
                        f"'{_js_string(interrupt.get('id', _MISSING))}') carrying "
                        "'subagentRunId: null'. The field is optional — omit it entirely."
                    )
        steps = [
            name if owner is None else f"{name} (subagent '{owner}')"
            for owner, names in self._steps.items()
            for name in names
        ]
        for noun, unfinished in (
            ("steps", steps),
            ("text messages", self._open_messages),
            ("reasoning messages", self._open_reasoning),
            ("reasoning spans", self._open_spans),
            ("tool calls", self._open_tool_calls),
            ("subagents", self._active_subagents),
        ):
            if unfinished:
                raise EventError(
                    f"Cannot send 'RUN_FINISHED' while {noun} are still active: "
                    f"{', '.join(unfinished)}"
                )
        self._phase = _FINISHED

    def _run_error(self, event: Event, tag: str | None) -> None:
        self._phase = _ERRORED

    # -- text messages ---------------------------------------------------------------------

    def _text_start(self, event: Event, tag: str | None) -> None:
        message_id = event["messageId"]
        _TEXT.check_start(event, message_id, self._open_messages)
        _check_owner(event, tag, self._owners_of_messages, message_id, "message")
        self._open_messages[message_id] = None
        # An untagged reopening agrees with any owner, and does not take the message over.
        self._owners_of_messages.setdefault(message_id, tag)

    def _text_content(self, event: Event, tag: str | None) -> None:
        message_id = event["messageId"]
        _TEXT.check_goes_on(event, message_id, self._open_messages)
        if tag is not None:
            _check_owner(event, tag, self._owners_of_messages, message_id, "message")

    def _text_end(self, event: Event, tag: str | None) -> None:
        message_id = event["messageId"]
        _TEXT.check_end(event, message_id, self._open_messages)
        _check_owner(event, tag, self._owners_of_messages, message_id, "message")
        del self._open_messages[message_id]

    # -- tool calls ------------------------------------------------------------------------

    def _tool_start(self, event: Event, tag: str | None) -> None:
        call_id = event["toolCallId"]
        _TOOL.check_start(event, call_id, self._open_tool_calls)
        # A call lives in the message that parentMessageId names and has no owner of its own, so
        # it must agree with that message, and inherits from it if it says nothing.
        parent_id = event.get("parentMessageId")
        has_parent = parent_id in self._owners_of_messages
        inherited = self._owners_of_messages.get(parent_id or "") if has_parent else None
        if has_parent and tag is not None and tag != inherited:
            raise EventError(
                f"Cannot send 'TOOL_CALL_START': subagentRunId '{tag}' does not match its parent "
                f"message '{parent_id}' owner '{_name(inherited)}'. A tool call belongs to the "
                "message that carries it."
            )
        _check_owner(event, tag, self._owners_of_tool_calls, call_id, "tool call")
        owner = self._owners_of_tool_calls.get(call_id, inherited)
        if has_parent and tag is None and owner != inherited:
            raise EventError(
                f"Cannot send 'TOOL_CALL_START': tool call '{call_id}' is owned by "
                f"'{_name(owner)}' but its parent message '{parent_id}' is owned by "
                f"'{_name(inherited)}'. A tool call belongs to the message that carries it."
            )
        self._open_tool_calls[call_id] = None
        self._owners_of_tool_calls.setdefault(call_id, inherited if tag is None else tag)

    def _tool_args(self, event: Event, tag: str | None) -> None:
        call_id = event["toolCallId"]
        _TOOL.check_goes_on(event, call_id, self._open_tool_calls)
        if tag is not None:
            _check_owner(event, tag, self._owners_of_tool_calls, call_id, "tool call")

    def _tool_end(self, event: Event, tag: str | None) -> None:
        call_id = event["toolCallId"]
        _TOOL.check_end(event, call_id, self._open_tool_calls)
        _check_owner(event, tag, self._owners_of_tool_calls, call_id, "tool call")
        del self._open_tool_calls[call_id]

    def _tool_result(self, event: Event, tag: str | None) -> None:
        # The result makes a message, so whoever sends it owns that message from now on.
        self._owners_of_messages[event["messageId"]] = tag

    # -- reasoning and activities ----------------------------------------------------------

    def _reasoning_start(self, event: Event, tag: str | None) -> None:
        message_id = event["messageId"]
        bracket, open_ids = _REASONING, self._open_reasoning
        if event["type"] == t.REASONING_START:
            bracket, open_ids = _SPAN, self._open_spans
        bracket.check_start(event, message_id, open_ids)
        _check_owner(event, tag, self._owners_of_reasoning, message_id, "reasoning message")
        open_ids[message_id] = None
        self._owners_of_reasoning.setdefault(message_id, tag)

    def _reasoning_goes_on(self, event: Event, tag: str | None) -> None:
        message_id = event["messageId"]
        _REASONING.check_goes_on(event, message_id, self._open_reasoning)
        _check_owner(event, tag, self._owners_of_reasoning, message_id, "reasoning message")
        if event["type"] == t.REASONING_MESSAGE_END:
            del self._open_reasoning[message_id]

    def _reasoning_end(self, event: Event, tag: str | None) -> None:
        message_id = event["messageId"]
        _SPAN.check_end(event, message_id, self._open_spans)
        _check_owner(event, tag, self._owners_of_reasoning, message_id, "reasoning message")
        del self._open_spans[message_id]

    def _encrypted_value(self, event: Event, tag: str | None) -> None:
        entity_id = event["entityId"]
        subtype = event["subtype"]
        owners, noun = self._owners_of_reasoning, "reasoning message"
        if subtype == "tool-call":
            owners, noun = self._owners_of_tool_calls, "tool call"
        elif subtype == "message":
            # Text and reasoning messages alike.
            noun = "message"
            if entity_id in self._owners_of_messages:
                owners = self._owners_of_messages
        _check_owner(event, tag, owners, entity_id, noun)

    def _activity_snapshot(self, event: Event, tag: str | None) -> None:
        # A snapshot that does not replace leaves the activity, and its owner, as they are.
        if event.get("replace") is False:
            self._owners_of_activities.setdefault(event["messageId"], tag)
        else:
            self._owners_of_activities[event["messageId"]] = tag

    def _activity_delta(self, event: Event, tag: str | None) -> None:
        _check_owner(event, tag, self._owners_of_activities, event["messageId"], "activity")

    def _messages_snapshot(self, event: Event, tag: str | None) -> None:
        messages = event.get("messages")
        _check_message_tags(messages)
        self._record_owners(messages, replace=True)

    def _record_owners(self, messages: Any, *, replace: bool) -> None:
        """Take the owners of replayed messages; a snapshot's replace what is on record."""
        for message in _identified(messages):
            owners = self._owners_of_messages
            if message.get("role") == "reasoning":
                owners = self._owners_of_reasoning
            elif message.get("role") == "activity":
                owners = self._owners_of_activities
            owner = message.get("subagentRunId")
            if replace or message["id"] not in owners:
                owners[message["id"]] = owner
            for call in _identified(message.get("toolCalls")):
                if replace or call["id"] not in self._owners_of_tool_calls:
                    self._owners_of_tool_calls[call["id"]] = owner

    # -- steps -----------------------------------------------------------------------------

    def _step_started(self, event: Event, tag: str | None) -> None:
        name = event["stepName"]
        steps = self._steps.setdefault(tag, {})
        if name in steps:
            where = "" if tag is None else f" in subagent '{tag}'"
            raise EventError(f"Step \"{name}\" is already active for 'STEP_STARTED'{where}")
        steps[name] = None

    def _step_finished(self, event: Event, tag: str | None) -> None:
        name = event["stepName"]
        if name in self._steps.get(tag, ()):
            del self._steps[tag][name]
            return
        for owner, names in self._steps.items():
            if name in names:
                # Likelier than a forgotten STEP_STARTED: the event has the wrong tag.
                raise EventError(
                    f"Cannot send 'STEP_FINISHED' for step \"{name}\" attributed to "
                    f"{_actor(tag)}: that step is open under {_actor(owner)}. A step must be "
                    "finished by whoever started it."
                )
        raise EventError(f"Cannot send 'STEP_FINISHED' for step \"{name}\" that was not started")

    # -- subagents -------------------------------------------------------------------------

    def _subagent_started(self, event: Event, tag: str | None) -> None:
        for field in ("description", "parentSubagentRunId", "parentToolCallId", "parentMessageId"):
            _check_not_null(event, field)
        _check_outcome(event)
        subagent_id = _required(event, "subagentRunId")
        _required(event, "name")
        if subagent_id in self._active_subagents:
            raise EventError(
                f"Cannot send 'SUBAGENT_STARTED': subagent '{subagent_id}' is already active. "
                "Finish it with 'SUBAGENT_FINISHED' first."
            )
        if subagent_id in self._closed_subagents:
            raise EventError(
                f"Cannot send 'SUBAGENT_STARTED': subagent '{subagent_id}' has already finished "
                "in this run. Subagent IDs are per-invocation and cannot be reused."
            )
        parent = event.get("parentSubagentRunId")
        if (
            parent is not None
            and parent not in self._active_subagents
            and parent not in self._closed_subagents
        ):
            raise EventError(
                f"Cannot send 'SUBAGENT_STARTED': parentSubagentRunId '{parent}' has not been "
                "started in this run."
            )
        self._active_subagents[subagent_id] = None

    def _subagent_ended(self, event: Event, tag: str | None) -> None:
        type_ = event["type"]
        _check_not_null(event, "outcome" if type_ == t.SUBAGENT_FINISHED else "code")
        _check_outcome(event)
        subagent_id = _required(event, "subagentRunId")
        if type_ == t.SUBAGENT_ERROR:
            _required(event, "message")
        if subagent_id not in self._active_subagents:
            raise EventError(
                f"Cannot send '{type_}': no active subagent found with ID '{subagent_id}'. "
                "A 'SUBAGENT_STARTED' event must be sent first."
            )
        del self._active_subagents[subagent_id]
        self._closed_subagents[subagent_id] = None


# One table for all verifiers: a table of bound methods in each would be a reference cycle for the
# garbage collector to find after every run. Types without a rule are always in order.
_RULES: Final[dict[str, Callable[[Verifier, Event, str | None], None]]] = {
    t.RUN_STARTED: Verifier._run_started,
    t.RUN_FINISHED: Verifier._run_finished,
    t.RUN_ERROR: Verifier._run_error,
    t.TEXT_MESSAGE_START: Verifier._text_start,
    t.TEXT_MESSAGE_CONTENT: Verifier._text_content,
    t.TEXT_MESSAGE_END: Verifier._text_end,
    t.TOOL_CALL_START: Verifier._tool_start,
    t.TOOL_CALL_ARGS: Verifier._tool_args,
    t.TOOL_CALL_END: Verifier._tool_end,
    t.TOOL_CALL_RESULT: Verifier._tool_result,
    t.REASONING_START: Verifier._reasoning_start,
    t.REASONING_MESSAGE_START: Verifier._reasoning_start,
    t.REASONING_MESSAGE_CONTENT: Verifier._reasoning_goes_on,
    t.REASONING_MESSAGE_END: Verifier._reasoning_goes_on,
    t.REASONING_END: Verifier._reasoning_end,
    t.REASONING_ENCRYPTED_VALUE: Verifier._encrypted_value,
    t.ACTIVITY_SNAPSHOT: Verifier._activity_snapshot,
    t.ACTIVITY_DELTA: Verifier._activity_delta,
    t.MESSAGES_SNAPSHOT: Verifier._messages_snapshot,
    t.STEP_STARTED: Verifier._step_started,
    t.STEP_FINISHED: Verifier._step_finished,
    t.SUBAGENT_STARTED: Verifier._subagent_started,
    t.SUBAGENT_FINISHED: Verifier._subagent_ended,
    t.SUBAGENT_ERROR: Verifier._subagent_ended,
}


def _check_owner(event: Event, tag: str | None, owners: _Owners, entity_id: str, noun: str) -> None:
    """Refuse an event whose tag disagrees with the owner on record.

    No tag never disagrees, and an entity that is not on record belongs to nobody; but one on
    record without a tag belongs to the parent agent, which is an owner like any other.
    """
    if tag is not None and owners.get(entity_id, tag) != tag:
        raise EventError(
            f"Cannot send '{event['type']}': subagentRunId '{tag}' does not match the {noun} "
            f"'{entity_id}' opener's subagent '{_name(owners[entity_id])}'."
        )


def _identified(items: Any) -> list[dict[str, Any]]:
    """The dicts among ``items`` that have a string as id; none if it is no list."""
    if not isinstance(items, list):
        return []
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]


def _check_message_tags(messages: Any) -> None:
    for message in _identified(messages):
        if message.get("subagentRunId", "") is None:
            raise EventError(
                f"Cannot send a message (id '{message['id']}') with 'subagentRunId: null'. The "
                "field is optional — omit it entirely."
            )


def _required(event: Event, field: str) -> str:
    value = event.get(field)
    if not isinstance(value, str):
        raise EventError(f"Cannot send '{event['type']}' without a '{field}'.")
    return value


def _check_not_null(event: Event, field: str) -> None:
    if event.get(field, "") is None:
        raise _null_field(event["type"], field)


def _null_field(type_: str, field: str) -> EventError:
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
        raise _null_field(event["type"], "outcome.interruptIds")
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


def _name(owner: str | None) -> str:
    return "(the parent agent)" if owner is None else owner


def _actor(owner: str | None) -> str:
    return "the parent agent" if owner is None else f"subagent '{owner}'"


def verify_events(events: Iterable[Event]) -> list[Event]:
    """Check ``events`` in order, each for its shape and then for its place.

    :returns: the events, all of which are allowed. An unknown type is.
    :raises EventError: at the first that is not.
    """
    verifier = Verifier()
    upgrader = ThinkingUpgrader("")
    accepted = []
    for event in events:
        normalize_event(event)
        verifier.feed(upgrader.feed(event))
        accepted.append(event)
    return accepted
