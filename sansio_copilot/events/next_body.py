"""The body of the next run, which has to hold what an agent said in this one.

A client keeps the state and the messages, and sends them with each further run. So an event that
fits into no body would have all further runs of its thread answered by 400, and is refused.
"""

from __future__ import annotations

from typing import Any, Final

from .. import json_codec
from ..limits import Limits
from . import types as t
from .input_shape import MAX_DEPTH, RUN_INPUT, TooDeep, Walk
from .types import Event, EventError

LEGACY_INTERRUPT: Final = "on_interrupt"
"""The name of the CUSTOM event by which LangGraph's adapter says an interrupt."""
SENT_BACK: Final = frozenset(
    {
        *(t.STATE_SNAPSHOT, t.STATE_DELTA, t.MESSAGES_SNAPSHOT, t.ACTIVITY_SNAPSHOT),
        *(t.ACTIVITY_DELTA, t.TOOL_CALL_RESULT, t.RUN_STARTED, t.CUSTOM),
    }
)
"""The types of events of which a client sends back more than their metadata.

Events with a piece of a text are not among them, because a text that has grown too large by many
pieces is not the fault of a single event.
"""
SURE_BRACKETS: Final = MAX_DEPTH - 5
"""An event with fewer brackets in its JSON is not nested too deeply.

Metadata of a tool call stand deepest: under five levels of the body."""

_OF_CALLS: Final = frozenset({t.TOOL_CALL_START, t.TOOL_CALL_ARGS, t.TOOL_CALL_END})
_OF_MESSAGES: Final = frozenset(
    {
        *(t.TEXT_MESSAGE_START, t.TEXT_MESSAGE_CONTENT, t.TEXT_MESSAGE_END, t.TOOL_CALL_RESULT),
        *(t.REASONING_MESSAGE_START, t.REASONING_MESSAGE_CONTENT, t.REASONING_MESSAGE_END),
        t.ACTIVITY_SNAPSHOT,
    }
)


def check_fits(event: Event, limits: Limits) -> None:
    """Check that a body may hold what a client sends back of ``event``.

    The parts that a client does not send back are not checked. The levels that a patch makes are
    bounded when the patch is applied; see :func:`.apply_patch`.

    :param event: an event that :func:`.normalize_event` has returned.
    :raises EventError: if it does not fit.
    """
    body = _body(event)
    data = json_codec.encode(body)
    if len(data) > limits.body_bytes or json_codec.has_more_values(data, limits.body_values):
        raise EventError(
            f"{event['type']} is too large: the client has to send it back with the next run, and "
            f"a request's body has at most {limits.body_bytes} bytes and {limits.body_values} JSON "
            "values"
        )
    try:
        RUN_INPUT.read(body, Walk())
    except TooDeep:
        raise EventError(
            f"{event['type']} is nested too deeply: the client has to send it back with the next "
            f"run, and a request's body has at most {MAX_DEPTH} levels"
        ) from None


def _body(event: Event) -> dict[str, Any]:
    """The members of the next run's body that hold something of ``event``."""
    type_ = event["type"]
    if type_ == t.STATE_SNAPSHOT:
        return {"state": event["snapshot"]}
    if type_ == t.STATE_DELTA:
        return {"values": _values(event["delta"])}
    if type_ == t.ACTIVITY_DELTA:
        message = {"role": "activity", "metadata": event.get("metadata")}
        return {"messages": [message], "values": _values(event["patch"])}
    if type_ == t.MESSAGES_SNAPSHOT:
        return {"messages": event["messages"]}
    if type_ == t.RUN_STARTED:
        # Only the messages of the input are counted, because a client takes nothing else from the
        # input in this event.
        return {"messages": (event.get("input") or {}).get("messages")}
    if type_ == t.CUSTOM and event["name"] == LEGACY_INTERRUPT:
        return {"forwardedProps": {"command": {"interruptEvent": event["value"]}}}
    if type_ in _OF_CALLS:
        return {"messages": [{"role": "assistant", "toolCalls": [event]}]}
    if type_ in _OF_MESSAGES:
        return {"messages": [{**event, "role": "activity"}]}
    return {}


def _values(patch: list[Any]) -> list[Any]:
    """Return the values that ``patch`` puts into a document.

    They are kept in a member that no body has, because their size counts and their nesting does
    not: that is known only when the patch is applied.
    """
    return [operation.get("value") for operation in patch]
