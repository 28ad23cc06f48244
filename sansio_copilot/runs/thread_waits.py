"""The things that a thread waits for when its run has ended: a person, or a page that is open.

A list of threads can show its user which threads wait. Two things make a thread wait:

- an interrupt, which the next run resumes. It is part of the outcome of RUN_FINISHED (AG-UI,
  "Interrupts"), or a CUSTOM event ``on_interrupt``, which LangGraph's adapter sends by default, and
  which has no id;
- a tool call without a result, behind the user's last message, if the page has brought the tool
  (``tools`` of the run's input). A server's own tool is answered in the stream; and when the user
  writes on without the result, the thread no longer waits for it.

Only an agent that ends its run by itself, with RUN_FINISHED, leaves something new to wait for.
When a run has failed, a page calls no tools, but its client goes on to wait for the interrupts of
the run before, which may have been answered: :mod:`~sansio_copilot.agents.interrupts` says what
that means. A run that was stopped ends with RUN_FINISHED, so that nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

from msgspec import Struct

from .. import json_codec
from ..agents.interrupts import remembered_id
from ..errors import shorten
from ..events import types as t
from ..events.message_list import calls_of
from ..events.next_body import LEGACY_INTERRUPT
from ..events.types import Event

_MOST_INTERRUPTS: Final = 64
"""The most interrupts that are remembered. It is far above what a model asks for at once, because
one that is not remembered cannot be answered."""
_MOST_CALLS: Final = 16
"""The most calls that are told."""
_LONGEST: Final = 128
"""Characters of a text that are told; a client finds the whole in the thread."""


class Waits(Struct, eq=False):
    """Remembers the interrupts and the tools of a run, which the thread may wait for.

    :param before: what the thread has waited for before the run.
    :ivar ended: the type of the event that has ended the run; None while it goes on, and when it
        was stopped.
    :ivar has_begun: whether the agent may have acted on an answer. An agent whose only event is
        RUN_ERROR has refused its input.
    """

    before: bytes | None = None
    ended: str | None = None
    has_begun: bool = True
    _suspended: Sequence[dict[str, Any]] = ()
    _asked: Sequence[dict[str, Any]] | None = None

    def observe(self, event: Event) -> None:
        """Take note of an event whose type is one of :data:`OBSERVED`."""
        type_ = event["type"]
        if type_ == t.CUSTOM:
            if event.get("name") == LEGACY_INTERRUPT and len(self._suspended) < _MOST_INTERRUPTS:
                self._suspended = [*self._suspended, {"reason": LEGACY_INTERRUPT}]
        elif type_ == t.RUN_STARTED:
            self.has_begun = self.has_begun or self.ended is not None
            self.ended, self._suspended = None, ()
        else:
            self.ended = type_
            if type_ == t.RUN_FINISHED:
                outcome = event.get("outcome")
                self._asked = self._suspended
                if outcome and outcome["type"] == "interrupt":
                    self._asked = [
                        {
                            "id": remembered_id(one["id"]),
                            "reason": shorten(one["reason"], _LONGEST),
                        }
                        for one in outcome["interrupts"][:_MOST_INTERRUPTS]
                    ]

    def told(self, messages: list[Any], run_input: Mapping[str, Any] | None) -> bytes | None:
        """Return what the thread waits for as JSON: ``{"interrupts": [...], "toolCalls": [...]}``.

        :param messages: the conversation after the run.
        :returns: None if the thread waits for nothing.
        """
        calls: list[dict[str, str]] = []
        if self.ended == t.RUN_ERROR:
            interrupts = self._left(run_input)
        elif self.ended == t.RUN_FINISHED:
            interrupts = [*(self._asked or ())]
            tools = run_input.get("tools") if run_input else None
            if tools:
                calls = list(islice(_unanswered(messages, _names(tools)), _MOST_CALLS))
        else:
            return None
        if not interrupts and not calls:
            return None
        return json_codec.encode({"interrupts": interrupts, "toolCalls": calls})

    def _left(self, run_input: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """The interrupts that a failed run has left; those that it was given answers to are marked.

        If the input is not known, because the run was lost before its first event, it may have had
        an answer to each.
        """
        asked = self._asked
        if asked is None:
            asked = json_codec.decode(self.before)["interrupts"] if self.before else ()
        left = [one for one in asked if "id" in one]
        if not self.has_begun:
            return left
        resume = run_input.get("resume", ()) if run_input else None
        answered = None if resume is None else {remembered_id(one["interruptId"]) for one in resume}
        return [
            {**one, "answered": True} if answered is None or one["id"] in answered else one
            for one in left
        ]


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
