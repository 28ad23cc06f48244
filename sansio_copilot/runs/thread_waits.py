"""The things that a thread waits for when its run has ended: a person, or a page that is open.

A list of threads can show its user which threads wait. Two things make a thread wait:

- an interrupt, which the next run resumes. It is part of the outcome of RUN_FINISHED (AG-UI,
  "Interrupts"), or a CUSTOM event ``on_interrupt``, which LangGraph's adapter sends by default, and
  which has no id;
- a tool call without a result, behind the user's last message, if the page has brought the tool
  (``tools`` of the run's input). A server's own tool is answered in the stream; and when the user
  writes on without the result, the thread no longer waits for it.

Only an agent that ends its run by itself, with RUN_FINISHED, leaves something to wait for. When a
run has failed or was stopped, a page calls no tools and resumes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final

from msgspec import Struct

from .. import json_codec
from ..errors import shorten
from ..events import types as t
from ..events.message_list import calls_of
from ..events.next_body import LEGACY_INTERRUPT
from ..events.types import Event

_MOST: Final = 16
"""The most interrupts, and the most calls, that are told."""
_LONGEST: Final = 128
"""Characters of a text that are told; a client finds the whole in the thread."""


class Waits(Struct, eq=False):
    """Remembers the interrupts and the tools of a run, which the thread may wait for."""

    _interrupts: list[dict[str, Any]] = []
    is_finished: bool = False

    def observe(self, event: Event) -> None:
        """Take note of an event whose type is one of :data:`OBSERVED`."""
        type_ = event["type"]
        if type_ == t.CUSTOM:
            if event.get("name") == LEGACY_INTERRUPT and len(self._interrupts) < _MOST:
                self._interrupts.append({"reason": LEGACY_INTERRUPT})
            return
        self.is_finished = type_ == t.RUN_FINISHED
        if not self.is_finished:
            self._interrupts = []
        elif (outcome := event.get("outcome")) and outcome["type"] == "interrupt":
            self._interrupts = [
                {"id": shorten(one["id"], _LONGEST), "reason": shorten(one["reason"], _LONGEST)}
                for one in outcome["interrupts"][:_MOST]
            ]

    def told(self, messages: list[Any], run_input: Mapping[str, Any] | None) -> bytes | None:
        """Return what the thread waits for as JSON: ``{"interrupts": [...], "toolCalls": [...]}``.

        :param messages: the conversation after the run.
        :returns: None if the thread waits for nothing.
        """
        tools = run_input.get("tools") if run_input else None
        calls = list(islice(_unanswered(messages, _names(tools)), _MOST)) if tools else []
        if not self._interrupts and not calls:
            return None
        return json_codec.encode({"interrupts": self._interrupts, "toolCalls": calls})


OBSERVED: Final = frozenset({t.CUSTOM, t.RUN_STARTED, t.RUN_FINISHED, t.RUN_ERROR})
"""The types of events that :class:`Waits` takes note of."""


def _names(tools: object) -> set[str]:
    """The names of the tools that the page has brought."""
    return {
        tool["name"]
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and isinstance(tool.get("name"), str)
    }


def _unanswered(messages: list[Any], tools: set[str]) -> Iterator[dict[str, str]]:
    """The calls of ``tools`` behind the user's last message that have no result, in their order."""
    begin = len(messages)
    while begin and messages[begin - 1].get("role") != "user":
        begin -= 1
    turn = messages[begin:]
    answered = {message.get("toolCallId") for message in turn if message.get("role") == "tool"}
    for call in chain.from_iterable(map(calls_of, turn)):
        name = call["function"].get("name")
        if isinstance(name, str) and name in tools and call["id"] not in answered:
            yield {"id": shorten(call["id"], _LONGEST), "name": shorten(name, _LONGEST)}
