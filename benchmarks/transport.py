"""A transport that sends nothing, so that what is measured is the runtime and not the kernel."""

from __future__ import annotations

import asyncio
from typing import Any


class CountingTransport(asyncio.Transport):
    """Takes all that is written, and keeps of it only how much it was."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = self.size = 0

    def write(self, data: Any) -> None:
        self.writes += 1
        self.size += len(data)
        if data.endswith(b"0\r\n\r\n") or b"content-length" in data[:400]:
            self.response_ended()

    def response_ended(self) -> None:
        """The whole of a response was written."""
        raise NotImplementedError

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def can_write_eof(self) -> bool:
        return False
