"""The script of the soak's agents: a function of a plan, which the load can compute as well.

The text of each delta is stamped with its place in the stream and with a checksum of all deltas
before it, so that also a text which was put together from many of them (as a replay does) tells
whether something is missing, doubled, out of order, or altered::

    17 0a1b2c3d xxxxxxxx;
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import attrs

Event: TypeAlias = dict[str, Any]
Ending: TypeAlias = Literal["finishes", "asks", "raises", "forgets"]
"""``asks``: with a call of a tool that the front end has. ``forgets``: without a terminal event."""

STAMPED = re.compile(r"(\d+) ([0-9a-f]{8}) ([^;]*);")
_FILLERS = ("x", "é", "漢", "\N{PARTY POPPER}", "\\n\n", '"')
"""The characters that fill a delta: of one to four bytes, some of which JSON has to escape."""


@attrs.frozen
class Plan:
    """The plan of one run, which travels in ``forwardedProps``.

    :param deltas: of each message; there are two.
    :param size: characters of a delta, roughly.
    :param pause: seconds that the agent waits before each ``every``-th event.
    """

    seed: int
    deltas: int = 8
    size: int = 20
    pause: float = 0.0
    every: int = 1
    ending: Ending = "finishes"


class _Stamp:
    """Writes deltas, one after the other, with what tells their order."""

    def __init__(self, run_id: str) -> None:
        self._checksum = zlib.crc32(run_id.encode())

    def __call__(self, number: int, filler: str) -> str:
        text = f"{number} {self._checksum:08x} {filler};"
        self._checksum = zlib.crc32(text.encode(), self._checksum)
        return text


def script(plan: Plan, thread_id: str, run_id: str) -> list[Event]:
    """All events that the agent yields before it returns, raises, or forgets to end."""
    events = list(_whole(plan, thread_id, run_id))
    if plan.ending in ("raises", "forgets"):
        # The cut is behind RUN_STARTED, and before RUN_FINISHED.
        del events[random.Random(plan.seed).randrange(1, len(events)) :]
    return events


def _whole(plan: Plan, thread_id: str, run_id: str) -> Iterator[Event]:
    run = {"threadId": thread_id, "runId": run_id}
    chance, stamp = random.Random(plan.seed), _Stamp(run_id)
    number = 0

    def deltas(count: int) -> Iterator[str]:
        nonlocal number
        for _ in range(count):
            yield stamp(number, chance.choice(_FILLERS) * chance.randrange(1, plan.size * 2))
            number += 1

    yield {"type": "RUN_STARTED", **run}
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"run": run_id, "step": 0}}
    for step in (1, 2):
        message, call = f"{run_id}-m{step}", f"{run_id}-t{step}"
        yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
        for delta in deltas(plan.deltas):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": delta}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message}
        patch = {"op": "replace", "path": "/step", "value": step}
        yield {"type": "STATE_DELTA", "delta": [patch]}
        yield {"type": "CUSTOM", "name": "step", "value": step}
        yield {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "tool"}
        for delta in deltas(2):
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": delta}
        yield {"type": "TOOL_CALL_END", "toolCallId": call}
        if step == 1 or plan.ending != "asks":
            result = {"messageId": f"{call}-r", "toolCallId": call, "content": "done"}
            yield {"type": "TOOL_CALL_RESULT", **result}
    yield {"type": "RUN_FINISHED", **run}
