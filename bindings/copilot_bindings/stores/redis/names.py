"""The names of keys and channels, and ids as scripts unpack them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import attrs

from ..database_values import to_bytes


def packed(ids: Iterable[str]) -> bytes:
    """Return ids as a script unpacks them: each with its length in front (netstrings)."""
    return b"".join([b"%d:%s" % (len(data), data) for data in map(to_bytes, ids)])


def unpacked(fields: bytes) -> list[bytes | None]:
    """Return the fields that the script ``RECORD`` has packed; None for a field that is absent."""
    head, _, texts = fields.partition(b" ")
    found: list[bytes | None] = []
    begin = 0
    for length in head.split(b","):
        if length:
            end = begin + int(length)
            found.append(texts[begin:end])
            begin = end
        else:
            found.append(None)
    return found


@attrs.frozen
class Names:
    """The names of one store.

    :param prefix: the prefix of all names.
    """

    prefix: str

    def thread(self, thread_id: str) -> str:
        """The key of a thread. Its braces keep all keys of the thread on one node of a cluster."""
        return f"{self.prefix}:{{{_digest(to_bytes(thread_id))}}}"

    def listed(self, owner: bytes) -> str:
        """The sorted set of an owner's threads that have history, the last updated first."""
        return f"{self.prefix}:listed:{_digest(owner)}"

    @property
    def threads(self) -> str:
        """The sorted set of all threads that have history, by the time of their last update."""
        return f"{self.prefix}:threads"

    @property
    def version(self) -> str:
        """The version of all keys."""
        return f"{self.prefix}:version"

    @property
    def live(self) -> str:
        """The sorted set of runs that may be open, by the time when a sweep has to look at them."""
        return f"{self.prefix}:live"

    @property
    def processes(self) -> str:
        """The prefix of the names of the processes' channels."""
        return f"{self.prefix}:process:"

    def run_channel(self, thread: str, run: int) -> str:
        """The channel of the notifications of appends to a run."""
        return f"{thread}:n:{run}"


def owner_and_thread(owner: bytes, thread_id: bytes) -> bytes:
    """Return the member for a thread in the set of all threads. It has the owner too, because the
    owner must be known to remove the thread from the other lists."""
    return b"%d %s%s" % (len(owner), owner, thread_id)


def from_owner_and_thread(member: bytes) -> tuple[bytes, bytes]:
    """Return the owner and the thread that :func:`owner_and_thread` was given."""
    length, _, both = member.partition(b" ")
    return both[: int(length)], both[int(length) :]


def _digest(data: bytes) -> str:
    return sha256(data, usedforsecurity=False).hexdigest()[:32]
