"""The room for long answers: what all clients together may leave in memory by taking them slowly.

A stream is read for its client piece by piece, but the history of a thread is answered whole, and
is held until the client has taken it. So the answers above :data:`LONG` that are being sent at once
have a bound together, in whatever threads they are sent.
"""

from __future__ import annotations

from typing import Final
from weakref import ref

LONG: Final = 1024**2
"""Bytes above which an answer counts; nearly all have some hundreds."""


class LongAnswers:
    """The long answers that one process is sending.

    :param room: bytes that they may have together. One may be sent even if it has more.
    """

    def __init__(self, room: float) -> None:
        self._room = room
        # The references are weak, because an event loop may be dropped with what it was sending.
        self.sent: dict[int, tuple[ref[object], int]] = {}
        """The answers that are being sent, by their sender: the sender and their size."""

    def admit(self, sender: object, size: int) -> bool:
        """Count a long answer of so many bytes until ``sender`` is done or collected.

        :returns: False if there is no room for it now.
        """
        held = 0
        # The copy is made in one step, because other threads admit answers meanwhile.
        for key, (other, bytes_of_other) in list(self.sent.items()):
            if other() is None:
                self.sent.pop(key, None)
            else:
                held += bytes_of_other
        if held and held + size > self._room:
            return False
        self.sent[id(sender)] = ref(sender), size
        return True

    def done(self, sender: object) -> None:
        """The answer of ``sender``, if it was long, has been sent or given up."""
        self.sent.pop(id(sender), None)
