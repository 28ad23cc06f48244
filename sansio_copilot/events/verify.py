"""The order rules of AG-UI: which event may follow which.

A stream is a row of runs. A run is open from RUN_STARTED to its *terminal event*, RUN_FINISHED or
RUN_ERROR, and nothing may come outside of one. Within a run four kinds of rules hold:

- *brackets* (:mod:`.brackets`): messages, tool calls, reasoning and its spans are opened, go on and
  are closed, each under its id;
- *steps* are brackets with a name for an id, and each agent has its own;
- *openers* (:mod:`.subagents`): what an agent has opened, no other agent continues;
- RUN_FINISHED leaves nothing open, while RUN_ERROR may leave anything open.

So the state of a :class:`Verifier` is the phase of the run, the open brackets, and the openers. A
rule is a function of that state and one event. It checks everything before it changes anything, so
that an event that breaks a rule changes nothing. Rules look only at the members that they need,
because :func:`~sansio_copilot.events.normalize_event` has given them their types; an event without
a rule may come at any time of a run.

A rule may be added or changed by itself: the rules do not call each other. The messages must stay
those of the reference, because a front end shows them, and so must the order of the checks in a
rule, because the first that fails is the one that is told.

Source: https://docs.ag-ui.com/concepts/events, and ``verifyEvents`` of ``@ag-ui/client`` 0.0.59,
whose rules and messages these are; the rules of reasoning are those of 1.0.0, which are stricter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from . import types as t
from .brackets import REASONING, SPAN, TEXT, TOOL, Bracket
from .normalize import normalize_event
from .subagents import (
    OpenersOfKinds,
    agent_name,
    check_ended,
    check_interrupt_tags,
    check_message_tags,
    check_opener,
    check_started,
    null_field,
    opener_of_call,
    record_openers,
)
from .thinking import ThinkingUpgrader
from .types import Event, EventError

# The phases tell where a stream is in the life of a run. A stream is new until its first event.
_NEW: Final = "new"
_RUNNING: Final = "running"
_FINISHED: Final = "finished"
_ERRORED: Final = "errored"

# Messages and events name what is open in this order. Reasoning has two brackets, spans and the
# messages in them, because one id may name both.
_BRACKETS: Final = (TEXT, REASONING, SPAN, TOOL)


class Verifier:
    """Checks one event stream, which may hold several runs, event by event.

    The stream is over when an event breaks a rule, because the reference forwards no event behind
    one that it refuses.
    """

    __slots__ = ("_open", "_openers", "_phase", "_steps", "_subagents")

    def __init__(self) -> None:
        self._phase = _NEW
        self._reset()

    def _reset(self) -> None:
        # Dicts stand in for sets: an empty one is a third of the size, and some messages list the
        # ids in the order they opened.
        self._open: dict[tuple[Bracket, str], None] = {}
        # The value of each subagent that has started says whether it is active.
        self._subagents: dict[str, bool] = {}
        self._openers = OpenersOfKinds()
        # Steps are kept by their opener, because a subagent and its parent may have steps of the
        # same name.
        self._steps: dict[str | None, dict[str, None]] = {}

    def closers(self) -> list[Event]:
        """The events that end all that is open, as RUN_FINISHED demands.

        Those of messages, reasoning and tool calls come first, then those of steps, then those of
        subagents.
        """
        closers: list[Event] = [
            {"type": bracket.end, bracket.id_field: entity_id}
            for order in _BRACKETS
            for bracket, entity_id in self._open
            if bracket is order
        ]
        for opener, names in self._steps.items():
            tag = {} if opener is None else {"subagentRunId": opener}
            for name in names:
                closers.append({"type": t.STEP_FINISHED, "stepName": name, **tag})
        for subagent_id in filter(self._subagents.get, self._subagents):
            closers.append({"type": t.SUBAGENT_FINISHED, "subagentRunId": subagent_id})
        return closers

    def feed(self, event: Event) -> None:
        """Check that ``event`` may come next.

        :param event: an event that :func:`~sansio_copilot.events.normalize_event` has returned; one
            of an unknown type may come at any time of a run.
        :raises EventError: if it may not come next, with the reference's message.
        """
        type_ = event["type"]
        if self._phase is not _RUNNING:
            if type_ != t.RUN_STARTED:
                self._check_outside_run(type_)
        elif type_ == t.RUN_STARTED:
            raise EventError(
                "Cannot send 'RUN_STARTED' while a run is still active. The previous run must be "
                "finished with 'RUN_FINISHED' before starting a new run."
            )
        tag = event.get("subagentRunId")
        if tag is None and "subagentRunId" in event:
            raise null_field(type_, "subagentRunId")
        rule = _RULES.get(type_)
        if rule is not None:
            rule(self, event, tag)

    def _check_outside_run(self, type_: str) -> None:
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
        if messages:
            check_message_tags(messages)
        if self._phase is not _NEW:
            self._reset()
        if messages:
            record_openers(messages, self._openers, replace=False)
        self._phase = _RUNNING

    def _run_finished(self, event: Event, tag: str | None) -> None:
        if (outcome := event.get("outcome")) is not None:
            check_interrupt_tags(outcome)
        steps = [
            name if opener is None else f"{name} (subagent '{opener}')"
            for opener, names in self._steps.items()
            for name in names
        ]
        for noun, unfinished in (
            ("step", steps),
            *[
                (order.noun, [entity_id for bracket, entity_id in self._open if bracket is order])
                for order in _BRACKETS
            ],
            ("subagent", list(filter(self._subagents.get, self._subagents))),
        ):
            if unfinished:
                raise EventError(
                    f"Cannot send 'RUN_FINISHED' while {noun}s are still active: "
                    f"{', '.join(unfinished)}"
                )
        self._phase = _FINISHED

    def _run_error(self, event: Event, tag: str | None) -> None:
        self._phase = _ERRORED

    # -- brackets --------------------------------------------------------------------------

    def _begins(self, event: Event, tag: str | None, *, bracket: Bracket) -> None:
        entity_id = event[bracket.id_field]
        if (bracket, entity_id) in self._open:
            raise bracket.already_open(event, entity_id)
        openers = bracket.openers(self._openers)
        if bracket is TOOL:
            tag = opener_of_call(event, tag, self._openers.messages, openers)
        elif tag is not None:
            check_opener(event, tag, openers, entity_id, bracket.opened)
        self._open[bracket, entity_id] = None
        # An untagged reopening agrees with any opener, and does not take the entity over.
        openers.setdefault(entity_id, tag)

    def _goes_on(self, event: Event, tag: str | None, *, bracket: Bracket) -> None:
        entity_id = event[bracket.id_field]
        if (bracket, entity_id) not in self._open:
            raise bracket.not_to_go_on(event, entity_id)
        if tag is not None:
            check_opener(event, tag, bracket.openers(self._openers), entity_id, bracket.opened)

    def _ends(self, event: Event, tag: str | None, *, bracket: Bracket) -> None:
        entity_id = event[bracket.id_field]
        if (bracket, entity_id) not in self._open:
            raise bracket.not_to_end(event, entity_id)
        if tag is not None:
            check_opener(event, tag, bracket.openers(self._openers), entity_id, bracket.opened)
        del self._open[bracket, entity_id]

    # -- events of what has an opener ------------------------------------------------------

    def _tool_result(self, event: Event, tag: str | None) -> None:
        # The result makes a message, which from now on belongs to the agent that sends it.
        self._openers.messages[event["messageId"]] = tag

    def _encrypted_value(self, event: Event, tag: str | None) -> None:
        entity_id = event["entityId"]
        subtype = event["subtype"]
        openers, noun = self._openers.reasoning, "reasoning message"
        if subtype == "tool-call":
            openers, noun = self._openers.tool_calls, "tool call"
        elif subtype == "message":
            # The noun leaves the kind open, because the subtype stands for text messages and
            # reasoning messages alike.
            noun = "message"
            if entity_id in self._openers.messages:
                openers = self._openers.messages
        if tag is not None:
            check_opener(event, tag, openers, entity_id, noun)

    def _activity_snapshot(self, event: Event, tag: str | None) -> None:
        # A snapshot that does not replace leaves the activity, and its opener, as they are.
        if event.get("replace") is False:
            self._openers.activities.setdefault(event["messageId"], tag)
        else:
            self._openers.activities[event["messageId"]] = tag

    def _activity_delta(self, event: Event, tag: str | None) -> None:
        if tag is not None:
            check_opener(event, tag, self._openers.activities, event["messageId"], "activity")

    def _messages_snapshot(self, event: Event, tag: str | None) -> None:
        messages = event.get("messages")
        check_message_tags(messages)
        record_openers(messages, self._openers, replace=True)

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
        for opener, names in self._steps.items():
            if name in names:
                # The error is about the tag, which is more likely to be wrong than a STEP_STARTED
                # is to be missing.
                raise EventError(
                    f"Cannot send 'STEP_FINISHED' for step \"{name}\" attributed to "
                    f"{agent_name(tag)}: that step is open under {agent_name(opener)}. A step must "
                    "be finished by whoever started it."
                )
        raise EventError(f"Cannot send 'STEP_FINISHED' for step \"{name}\" that was not started")

    # -- subagents -------------------------------------------------------------------------

    def _subagent_started(self, event: Event, tag: str | None) -> None:
        self._subagents[check_started(event, self._subagents)] = True

    def _subagent_ended(self, event: Event, tag: str | None) -> None:
        self._subagents[check_ended(event, self._subagents)] = False


# All verifiers share one table, because a table of bound methods in each would be a reference cycle
# for the garbage collector to find after every run.
_RULES: Final[dict[str, Callable[[Verifier, Event, str | None], None]]] = {
    t.RUN_STARTED: Verifier._run_started,
    t.RUN_FINISHED: Verifier._run_finished,
    t.RUN_ERROR: Verifier._run_error,
    t.TEXT_MESSAGE_START: partial(Verifier._begins, bracket=TEXT),
    t.TEXT_MESSAGE_CONTENT: partial(Verifier._goes_on, bracket=TEXT),
    t.TEXT_MESSAGE_END: partial(Verifier._ends, bracket=TEXT),
    t.TOOL_CALL_START: partial(Verifier._begins, bracket=TOOL),
    t.TOOL_CALL_ARGS: partial(Verifier._goes_on, bracket=TOOL),
    t.TOOL_CALL_END: partial(Verifier._ends, bracket=TOOL),
    t.TOOL_CALL_RESULT: Verifier._tool_result,
    t.REASONING_START: partial(Verifier._begins, bracket=SPAN),
    t.REASONING_END: partial(Verifier._ends, bracket=SPAN),
    t.REASONING_MESSAGE_START: partial(Verifier._begins, bracket=REASONING),
    t.REASONING_MESSAGE_CONTENT: partial(Verifier._goes_on, bracket=REASONING),
    t.REASONING_MESSAGE_END: partial(Verifier._ends, bracket=REASONING),
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


def verify_events(events: Iterable[Event]) -> list[Event]:
    """Check ``events`` in order, each for its shape and then for its place.

    :returns: the events. An event of an unknown type is allowed anywhere in a run.
    :raises EventError: at the first event that is not allowed.
    """
    verifier = Verifier()
    upgrader = ThinkingUpgrader("")
    accepted = []
    for event in events:
        normalize_event(event)
        verifier.feed(upgrader.feed(event))
        accepted.append(event)
    return accepted
