"""Warnings for the developer of an agent: log lines of events that are of no use to a client.

Nothing is wrong with such an event by the rules of AG-UI, so that the run goes on. Each kind is
told once for a run, and what is told of it has a bounded size.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from msgspec import Struct

from ..errors import shorten
from ..events.json_values import measure
from ..events.normalize import nearest_type
from ..events.patch import MAX_DEPTH, PatchRefused

logger = logging.getLogger(__name__)

MADE: Final = frozenset({"STATE_SNAPSHOT", "STATE_DELTA", "ACTIVITY_DELTA", "MESSAGES_SNAPSHOT"})
"""A client sends back what these events build in the body of the next run, so that it has to
fit."""

_UNKNOWN_TYPES = 8  # unknown types of events that are logged for a run
_LONGEST_TYPE = 64  # characters of one that are logged


class DeveloperWarnings(Struct, eq=False):
    """The warnings of one run, as far as they have not been told."""

    run_id: str
    agent_id: str | None
    is_given: bool = False
    unknown_types: set[str] = set()

    def look_at(self, event: dict[str, Any], frame: bytes, refused: PatchRefused | None) -> None:
        """Tell, once for the run, that what it builds cannot be used.

        :param event: one that builds something, which is in ``frame``.
        :param refused: the error of a delta that exceeded its budget, if one has.
        """
        if self.is_given:
            return
        if refused is not None:
            self.is_given = True
            logger.warning("run %r: %s: %s", self.run_id, event["type"], refused)
        # A value with fewer brackets than that cannot be too deep, and need not be walked.
        elif frame.count(b"{") + frame.count(b"[") >= MAX_DEPTH:
            _, levels = measure(event.get("snapshot", event.get("messages")))
            if levels >= MAX_DEPTH:
                self.is_given = True
                logger.warning(
                    "run %r: a %s is nested deeper than %d levels: the next run, whose body has "
                    "it, will be answered 400",
                    self.run_id,
                    event["type"],
                    MAX_DEPTH - 1,
                )

    def unknown(self, type_: str) -> None:
        """Tell of an unknown type, once for each of the first few."""
        unknown = shorten(type_, _LONGEST_TYPE)
        if unknown in self.unknown_types or len(self.unknown_types) >= _UNKNOWN_TYPES:
            return
        self.unknown_types.add(unknown)
        nearest = nearest_type(unknown)
        logger.warning(
            "agent %r: events of unknown type %r are dropped%s",
            self.agent_id,
            unknown,
            "" if nearest is None else f"; did it mean {nearest!r}?",
        )
