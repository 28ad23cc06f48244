"""The frames of a run that are held: for others, or for a store that is unavailable."""

from __future__ import annotations

from msgspec import Struct


class Backlog(Struct, eq=False):
    """Frames in their order, and how many bytes they have.

    A run appends to them itself, because it does so for each event.
    """

    frames: list[bytes] = []
    size: int = 0

    def take(self) -> bytes:
        """All of them, which are held no longer."""
        frames, self.frames, self.size = self.frames, [], 0
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def put_back(self, frames: bytes) -> None:
        """Hold ``frames`` in front of the others, because the log may have them or not."""
        if frames:
            self.frames.insert(0, frames)
            self.size += len(frames)
