"""Each input of the corpus is tried once: the first ones, and all that the fuzzers found."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

import pytest
from fuzz.mutation import minimized
from fuzz.targets import CORPUS, TARGETS, Target

INPUTS = sorted(CORPUS.glob("*/*"))


def test_every_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_promises_of_a_target_hold(path: Path) -> None:
    TARGETS[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_the_promises_hold_for_changed_inputs_too(target: Target) -> None:
    """Changed inputs are tried for a moment, as ``make fuzz`` does without atheris."""
    for data in itertools.islice(target.changed_inputs(Random(1), 1000), 40):
        target.check(data)


def test_a_failing_input_is_made_small() -> None:
    data = b"first line\nsecond: a b c\nthird line\n"
    assert minimized(data, lambda smaller: b"b" in smaller) == b"b"
