"""The status of a model's provider, as a client is told of it."""

from __future__ import annotations

import pytest

from sansio_copilot.agents.model_faults import ModelFailed, ModelFault, failed_with


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "MODEL_UNAUTHORIZED"),
        (403, "MODEL_UNAUTHORIZED"),
        (404, "MODEL_REFUSED"),
        (409, "MODEL_BUSY"),
        (429, "MODEL_BUSY"),
        (500, "MODEL_FAILED"),
        (503, "MODEL_BUSY"),
        (529, "MODEL_BUSY"),
    ],
)
def test_a_status_stands_for_a_fault(status: int, code: str) -> None:
    failed = failed_with(status)
    assert failed.code == code
    assert str(failed).endswith(f" (HTTP {status})")


def test_a_fault_without_a_status_has_its_words() -> None:
    assert str(ModelFailed(ModelFault.AGENT_FAILED)) == "The agent failed"
