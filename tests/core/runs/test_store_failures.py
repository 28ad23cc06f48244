"""A run whose store does not answer: the pauses, and the table behind them."""

from __future__ import annotations

import pytest
from ag_ui.core import RunAgentInput

from sansio_copilot import AgentContext, Limits, MemoryStore, Request, StoreUnavailable
from sansio_copilot.runs.parameters import RunParameters
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.runs.store_failures import REMEDIES, FailedCall, Remedy, StoreFailures
from sansio_copilot.stores.protocol import RunOpened, RunRequest
from sansio_copilot.testing import run_input

CLOSES = (FailedCall.CLOSE, FailedCall.CLOSE_WITH_END)


@pytest.fixture
def run() -> RunParameters:
    """The parts of a run that goes on for two seconds without its store."""
    store = MemoryStore()
    opened = store.open_run(RunRequest("t", "r", "default"))
    assert isinstance(opened, RunOpened)
    given = RunAgentInput.model_validate(run_input("t", "r"))
    context = AgentContext("default", Request("POST", "/"))
    recorder = RunRecorder(opened.key, None)
    return RunParameters(
        *(lambda run_input: iter(()), given, context, store, opened.key, recorder),
        limits=Limits(outage_seconds=2.0),
    )


def test_every_call_has_a_remedy_and_every_remedy_a_call() -> None:
    assert set(REMEDIES) == set(FailedCall)
    assert {remedy for pair in REMEDIES.values() for remedy in pair} == set(Remedy)


@pytest.mark.parametrize("call", FailedCall)
def test_an_error_that_does_not_pass_has_no_pause(call: FailedCall, run: RunParameters) -> None:
    failures = StoreFailures()
    assert failures.pause(call, OSError("disk"), 1.0, run) is None
    assert failures.outage is None


@pytest.mark.parametrize("call", FailedCall)
def test_a_store_that_is_away_is_paused_for_until_the_outage_is_too_long(
    call: FailedCall, run: RunParameters, caplog: pytest.LogCaptureFixture
) -> None:
    failures, now, pauses = StoreFailures(), 1.0, []
    while (pause := failures.pause(call, StoreUnavailable("away"), now, run)) is not None:
        pauses.append(pause)
        now += pause
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert caplog.messages == ["the thread store is unavailable, run 'r' waits for it: away"]


def test_a_server_that_ends_bounds_the_outage(run: RunParameters) -> None:
    failures = StoreFailures(last_moment=1.1)
    assert failures.pause(FailedCall.APPEND, StoreUnavailable(), 1.0, run) == 0.05
    assert failures.pause(FailedCall.APPEND, StoreUnavailable(), 1.05, run) is None


def test_an_outage_costs_none_of_the_two_tries(run: RunParameters) -> None:
    failures = StoreFailures()
    for _ in range(3):
        assert failures.pause(FailedCall.CLOSE, StoreUnavailable(), 1.0, run) is not None
    assert failures.remedy(FailedCall.CLOSE) is Remedy.CLOSE_AGAIN


@pytest.mark.parametrize("call", FailedCall)
def test_only_a_close_may_have_closed_the_log(call: FailedCall, run: RunParameters) -> None:
    failures = StoreFailures()
    failures.pause(call, OSError("disk"), 1.0, run)
    assert failures.may_be_closed is (call in CLOSES)
    failures.pause(FailedCall.APPEND, OSError("disk"), 1.0, run)
    assert failures.may_be_closed is (call in CLOSES)


@pytest.mark.parametrize("first", CLOSES)
@pytest.mark.parametrize("second", CLOSES)
def test_a_close_is_tried_twice(first: FailedCall, second: FailedCall) -> None:
    failures = StoreFailures()
    assert failures.remedy(FailedCall.APPEND) is Remedy.CLOSE
    assert failures.remedy(first) is REMEDIES[first][0]
    assert failures.remedy(FailedCall.APPEND) is Remedy.CLOSE
    assert failures.remedy(second) is Remedy.LEAVE_OPEN
