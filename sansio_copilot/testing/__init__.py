"""Drive a runtime in a unit test: no network, no event loop, no thread, and a clock you set.

:class:`Client` talks to a runtime, :class:`ScriptedAgent` and :class:`Recording` stand in for
agents, and :func:`assert_valid_stream` reads what they say as a front end does. For agents that
really wait there is ``copilot_bindings.testing.AsyncClient``.
"""

from __future__ import annotations

from .client import Client, Stream
from .loopless import NeedsEventLoop
from .recordings import Recording, record
from .requests import run_input
from .responses import ClientResponse, ToolCall, assert_valid_stream
from .scripts import (
    ScriptedAgent,
    call_tool,
    fail,
    interrupt,
    patch_state,
    say,
    set_state,
    think,
    wait,
)

__all__ = [
    "Client",
    "ClientResponse",
    "NeedsEventLoop",
    "Recording",
    "ScriptedAgent",
    "Stream",
    "ToolCall",
    "assert_valid_stream",
    "call_tool",
    "fail",
    "interrupt",
    "patch_state",
    "record",
    "run_input",
    "say",
    "set_state",
    "think",
    "wait",
]
