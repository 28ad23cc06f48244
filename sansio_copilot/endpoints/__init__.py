"""One module an endpoint. An endpoint is a generator: it yields actions and returns a Reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from . import connect, info, platform, run, stop, suggest, threads
from ._errors import Refusal
from ._runs import adopt
from ._turn import LogStream, Reply, Steps, Turn

__all__ = ["DISPATCH", "Endpoint", "LogStream", "Refusal", "Reply", "Steps", "Turn", "adopt"]

Endpoint: TypeAlias = Callable[[Turn], Steps]

DISPATCH: dict[str, Endpoint] = {
    "info": info.info,
    "agent/run": run.run,
    "agent/suggest": suggest.suggest,
    "agent/connect": connect.connect,
    "agent/stop": stop.stop,
    "threads/list": threads.list_threads,
    "threads/messages": threads.messages,
    "threads/events": threads.events,
    "threads/state": threads.state,
    "threads/clear": threads.clear,
    "threads/update": platform.thread_operation,
    "threads/archive": platform.thread_operation,
    "threads/subscribe": platform.thread_operation,
    "annotate": platform.annotate,
    "inspector/metadata": platform.inspector_metadata,
}
"""The endpoint of each route. A route without one is answered 404 after the method check."""
