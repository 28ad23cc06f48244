"""Tests of the words for a store whose methods return something else than they should."""

from __future__ import annotations

from typing import Any

import pytest

from sansio_copilot.stores.calls import Method

ONE: Method[Any] = Method("one", (int, type(None)))
SEVERAL: Method[Any] = Method("several", (list,), int)
ANY: Method[Any] = Method("any")


@pytest.mark.parametrize(
    ("method", "outcome"), [(ONE, 1), (ONE, None), (SEVERAL, []), (SEVERAL, [1, 2]), (ANY, print)]
)
def test_a_right_outcome_is_accepted(method: Method[Any], outcome: Any) -> None:
    assert method.wrong(outcome) is None


@pytest.mark.parametrize(
    ("method", "outcome", "said"),
    [
        (ONE, "1", "store method one returned str, expected int or None"),
        (SEVERAL, (1,), "store method several returned tuple, expected list"),
        (SEVERAL, [1, "2"], "store method several returned a list of str, expected a list of int"),
    ],
)
def test_a_wrong_outcome_is_told_with_the_expected_type(
    method: Method[Any], outcome: Any, said: str
) -> None:
    assert str(method.wrong(outcome)) == said
