"""Paging of the threads endpoints, and the mutations that a runtime may allow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sansio_copilot import CopilotRuntime, Limits, MemoryStore, text_agent
from sansio_copilot.stores.protocol import Batch, LogGone, RunOpened, RunRequest, RunResult
from sansio_copilot.testing import Client, ClientResponse, run_input

BASE = "/api/copilotkit"


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield "Hello"


def client(*threads: str, mutations: bool = True) -> Client:
    """A client of a runtime in which each of ``threads`` has had a run."""
    made = Client(CopilotRuntime({"default": hello}, thread_mutations=mutations))
    for thread in threads:
        made.advance(1)
        made.post(f"{BASE}/agent/default/run", json=run_input(thread))
    return made


def ids(answer: ClientResponse) -> list[str]:
    return [thread["id"] for thread in answer.json()["threads"]]


def patch(made: Client, thread: str, body: str) -> ClientResponse:
    return made.request("PATCH", f"{BASE}/threads/{thread}", body=body)


class TestPaging:
    def test_the_list_is_whole_unless_asked_otherwise(self) -> None:
        answer = client("a", "b", "c").get(f"{BASE}/threads")
        assert ids(answer) == ["c", "b", "a"]
        assert answer.json()["nextCursor"] is None

    def test_the_list_of_threads_is_given_page_by_page(self) -> None:
        made = client("a", "b", "c")
        first = made.get(f"{BASE}/threads?limit=2")
        assert ids(first) == ["c", "b"]
        cursor = first.json()["nextCursor"]
        second = made.get(f"{BASE}/threads?limit=2&cursor={cursor}")
        assert (ids(second), second.json()["nextCursor"]) == (["a"], None)

    @pytest.mark.parametrize("what", ["messages", "events"])
    def test_a_threads_content_is_given_page_by_page(self, what: str) -> None:
        made = client()
        messages = [{"id": f"u{n}", "role": "user", "content": "hi"} for n in range(5)]
        made.post(f"{BASE}/agent/default/run", json=run_input("t", messages=messages))
        path = f"{BASE}/threads/t/{what}"
        whole = made.get(path).json()
        assert whole.keys() == {what}
        pages, cursor = [], "0"
        while cursor is not None:
            page = made.get(f"{path}?limit=2&cursor={cursor}").json()
            assert len(page[what]) <= 2
            pages += page[what]
            cursor = page["nextCursor"]
        assert pages == whole[what]

    @pytest.mark.parametrize(
        "query", ["limit=x", "limit=-1", "cursor=%C2%B2", "cursor=1e3", "cursor=WzEsMl0"]
    )
    def test_parameters_that_name_no_page_are_refused(self, query: str) -> None:
        answer = client("a").get(f"{BASE}/threads?{query}")
        assert answer.status == 400
        assert answer.json()["details"].startswith(query.partition("=")[0])


def asks(input: Any, context: Any) -> Iterator[dict[str, Any]]:
    """Ask a person, and end when that person has answered."""
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_STARTED", **ids}
    if not input.resume:
        interrupts = [{"id": "i", "reason": "approval"}]
        yield {
            "type": "RUN_FINISHED",
            **ids,
            "outcome": {"type": "interrupt", "interrupts": interrupts},
        }
        return
    yield {"type": "RUN_FINISHED", **ids}


def test_a_list_shows_which_threads_wait_and_may_have_those_alone() -> None:
    made = Client(CopilotRuntime({"default": asks, "hello": hello}))
    made.post(f"{BASE}/agent/default/run", json=run_input("asks"))
    made.post(f"{BASE}/agent/hello/run", json=run_input("idle"))
    threads = {one["id"]: one for one in made.get(f"{BASE}/threads").json()["threads"]}
    waits = {"interrupts": [{"id": "i", "reason": "approval"}], "toolCalls": []}
    assert threads["asks"]["waitsFor"] == waits
    assert "waitsFor" not in threads["idle"]
    assert ids(made.get(f"{BASE}/threads?waiting=true")) == ["asks"]
    answer = {"interruptId": "i", "status": "resolved", "payload": True}
    made.post(f"{BASE}/agent/default/run", json={**run_input("asks", "again"), "resume": [answer]})
    assert ids(made.get(f"{BASE}/threads?waiting=true")) == []


class TestMutations:
    def test_mutations_are_refused_unless_allowed(self) -> None:
        made = client("a", mutations=False)
        answers = [
            patch(made, "a", '{"name":"x"}'),
            made.request("DELETE", f"{BASE}/threads/a"),
            made.post(f"{BASE}/threads/a/archive"),
        ]
        assert [answer.status for answer in answers] == [422, 422, 422]
        assert made.get(f"{BASE}/info").json()["threadEndpoints"]["mutations"] is False
        assert ids(made.get(f"{BASE}/threads")) == ["a"]

    def test_info_says_whether_mutations_are_allowed(self) -> None:
        assert client().get(f"{BASE}/info").json()["threadEndpoints"]["mutations"] is True

    def test_a_thread_is_given_a_name(self) -> None:
        made = client("a")
        renamed = patch(made, "a", '{"agentId":"default","name":"Hello"}').json()
        assert (renamed["id"], renamed["name"], renamed["archived"]) == ("a", "Hello", False)
        assert made.get(f"{BASE}/threads").json()["threads"] == [renamed]
        assert patch(made, "a", '{"name":null}').json()["name"] is None

    def test_a_thread_is_archived_and_brought_back(self) -> None:
        made = client("a", "b")
        answer = made.post(f"{BASE}/threads/a/archive", json={"agentId": "default"})
        assert answer.json() == {"threadId": "a", "archived": True}
        assert ids(made.get(f"{BASE}/threads")) == ["b"]
        assert ids(made.get(f"{BASE}/threads?includeArchived=true")) == ["b", "a"]
        assert patch(made, "a", '{"archived":false}').json()["archived"] is False
        assert ids(made.get(f"{BASE}/threads")) == ["b", "a"]

    def test_a_deleted_thread_is_gone(self) -> None:
        made = client("a", "b")
        answer = made.request("DELETE", f"{BASE}/threads/a")
        assert answer.json() == {"threadId": "a", "deleted": True}
        assert ids(made.get(f"{BASE}/threads")) == ["b"]
        assert made.get(f"{BASE}/threads/a/messages").json() == {"messages": []}

    def test_the_live_run_of_a_deleted_thread_ends_for_its_readers(self) -> None:
        made = client("a")
        run = made.stream("POST", f"{BASE}/agent/default/run", json=run_input("a", "second"))
        run.next()
        made.request("DELETE", f"{BASE}/threads/a")
        assert [event["type"] for event in run] == ["RUN_FINISHED"]
        assert made.get(f"{BASE}/threads").json()["threads"] == []
        fresh = made.post(f"{BASE}/agent/default/run", json=run_input("a", "third"))
        assert fresh.events()[-1]["type"] == "RUN_FINISHED"

    @pytest.mark.parametrize("method", ["PATCH", "DELETE", "POST"])
    def test_a_thread_that_is_not_there_is_404(self, method: str) -> None:
        path = f"{BASE}/threads/nope" + ("/archive" if method == "POST" else "")
        answer = client().request(method, path, body='{"name":"x"}')
        assert answer.status == 404
        assert answer.json() == {
            "error": "Thread not found",
            "message": "Thread 'nope' does not exist",
        }

    @pytest.mark.parametrize(
        ("body", "details"),
        [
            ("{", "not JSON: "),
            ("[]", "expected an object"),
            ("{}", "expected name or archived"),
            ('{"name":5}', "name: expected a string or null"),
            (f'{{"name":"{"é" * 1025}"}}', "name: expected at most 1024 characters"),
            ('{"archived":"yes"}', "archived: expected a boolean"),
        ],
    )
    def test_a_body_that_changes_nothing_is_refused(self, body: str, details: str) -> None:
        answer = patch(client("a"), "a", body)
        assert answer.status == 400
        assert answer.json()["details"].startswith(details)


class OlderStore(MemoryStore):
    """Has what was kept before each event was checked whole."""

    def __init__(self, *messages: Any) -> None:
        super().__init__()
        self.history = json.dumps(messages).encode()

    def read_history(self, *args: Any) -> Batch:
        return Batch(self.history, None, ended=True)


@pytest.mark.parametrize(
    ("calls", "listed"),
    [
        (5, []),
        ("x", []),
        ([None, {}, {"id": "c", "function": "f"}], []),
        ([{"function": {}}], [{"id": None, "name": None, "args": None}]),
        (
            [{"id": "c", "function": {"name": "f", "arguments": "{}"}}, 7],
            [{"id": "c", "name": "f", "args": "{}"}],
        ),
    ],
)
def test_malformed_tool_calls_of_an_older_store_are_left_out(calls: Any, listed: Any) -> None:
    store = OlderStore({"id": "a", "role": "assistant", "toolCalls": calls})
    answer = Client(CopilotRuntime({}, store=store)).get(f"{BASE}/threads/t/messages")
    assert answer.status == 200
    assert answer.json() == {"messages": [{"id": "a", "role": "assistant", "toolCalls": listed}]}


class TestOwners:
    """No application has users yet; a store may have threads of some all the same."""

    def owned(self) -> Client:
        store = MemoryStore()
        opened = store.open_run(RunRequest("ann's", "r", "default", owner="ann"))
        assert isinstance(opened, RunOpened)
        store.close_run(opened.key, 0, b"data: {}\n\n", RunResult(b"data: {}\n\n", b"[{}]", b"{}"))
        return Client(CopilotRuntime({"default": hello}, store=store, thread_mutations=True))

    def test_a_run_of_anothers_thread_is_answered_404(self) -> None:
        answer = self.owned().post(f"{BASE}/agent/default/run", json=run_input("ann's"))
        assert answer.status == 404
        assert answer.json()["error"] == "Thread not found"

    def test_the_answer_for_anothers_thread_tells_nothing_of_it(self) -> None:
        made = self.owned()
        assert made.get(f"{BASE}/threads").json()["threads"] == []
        assert made.get(f"{BASE}/threads/ann's/messages").json() == {"messages": []}
        assert made.get(f"{BASE}/threads/ann's/events").json() == {"events": []}
        assert made.get(f"{BASE}/threads/ann's/state").json() == {"state": None}
        assert patch(made, "ann's", '{"name":"x"}').status == 404
        assert made.post(f"{BASE}/agent/default/connect", json=run_input("ann's")).body == b""
        assert made.post(f"{BASE}/agent/default/stop/ann's").json()["stopped"] is False


def test_a_history_that_changes_is_read_from_its_beginning() -> None:
    class Changing(MemoryStore):
        gone = 2

        def read_history(self, *args: Any) -> Any:
            page = super().read_history(*args)
            if args[2] is not None and self.gone:
                self.gone -= 1
                return LogGone()
            return page

    store = Changing()
    limits = Limits(read_bytes=100)
    made = Client(CopilotRuntime({"default": hello}, store=store, limits=limits))
    made.post(f"{BASE}/agent/default/run", json=run_input("t"))
    assert len(made.get(f"{BASE}/threads/t/events").json()["events"]) > 2
    store.gone = 3
    assert made.get(f"{BASE}/threads/t/events").status == 500
