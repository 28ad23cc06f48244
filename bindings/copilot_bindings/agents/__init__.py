"""Agents that do I/O of their own, and so need packages that the core does without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..missing_packages import missing_extra

if TYPE_CHECKING:
    from .builtin import BuiltInAgent
    from .http import HttpAgent
    from .pydantic_agent import pydantic_ai_agent

__all__ = ["BuiltInAgent", "HttpAgent", "pydantic_ai_agent"]


def __getattr__(name: str) -> Any:
    # An agent is imported when it is asked for, because each needs packages that the others do not.
    extra = "http" if name == "HttpAgent" else "model"
    try:
        if name == "HttpAgent":
            from .http import HttpAgent

            return HttpAgent
        if name == "BuiltInAgent":
            from .builtin import BuiltInAgent

            return BuiltInAgent
        if name == "pydantic_ai_agent":
            from .pydantic_agent import pydantic_ai_agent

            return pydantic_ai_agent
    except ImportError as error:
        # Pydantic AI says in an ImportError of its own which package it lacks.
        if not isinstance(error, ModuleNotFoundError):
            cause = error.__cause__
            if not isinstance(cause, ModuleNotFoundError):
                raise
            error = cause
        raise missing_extra(extra, error, f"copilot_bindings.agents.{name}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
