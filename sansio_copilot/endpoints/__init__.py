"""The endpoints, each in a module. An endpoint is a generator of calls that returns a reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..endpoints import (
    connect,
    debug_events,
    hosted_platform,
    info,
    run,
    stop,
    suggest,
    threads,
    transcribe,
)
from .body import JsonBody, check_values
from .request_and_reply import Content, EndpointInput, EndpointSteps, LogStream, Pieces, Reply

__all__ = [
    "DISPATCH",
    "Content",
    "Endpoint",
    "EndpointInput",
    "EndpointSteps",
    "JsonBody",
    "LogStream",
    "Pieces",
    "Reply",
    "check_values",
]

Endpoint: TypeAlias = Callable[[EndpointInput], EndpointSteps]

DISPATCH: dict[str, Endpoint] = {
    "info": info.info,
    "agent/run": run.run,
    "agent/suggest": suggest.suggest,
    "agent/connect": connect.connect,
    "agent/stop": stop.stop,
    "transcribe": transcribe.transcribe,
    "threads/list": threads.list_threads,
    "threads/messages": threads.messages,
    "threads/events": threads.events,
    "threads/state": threads.state,
    "threads/clear": threads.clear,
    "threads/update": threads.update,
    "threads/archive": threads.archive,
    "threads/subscribe": hosted_platform.thread_operation,
    "annotate": hosted_platform.annotate,
    "cpk-debug-events": debug_events.debug_events,
    "inspector/metadata": hosted_platform.inspector_metadata,
    "inspector/learning": hosted_platform.inspector_learning,
}
"""The endpoint of each route.

Memories have no endpoint, because they are refused with 404 before.
"""
