"""The walk over a run's input, where it meets what bodies do not have."""

from __future__ import annotations

from sansio_copilot.events.input_shape import List, Text, Walk


def test_texts_in_a_list_are_read_one_by_one() -> None:
    walk = Walk()
    assert List(Text(3)).read(["abc", "abcd", 5], walk) == ["abc", "abcd", 5]
    assert walk.problems == [
        "1: expected at most 3 characters, received 4",
        "2: expected a string, received a number",
    ]
