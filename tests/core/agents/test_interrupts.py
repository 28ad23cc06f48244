"""The answers that an agent may act on, by what its thread waits for."""

from __future__ import annotations

from typing import Any

import pytest
from ag_ui.core import ResumeEntry

from sansio_copilot import json_codec
from sansio_copilot.agents import ResumeRefused, ThreadInterrupts, answers_to_act_on
from sansio_copilot.agents.interrupts import NO_INTERRUPTS, remembered_id

LONG = "x" * 1000


def waiting(**statuses: str) -> ThreadInterrupts:
    """The interrupts of a thread: those that are "open", and those that are "answered"."""
    told = [
        {"id": one, "reason": "approval", **({"answered": True} if status == "answered" else {})}
        for one, status in statuses.items()
    ]
    told.append({"reason": "on_interrupt"})
    return ThreadInterrupts.of(json_codec.encode({"interrupts": told, "toolCalls": []}))


def answer(interrupt_id: str, payload: Any = True, **more: Any) -> ResumeEntry:
    return ResumeEntry.model_validate(
        {"interruptId": interrupt_id, "status": "resolved", "payload": payload, **more}
    )


def test_a_thread_tells_the_status_of_its_interrupts() -> None:
    interrupts = waiting(a="open", b="answered")
    assert [interrupts.status(one) for one in "abc"] == ["open", "answered", None]
    assert interrupts.open_beside("b") == ["a"]
    assert interrupts.open_beside("a") == []


def test_a_thread_that_waits_for_nothing_has_no_interrupts() -> None:
    assert NO_INTERRUPTS.status("a") is None


@pytest.mark.parametrize("longest", [LONG, "\ud800" * 129, "x" * 128])
def test_a_long_id_is_remembered_in_a_bounded_text(longest: str) -> None:
    known = remembered_id(longest)
    assert len(known) < 200
    interrupts = waiting(**{known: "open"})
    assert interrupts.status(longest) == "open"
    assert interrupts.open_beside([longest]) == []


def test_an_id_that_only_begins_like_an_open_one_is_not_open() -> None:
    interrupts = waiting(**{remembered_id(LONG): "open"})
    for other in (f"{LONG}!", LONG[:128], remembered_id(LONG)):
        assert interrupts.status(other) is None
        assert interrupts.open_beside([other]) == [remembered_id(LONG)]


def test_answers_of_open_interrupts_are_acted_on() -> None:
    resume = [answer("a"), answer("b", False)]
    assert answers_to_act_on(resume, waiting(a="open", b="open")) == resume


def test_every_answer_fits_where_the_thread_is_not_known() -> None:
    assert answers_to_act_on([answer("a")], None) == [answer("a")]


def test_a_run_without_answers_is_none_of_the_threads_business() -> None:
    assert answers_to_act_on([], waiting(a="open")) == []


def test_the_same_answer_twice_is_one_answer() -> None:
    resume = [answer("a"), answer("a", metadata={"tab": 2})]
    for interrupts in (waiting(a="open"), None):
        assert answers_to_act_on(resume, interrupts) == [answer("a")]


@pytest.mark.parametrize(
    "other",
    [answer("a", False), ResumeEntry.model_validate({"interruptId": "a", "status": "cancelled"})],
)
def test_two_answers_that_contradict_each_other_are_refused(other: ResumeEntry) -> None:
    for interrupts in (waiting(a="open"), None):
        with pytest.raises(ResumeRefused, match="interrupt 'a' has two different answers"):
            answers_to_act_on([answer("a"), other], interrupts)


def test_a_resume_in_which_nothing_fits_is_refused() -> None:
    for interrupts in (NO_INTERRUPTS, waiting(), waiting(a="open")):
        with pytest.raises(ResumeRefused, match="interrupt 'z' is not open"):
            answers_to_act_on([answer("z")], interrupts)


def test_a_resume_that_leaves_an_open_interrupt_out_is_refused() -> None:
    with pytest.raises(ResumeRefused, match="interrupt 'b' is open too"):
        answers_to_act_on([answer("a")], waiting(a="open", b="open"))


def test_answers_that_do_not_fit_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    resume = [answer("a"), answer("b"), answer("z")]
    assert answers_to_act_on(resume, waiting(a="open", b="answered")) == [answer("a")]
    assert "left out: 2" in caplog.text
    assert answers_to_act_on([answer("b")], waiting(b="answered")) == []


def test_the_text_of_a_refusal_has_a_bound() -> None:
    with pytest.raises(ResumeRefused) as refused:
        answers_to_act_on([answer(LONG)], waiting())
    assert len(str(refused.value)) < 300
