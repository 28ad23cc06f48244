"""The CopilotKit runtime protocol for Python: a pure core that any server can embed.

The core never opens, reads, writes, sleeps or waits; a binding from ``copilot_bindings`` does that
for it, or your own. Start with :class:`CopilotRuntime`.
"""

from __future__ import annotations

from .agents.agui import agui_agent
from .agents.protocols import AgentBase, AgentContext
from .agents.text import text_agent
from .errors import (
    BodyRefused,
    BodyTimeout,
    BodyTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
    RunRefused,
    StoreAnswerLost,
    StoreUnavailable,
)
from .exchange.machine import Exchange, ExchangeState
from .hooks import HookContext, Hooks, Reject
from .http.cors import CorsPolicy
from .http.forwarding import ForwardHeaders
from .http.messages import Headers, Request, Response
from .http.routing import Route
from .limits import Limits
from .runs.machine import Run
from .runs.report import RunReport, RunStart
from .runs.states import RunState
from .runtime import CopilotRuntime
from .stores.memory import MemoryStore
from .stores.protocol import ThreadStore
from .transcription import AudioFile, TranscriptionError
from .users import User
from .version import __version__

__all__ = [
    "AgentBase",
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
    "RunReport",
    "RunStart",
    "RunState",
    "StoreAnswerLost",
    "StoreUnavailable",
    "ThreadStore",
    "TranscriptionError",
    "User",
    "__version__",
    "agui_agent",
    "text_agent",
]
