"""Errors of a store's calls if its server goes away between the round trips of a call."""

from __future__ import annotations

from typing import Any

import pytest

from copilot_bindings.stores.round_trips import Command, PipelineThread, RoundTrips
from sansio_copilot import StoreAnswerLost, StoreUnavailable

AWAY = StoreUnavailable("the server is away")


def error_of(answers: list[list[Any] | Exception], trips: RoundTrips[Any]) -> BaseException | None:
    """Return the error that a call raises.

    :param answers: what each round trip brings: replies, or an error.
    """
    given = iter(answers)

    def send(commands: list[Command]) -> list[Any]:
        answer = next(given)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pipeline = PipelineThread("test", send, lambda: None)
    error = pipeline.submit(trips).exception(30)
    assert pipeline.close(30)
    return error


def deletes() -> RoundTrips[bool]:
    """The call deletes a thread, and then takes it from a list."""
    (outcome,) = yield [("DELETE",)]
    yield [("DELIST",), ("DELIST",)]
    return bool(outcome)


def test_a_call_that_never_arrived_is_an_outage() -> None:
    assert error_of([AWAY], deletes()) is AWAY
    assert error_of([[AWAY]], deletes()) is AWAY


@pytest.mark.parametrize("second", [AWAY, [AWAY, AWAY], [b"1", AWAY]], ids=["none", "two", "one"])
def test_a_call_that_was_done_in_part_may_have_been_done(second: list[Any] | Exception) -> None:
    error = error_of([[b"deleted"], second], deletes())
    assert isinstance(error, StoreAnswerLost)
    assert str(error) == "the server is away"


def test_a_call_of_which_one_command_was_done_may_have_been_done() -> None:
    def does_two() -> RoundTrips[None]:
        yield [("ONE",), ("OTHER",)]

    assert isinstance(error_of([[b"1", AWAY]], does_two()), StoreAnswerLost)
    assert error_of([[AWAY, AWAY]], does_two()) is AWAY


def test_an_error_that_is_no_outage_stays_what_it_is() -> None:
    error = ValueError("no such command")
    assert error_of([[b"deleted"], error], deletes()) is error
