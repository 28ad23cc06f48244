"""One request and its response: the state machine that a binding drives."""

from __future__ import annotations

from .machine import Exchange, ExchangeState

__all__ = ["Exchange", "ExchangeState"]
