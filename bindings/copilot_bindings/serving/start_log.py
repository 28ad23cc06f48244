"""The line of the log with which every server begins."""

from __future__ import annotations

from collections.abc import Mapping
from logging import Logger

from sansio_copilot import CopilotRuntime

_MOST_AGENTS = 20


def log_start(logger: Logger, server: str, runtime: CopilotRuntime) -> None:
    """Say at INFO what is about to be served.

    :param logger: the logger of the module that makes the server.
    :param server: the kind of server, in words.
    """
    agents = "picked by a function"
    if isinstance(runtime.agents, Mapping):
        ids = list(map(repr, runtime.agents))
        more = [f"and {len(ids) - _MOST_AGENTS} more"] if len(ids) > _MOST_AGENTS else []
        agents = ", ".join(ids[:_MOST_AGENTS] + more) or "none"
    logger.info(
        "starting %s: the agents are %s, at %s, with threads in a %s",
        *(server, agents),
        "any path" if runtime.base_path is None else runtime.base_path or "/",
        type(runtime.store).__name__,
    )
