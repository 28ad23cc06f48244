"""The agent of ``sansio-copilot demo --model``: a model, and a function that it may call."""

from __future__ import annotations

import datetime

from ..agents import BuiltInAgent


def current_time() -> str:
    """The date and time of the server, with its time zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def model_agent(model: str) -> BuiltInAgent:
    """Make the agent.

    :param model: as :class:`BuiltInAgent` takes it.
    :raises ValueError: if the model cannot be used, for the lack of a key, say.
    """
    return BuiltInAgent(model, tools=[current_time], description=f"Talks to {model}.")
