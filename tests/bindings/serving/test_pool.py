"""Threads for calls that may hang: what happens when each of them does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from copilot_bindings.serving.pool import CallPool, Job, PoolExhausted


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that hangs the threads which wait for it, until the test is over."""
    gate = threading.Event()
    yield gate
    gate.set()


def hang(pool: CallPool, gate: threading.Event) -> tuple[Job, threading.Thread]:
    """A call that hangs, which has begun, and its thread."""
    begun = threading.Event()
    threads = []

    def work() -> None:
        threads.append(threading.current_thread())
        begun.set()
        gate.wait()

    job = Job(work)
    pool.submit(job)
    assert begun.wait(30)
    return job, threads[0]


def test_a_call_is_refused_at_once_when_all_threads_hang(gate: threading.Event) -> None:
    pool = CallPool("hook", 2, 0.0)
    for _ in range(2):
        pool.leave(hang(pool, gate)[0])
    # Two calls take the places of those that were left, and there are no more places.
    hang(pool, gate)
    hang(pool, gate)
    with pytest.raises(PoolExhausted, match="another call of hook: 4 do not return"):
        pool.submit(Job(gate.set))
    assert not gate.is_set()


def test_a_call_that_nobody_waits_for_any_more_is_not_made(gate: threading.Event) -> None:
    pool = CallPool("store", 1, 60.0)
    hang(pool, gate)
    made: list[str] = []
    done = threading.Event()
    dropped = Job(lambda: made.append("dropped"))
    pool.submit(dropped)
    pool.submit(Job(done.set))
    pool.leave(dropped)
    gate.set()
    assert done.wait(30)
    assert not made


def test_a_call_that_hangs_does_not_keep_the_process_alive(gate: threading.Event) -> None:
    _, thread = hang(CallPool("service", 1, 60.0), gate)
    assert thread.daemon
    assert thread.name == "copilot-service"


def test_a_call_that_has_returned_is_not_said_to_hang(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller may end the pool before the call's thread has come to its next step."""
    pool = CallPool("store", 2, 60.0)
    hang(pool, gate)
    hang(pool, gate)[0].returned = True
    pool.release()
    assert caplog.messages == ["left 1 calls of store that do not return"]
