"""Tests of the rule that tells growth from noise."""

from __future__ import annotations

import random

import pytest
from soak.growth import grown, growth

CHANCE = random.Random(7)


@pytest.mark.parametrize("count", [9, 12, 30, 100])
def test_an_object_more_with_every_round_is_growth(count: int) -> None:
    """A leak of a single object a round."""
    samples = [{"tasks": 5.0 + number} for number in range(count)]
    (told,) = grown(samples, {})
    assert told.startswith("tasks grew by")


def test_a_leak_is_found_in_what_wobbles() -> None:
    samples = [{"memory": 1000 + number * 10 + CHANCE.random() * 20} for number in range(30)]
    assert grown(samples, {"memory": 100})


def test_a_kind_that_appears_late_is_growth() -> None:
    """A type of which there was nothing at first."""
    samples: list[dict[str, float]] = [{}] * 6 + [{"Exchange": 1.0}] * 6
    assert grown(samples, {})


@pytest.mark.parametrize(
    "series",
    [
        [5.0] * 9,
        [5, 5, 5, 5, 5, 5, 5, 99, 5],
        [99, 5, 5, 5, 5, 5, 5, 5, 5],
        [5, 6, 5, 6, 5, 6, 5, 6, 5],
        [9, 8, 7, 6, 5, 4, 3, 2, 1],
        [5 + (CHANCE.random() < 0.2) for _ in range(60)],
    ],
    ids=[
        "constant",
        "one high",
        "high at first",
        "alternating",
        "falling",
        "one high now and then",
    ],
)
def test_a_value_that_comes_back_is_no_growth(series: list[float]) -> None:
    assert growth(series) <= 0.5
    assert not grown([{"tasks": value} for value in series], {})


def test_the_slack_is_that_of_the_name() -> None:
    samples = [{"memory": 100.0 * number, "tasks": 1.0 * number} for number in range(9)]
    assert [line.split()[0] for line in grown(samples, {"memory": 600})] == ["tasks"]
    assert not grown(samples, {"memory": 600, "tasks": 6})


def test_too_little_to_tell_is_an_error() -> None:
    """Too few samples are not taken for a server that does not grow."""
    with pytest.raises(ValueError, match="8 quiet points are too few"):
        grown([{"tasks": 1.0}] * 8, {})
