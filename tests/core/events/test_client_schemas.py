"""Both generations of the clients read an event that passes."""

from __future__ import annotations

import pytest

from sansio_copilot.events.client_schemas import Atom, ListOf, Meeting


def test_the_meeting_of_anything_and_a_list_is_the_list() -> None:
    texts = ListOf(Atom("string"))
    assert Meeting()(Atom("any"), texts) is texts
    assert Meeting()(texts, Atom("any")) is texts


def test_a_text_and_a_list_have_nothing_in_common() -> None:
    with pytest.raises(TypeError, match="nothing is both"):
        Meeting()(Atom("string"), ListOf(Atom("string")))
