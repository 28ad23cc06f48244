"""Drive a runtime in a unit test: no network, no event loop, no thread, and a clock you set."""

from __future__ import annotations

from .client import Client, ClientResponse, NeedsEventLoop, Stream, run_input

__all__ = ["Client", "ClientResponse", "NeedsEventLoop", "Stream", "run_input"]
