"""One agent run: the state machine that a binding drives beside any request."""

from __future__ import annotations

from .machine import Run
from .states import RunState

__all__ = ["Run", "RunState"]
