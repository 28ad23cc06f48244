"""The exceptions of Pydantic AI, translated to the failures that a client is told of."""

from __future__ import annotations

from typing import Final

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelHTTPError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)

from sansio_copilot.agents.model_faults import ModelFailed, ModelFault, failed_with

_FAULTS: Final = (
    (ModelTimeoutError, ModelFault.MODEL_TIMEOUT),
    (ModelAPIError, ModelFault.MODEL_UNREACHABLE),
    (UsageLimitExceeded, ModelFault.AGENT_STEP_LIMIT),
    (ContentFilterError, ModelFault.MODEL_FILTERED),
    (UnexpectedModelBehavior, ModelFault.MODEL_MISBEHAVED),
    (UserError, ModelFault.AGENT_BAD_REQUEST),
)
"""The failure for each class of exceptions; the first class that fits counts."""


def failure_of(error: Exception) -> ModelFailed:
    """Return the failure that a client is told when ``error`` has ended a run."""
    if isinstance(error, ModelHTTPError):
        return failed_with(error.status_code)
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return ModelFailed(fault)
    return ModelFailed(ModelFault.AGENT_FAILED)
