"""The failures of a model, as a client is told them: a code, and words of this library.

The words of the error itself go to the log only, because the texts of providers name keys and
addresses, and the texts of tools and MCP servers may name anything.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

_BUSY: Final = (409, 429, 503, 529)
"""The statuses of a provider that has no room now; 529 is Anthropic's."""


class ModelFault(Enum):
    """The code of the RUN_ERROR, by its name, and the text."""

    MODEL_UNAUTHORIZED = "The model does not accept who asks"
    MODEL_BUSY = "The model is busy"
    MODEL_REFUSED = "The model refused the request"
    MODEL_FAILED = "The model failed"
    MODEL_UNREACHABLE = "The model cannot be reached"
    MODEL_TIMEOUT = "The model was silent for too long"
    MODEL_FILTERED = "The model's answer was withheld by its provider"
    MODEL_MISBEHAVED = "The model's answer cannot be used"
    AGENT_STEP_LIMIT = "The agent has taken all the steps that it may"
    AGENT_BAD_REQUEST = "The agent cannot do what the request asks for"
    AGENT_FAILED = "The agent failed"


class ModelFailed(Exception):
    """A model has failed; the text is for clients.

    :param fault: the kind of failure.
    :param status: the status of the provider's response, if it has one.
    """

    def __init__(self, fault: ModelFault, status: int | None = None) -> None:
        super().__init__(fault.value if status is None else f"{fault.value} (HTTP {status})")
        self.code = fault.name


def failed_with(status: int) -> ModelFailed:
    """The failure that a provider's status stands for (RFC 9110 section 15)."""
    if status in (401, 403):
        return ModelFailed(ModelFault.MODEL_UNAUTHORIZED, status)
    if status in _BUSY:
        return ModelFailed(ModelFault.MODEL_BUSY, status)
    fault = ModelFault.MODEL_FAILED if status >= 500 else ModelFault.MODEL_REFUSED
    return ModelFailed(fault, status)
