"""Tests of the words for a store whose methods return something else than they should."""

from __future__ import annotations

from typing import Any

import pytest

from sansio_copilot.stores import MemoryStore, RunKey, calls
from sansio_copilot.stores.calls import Method, StoreCall


class Checkable(MemoryStore):
    def check(self) -> None:
        pass


STORE = Checkable()
KEY = RunKey("t", 1, "r")
ONE: Method[Any] = Method("one", (int, type(None)))
SEVERAL: Method[Any] = Method("several", (list,), int)
ANY: Method[Any] = Method("any")


@pytest.mark.parametrize(
    ("method", "outcome"), [(ONE, 1), (ONE, None), (SEVERAL, []), (SEVERAL, [1, 2]), (ANY, print)]
)
def test_a_right_outcome_is_accepted(method: Method[Any], outcome: Any) -> None:
    assert StoreCall(print, method=method).checked(outcome) == outcome


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
    with pytest.raises(TypeError) as raised:
        StoreCall(print, method=method).checked(outcome)
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("call", "wrong", "said"),
    [
        (
            calls.close_run(STORE, KEY, 0, b"", None),
            0,
            "close_run returned int, expected bool or None",
        ),
        (calls.clear(STORE, None), 3, "clear returned int, expected None"),
        (calls.check(STORE), False, "check returned bool, expected None"),
        (calls.renew(STORE, KEY), None, "renew returned NoneType, expected Signal"),
        (
            StoreCall(STORE.read, (None, 1), method=calls.READ),
            b"",
            "read returned bytes, expected Batch or LogGone",
        ),
    ],
)
def test_a_store_that_returns_something_else_than_it_promises_is_told_of(
    call: StoreCall[Any], wrong: object, said: str
) -> None:
    with pytest.raises(TypeError, match=f"store method {said}"):
        call.checked(wrong)


@pytest.mark.parametrize("closed", [True, None, False])
def test_a_close_says_whether_it_has_closed_the_run_and_none_is_yes(*, closed: bool | None) -> None:
    assert calls.close_run(STORE, KEY, 0, b"", None).checked(closed) is closed


def test_a_cursor_may_be_any_value_because_only_its_store_reads_it() -> None:
    assert calls.open_cursor(STORE, "t", None, None).checked(print) is print
