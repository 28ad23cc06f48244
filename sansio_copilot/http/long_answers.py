"""The room for long answers: the memory that they take while clients receive them slowly.

Most long content is read for its client piece by piece. But an answer that was made whole is held
until the client has taken it, and so is a text that a store hands out whole, from which the pieces
of an answer are made. So there is a bound for all answers together that have more than :data:`LONG`
bytes and are being sent at the same time, in whatever threads.
"""

from __future__ import annotations

from typing import Final
from weakref import ref

from msgspec import Struct

LONG: Final = 1024**2
"""Bytes above which an answer counts; nearly all have some hundreds."""


class _Held(Struct, frozen=True):
    """The memory that one sender holds.

    :param text: the id of the sender's text.
    :param size: the size of that text in bytes.
    :param own: the bytes that the sender holds besides.
    """

    sender: ref[object]
    text: int
    size: int
    own: int


class LongAnswers:
    """The long answers that one process is sending.

    :param room: bytes that they may have together. One may be sent even if it has more.
    """

    def __init__(self, room: float) -> None:
        self._room = room
        # The references are weak, because an event loop may be dropped while it was sending.
        self.sent: dict[int, _Held] = {}
        """The memory that is held by the answers that are being sent, by their sender."""

    def admit(self, sender: object, text: bytes, own: int = 0) -> bool:
        """Count a long answer until ``sender`` is done or collected.

        :param text: the text that the sender holds until then. It counts once for all senders that
            hold the same object.
        :param own: bytes that the sender holds besides.
        :returns: False if there is no room for it now.
        """
        texts: dict[int, int] = {}
        held = 0
        # The copy is made in one step, because other operating system threads admit answers
        # meanwhile.
        for key, other in list(self.sent.items()):
            if other.sender() is None:
                self.sent.pop(key, None)
            else:
                texts[other.text] = other.size
                held += other.own
        held += sum(texts.values())
        more = own + (0 if id(text) in texts else len(text))
        if held and more and held + more > self._room:
            return False
        self.sent[id(sender)] = _Held(ref(sender), id(text), len(text), own)
        return True

    def done(self, sender: object) -> None:
        """Stop counting the answer of ``sender``, which has been sent or given up."""
        self.sent.pop(id(sender), None)
