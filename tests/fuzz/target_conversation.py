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
    for generation in GENERATIONS:
        talk = Conversation(clients(), generation)
        for script in runs[:_RUNS]:
            talk.hold(*script)
