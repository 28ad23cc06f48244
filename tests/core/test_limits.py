"""Limits: what a runtime allows."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from sansio_copilot import Limits

NAMES = [field.name for field in attrs.fields(Limits)]


def test_the_defaults_suit_a_chat_behind_a_proxy() -> None:
    limits = Limits()
    assert limits.body_bytes == 32 * 1024**2
    assert limits.heartbeat_seconds == 15
    assert limits.read_bytes == 256 * 1024


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, "5", None, True, [1]])
def test_a_limit_is_a_number_above_0(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number above 0, got "):
        Limits(**{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_may_be_small(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1


@pytest.mark.parametrize("name", ["read_bytes", "header_bytes", "call_threads"])
@pytest.mark.parametrize("value", [0.5, 1000.0, math.inf])
def test_the_bytes_read_at_once_are_a_whole_number(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number, got "):
        Limits(**{name: value})  # type: ignore[arg-type]


def test_limits_do_not_change() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Limits().body_bytes = 5  # type: ignore[misc]
