"""Routes that need CopilotKit's hosted platform, each with a fixed reply."""

from __future__ import annotations

from ..http.messages import Response
from .request_and_reply import EndpointInput, EndpointSteps, Reply

_MISSING = (
    "Missing CopilotKitIntelligence configuration. {} requires a CopilotKitIntelligence instance "
    "to be provided in CopilotRuntime options."
)
_THREADS = (
    "Missing CopilotKitIntelligence configuration. Thread operations require a "
    "CopilotKitIntelligence instance to be provided in CopilotRuntime options."
)


def thread_operation(given: EndpointInput) -> EndpointSteps:
    """PATCH, DELETE and archive of a thread, and /threads/subscribe."""
    return Reply(Response.json({"error": _THREADS}, 422))
    yield


def annotate(given: EndpointInput) -> EndpointSteps:
    """POST /annotate."""
    return Reply(Response.json({"error": _MISSING.format("annotate")}, 422))
    yield


def inspector_metadata(given: EndpointInput) -> EndpointSteps:
    """GET /inspector-metadata: a self-hosted runtime has no metadata."""
    return Reply(Response(204, {"cache-control": "no-store, private"}))
    yield


def inspector_learning(given: EndpointInput) -> EndpointSteps:
    """GET /inspector-learning: a self-hosted runtime has nothing to show."""
    return Reply(Response.json({"error": "Not found"}, 404, {"cache-control": "no-store, private"}))
    yield
