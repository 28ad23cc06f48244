"""Target: conversations of the published clients, whose reload shows what was shown live."""

from __future__ import annotations

import functools
from typing import Any

from clients.conversations import GENERATIONS, Clients, Conversation
from fuzz.support import json_lines

_RUNS = 6

clients = functools.cache(Clients)


def conversation(data: bytes) -> None:
    """Runs of an agent, with a line of null between two: a reload shows what was shown live.

    The other lines are events, or how a run ends: a text that the agent fails with, or true where
    the user stops it. A client of each generation reads all of them, hangs at none, and gets an
    answer to each of its bodies; so does another that connects after each run.
    """
    runs = list[list[Any]]([[]])
    for value in json_lines(data):
        if value is None:
            runs.append([])
        elif value is True or isinstance(value, str | dict):
            runs[-1].append(value)
    runs = runs[:_RUNS]
    is_compared = not _shares_ids([event for run in runs for event in run])
    for generation in GENERATIONS:
        talk = Conversation(clients(), generation, is_compared=is_compared)
        for script in runs:
            talk.hold(*script)


def _shares_ids(events: list[Any]) -> bool:
    """Whether an activity and another message have one id.

    The generations do different things with an activity whose id another message has. And no client
    sends the activities of earlier runs, so that the server does not know them. So an order that is
    the same for the server may be another one for a client.
    """
    activities, others = set[Any](), set[Any]()
    for event in filter(lambda event: isinstance(event, dict), events):
        type_, listed = event.get("type"), event.get("messages")
        is_activity = isinstance(type_, str) and type_.startswith("ACTIVITY")
        for name in ("messageId", "toolCallId", "parentMessageId"):
            (activities if is_activity else others).add(str(event.get(name, "none")))
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict):
                is_activity = one.get("role") == "activity"
                (activities if is_activity else others).add(str(one.get("id")))
    return not activities.isdisjoint(others - {"none"})
