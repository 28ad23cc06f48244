"""Warnings for the developer of an agent: log lines of events that are of no use to a client.

Such an event breaks no rule of AG-UI, so that the run goes on. Each kind is told once for a run, in
a line of a bounded size.
"""

from __future__ import annotations

import logging

from msgspec import Struct

from ..errors import shorten
from ..events.normalize import nearest_type
from ..events.patch import PatchDeclined, PatchHarmful

logger = logging.getLogger(__name__)

# At most this number of unknown types of events is logged for a run, and this number of characters
# of each, because the agent may make them up.
_UNKNOWN_TYPES = 8
_LONGEST_TYPE = 64


class DeveloperWarnings(Struct, eq=False):
    """The warnings of one run that have not been told yet."""

    run_id: str
    agent_id: str | None
    is_given: bool = False
    unknown_types: tuple[str, ...] = ()

    def look_at(self, type_: str, declined: PatchDeclined | None) -> None:
        """Tell, once for the run, that its deltas build a value that cannot be used.

        :param type_: the type of a delta that was applied.
        :param declined: the delta's error, if it was declined.
        :raises PatchHarmful: if ``declined`` is one, because a client would apply the delta, and
            could not go on with the thread.
        """
        if isinstance(declined, PatchHarmful):
            raise declined
        if declined is not None and not self.is_given:
            self.is_given = True
            logger.warning("run %r: %s: %s", self.run_id, type_, declined)

    def unknown(self, type_: str) -> None:
        """Tell of an unknown type, once for each of the first few."""
        unknown = shorten(type_, _LONGEST_TYPE)
        if unknown in self.unknown_types or len(self.unknown_types) >= _UNKNOWN_TYPES:
            return
        self.unknown_types += (unknown,)
        nearest = nearest_type(unknown)
        logger.warning(
            "agent %r: events of unknown type %r are dropped%s",
            self.agent_id,
            unknown,
            "" if nearest is None else f"; did it mean {nearest!r}?",
        )
