"""Agents that do I/O of their own, and so need packages that the core does without."""

from __future__ import annotations

from ..extras import missing_extra

try:
    from .http import HttpAgent
except ModuleNotFoundError as error:
    raise missing_extra("http", error, "copilot_bindings.agents") from error

__all__ = ["HttpAgent"]
