"""A thread is the same in the store that it was copied to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sansio_copilot import CopilotRuntime, MemoryStore, text_agent
from sansio_copilot.stores.copy_threads import (
    ThreadNotCopied,
    copy_thread,
    list_all,
    list_everyones,
)
from sansio_copilot.stores.protocol import LogGone, RunRequest, RunResult
from sansio_copilot.testing import Client, run_input
from sansio_copilot.testing.stores.driven import Driven

BASE = "/api/copilotkit"
KINDS = ("messages", "events", "state")


@text_agent
def echoes(input: Any, context: Any) -> Any:
    yield from ("You said ", input.messages[-1].content)


def driven(steps: Generator[Any, Any, Any]) -> Any:
    try:
        call = next(steps)
        while True:
            call = steps.send(call.function(*call.args))
    except StopIteration as done:
        return done.value


def say(client: Client, thread: str, *texts: str) -> None:
    messages: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        messages.append({"id": f"{thread}-{number}", "role": "user", "content": text})
        body = run_input(thread, f"{thread}-run-{number}", messages=messages)
        events = client.post(f"{BASE}/agent/default/run", json=body).events()
        said = "".join(event.get("delta", "") for event in events)
        messages.append({"id": f"{thread}-run-{number}-text", "role": "assistant", "content": said})


def test_all_requests_for_a_copied_thread_are_answered_alike() -> None:
    old, new = MemoryStore(), MemoryStore()
    before = Client(CopilotRuntime({"default": echoes}, store=old, thread_mutations=True))
    for number in range(3):
        say(before, f"t{number}", "one", "two \ud800", "three")
    old.update_thread("t1", {"name": "Named", "archived": True})
    for record in reversed(driven(list_all(old, None))):
        assert driven(copy_thread(old, new, record, None)) is True
    after = Client(CopilotRuntime({"default": echoes}, store=new))
    for path in (
        "",
        *(f"/t{n}/{kind}" for n in range(3) for kind in ("messages", "events", "state")),
    ):
        assert (
            after.get(f"{BASE}/threads{path}").json() == before.get(f"{BASE}/threads{path}").json()
        )
    for number in range(3):
        path = f"{BASE}/threads/t{number}/events"
        assert after.get(path).json() == before.get(path).json()
    # A following run does not repeat the messages that its history has already.
    say(after, "t1", "one", "two \ud800", "three", "four")


def test_a_thread_that_is_there_already_is_left_as_it_is() -> None:
    old, new = MemoryStore(), MemoryStore()
    say(Client(CopilotRuntime({"default": echoes}, store=old)), "t", "old")
    say(Client(CopilotRuntime({"default": echoes}, store=new)), "t", "new")
    (record,) = driven(list_all(old, None))
    assert driven(copy_thread(old, new, record, None)) is False
    read = new.read_history("t", "messages", None, 1000)
    assert not isinstance(read, LogGone)
    assert b"old" not in read.data


def test_all_pages_of_a_list_are_read() -> None:
    store = MemoryStore(max_threads=2000)
    for number in range(1001):
        opened: Any = store.open_run(RunRequest(f"t{number}", "r", "a"))
        store.append(opened.key, 0, b"id: x\ndata: {}\n\n")

        store.close_run(opened.key, 16, b"", RunResult(b"", ended_at=float(number)))
    records = driven(list_all(store, None))
    assert [record.thread_id for record in records] == [f"t{n}" for n in range(1000, -1, -1)]


def test_the_threads_of_all_users_are_listed_with_their_owners() -> None:
    store = Driven(MemoryStore(max_threads=2000), lambda awaitable: awaitable)
    for number in range(1001):
        owner = None if number % 2 else f"user {number}"
        store.ended(f"t{number}", "1", owner=owner, ended_at=float(number))
    found = driven(list_everyones(store.store))
    assert [record.thread_id for _, record in found] == [f"t{n}" for n in range(1000, -1, -1)]
    assert [owner for owner, _ in found[:3]] == ["user 1000", None, "user 998"]


def test_a_store_that_cannot_list_all_users_lists_threads_of_nobody() -> None:
    class Old(MemoryStore):
        threads_of_all = None  # type: ignore[assignment]

    store = Driven(Old(), lambda awaitable: awaitable)
    store.ended("hers", "1", owner="ann")
    store.ended("nobody's", "1")
    found = driven(list_everyones(store.store))
    assert [(owner, record.thread_id) for owner, record in found] == [(None, "nobody's")]


def test_a_thread_with_a_live_run_in_the_other_store_is_not_copied() -> None:
    old, new = MemoryStore(), MemoryStore()
    say(Client(CopilotRuntime({"default": echoes}, store=old)), "t", "old")
    new.open_run(RunRequest("t", "live", "a"))
    (record,) = driven(list_all(old, None))
    with pytest.raises(ThreadNotCopied, match="live"):
        driven(copy_thread(old, new, record, None))


def test_a_thread_that_changes_meanwhile_is_not_copied() -> None:
    old, new = MemoryStore(), MemoryStore()
    say(Client(CopilotRuntime({"default": echoes}, store=old)), "t", "x" * 300_000, "two")
    (record,) = driven(list_all(old, None))
    steps = copy_thread(old, new, record, None)
    call = next(steps)
    call = steps.send(call.function(*call.args))
    first_page = call.function(*call.args)
    old.delete_thread("t")
    call = steps.send(first_page)
    gone = call.function(*call.args)
    with pytest.raises(ThreadNotCopied, match="changed"):
        steps.send(gone)


def test_frames_without_ids_or_a_beginning_are_one_run() -> None:
    old, new = MemoryStore(), MemoryStore()
    opened: Any = old.open_run(RunRequest("t", "r", "a"))

    old.close_run(opened.key, 0, b"", RunResult(b'data: {"type":"CUSTOM"}\n\n'))
    (record,) = driven(list_all(old, None))
    assert driven(copy_thread(old, new, record, None)) is True
