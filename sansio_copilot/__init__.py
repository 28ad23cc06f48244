"""The CopilotKit runtime protocol for Python: a pure core that any server can embed.

Nothing here opens, reads, writes, sleeps or waits; a binding from ``copilot_bindings`` does, or
your own. Start with :class:`CopilotRuntime`.
"""

from __future__ import annotations

from ._version import __version__
from .agents import AgentContext
from .cors import CorsPolicy
from .errors import (
    BodyRefused,
    BodyTimeout,
    BodyTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
    RunRefused,
)
from .exchange import Exchange, ExchangeState
from .forwarding import ForwardHeaders
from .hooks import HookContext, Hooks, Reject
from .http import Headers, Request, Response
from .limits import Limits
from .memory import MemoryStore
from .routing import Route
from .run import Run, RunState
from .runtime import CopilotRuntime
from .text import text_agent
from .threads import ThreadStore
from .transcription import AudioFile, TranscriptionError

__all__ = [
    "AgentContext",
    "AudioFile",
    "BodyRefused",
    "BodyTimeout",
    "BodyTooLarge",
    "CopilotRuntime",
    "CorsPolicy",
    "Exchange",
    "ExchangeState",
    "ForwardHeaders",
    "Headers",
    "HookContext",
    "Hooks",
    "Limits",
    "LocalProtocolError",
    "MemoryStore",
    "Reject",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Route",
    "Run",
    "RunRefused",
    "RunState",
    "ThreadStore",
    "TranscriptionError",
    "__version__",
    "text_agent",
]
