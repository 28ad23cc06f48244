"""Some functions of an application share threads, and others do not."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from copilot_bindings.serving.backend import Backend
from copilot_bindings.serving.calls import Calls
from copilot_bindings.serving.context import CallContext
from copilot_bindings.serving.pending_call import Pending
from sansio_copilot import CopilotRuntime, Limits
from sansio_copilot.actions import Call

KINDS = {
    "a hook": Call(print, name="hook on_request"),
    "another hook": Call(print, name="hook on_run_end"),
    "who asks": Call(print, name="the function identify_user"),
    "capabilities": Call(print, name="the capabilities of agent 'a'", kind="capabilities"),
    "titles": Call(print, name="title function", part="service"),
    "transcription": Call(print, name="the transcription service", part="service"),
    "the store": Call(print, name="store method append", part="store"),
}


def nowhere() -> Backend:
    raise AssertionError("nothing is awaited")


@pytest.fixture
def calls() -> Iterator[Calls]:
    """Calls with one thread for each kind, and one more for what hangs."""
    calls = Calls(CopilotRuntime({}, limits=Limits(call_threads=1)))
    yield calls
    calls.release()


def begin(calls: Calls, like: Call, function: object) -> Pending:
    call = Call(function, name=like.name, kind=like.kind, part=like.part)  # type: ignore[arg-type]
    pending = calls.begin(call, CallContext.of_now(), nowhere)
    assert isinstance(pending, Pending)
    return pending


@pytest.mark.parametrize(("hangs", "goes_on"), list(itertools.permutations(KINDS, 2)))
def test_calls_of_one_kind_that_hang_hold_up_no_other(
    calls: Calls, hangs: str, goes_on: str
) -> None:
    gate = threading.Event()
    waiting = [begin(calls, KINDS[hangs], gate.wait) for _ in range(4)]
    try:
        assert begin(calls, KINDS[goes_on], lambda: "done").block() == "done"
    finally:
        gate.set()
        for pending in waiting:
            pending.block()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (KINDS["the store"], Call(print, name="store method read", part="store")),
        (
            KINDS["capabilities"],
            Call(print, name="the capabilities of agent 'b'", kind="capabilities"),
        ),
    ],
)
def test_a_kind_has_so_many_threads_whatever_it_is_called(
    calls: Calls, first: Call, second: Call
) -> None:
    gate = threading.Event()
    waiting = [begin(calls, first, gate.wait), begin(calls, second, lambda: "done")]
    assert not waiting[1].done
    gate.set()
    assert [pending.block() for pending in waiting] == [True, "done"]
