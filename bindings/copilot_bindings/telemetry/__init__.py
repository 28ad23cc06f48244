"""OpenTelemetry for a runtime: a span for each request and each run, and metrics (extra ``otel``).

    telemetry = Telemetry()
    runtime = CopilotRuntime(agents, hooks=telemetry.hooks())

The names are those of OpenTelemetry's conventions for HTTP and for generative AI. No text of a
message or an error is told, unless the application asks for it.
"""

from __future__ import annotations

from ..missing_packages import missing_extra

try:
    from .hooks import Telemetry
except ModuleNotFoundError as error:
    raise missing_extra("otel", error, "copilot_bindings.telemetry") from error

__all__ = ["Telemetry"]
