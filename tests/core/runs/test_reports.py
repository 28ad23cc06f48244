"""An application is told of the start and end of its runs, and may give a thread a title."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from sansio_copilot import (
    CopilotRuntime,
    Hooks,
    MemoryStore,
    Reject,
    Response,
    RunReport,
    RunStart,
)
from sansio_copilot.runs.token_usage import sum_up
from sansio_copilot.testing import Client, NeedsEventLoop, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"
USAGE = [{"model": "m", "inputTokens": 3, "outputTokens": 4}]


def agent(input: Any, context: Any) -> Iterator[Any]:
    run = {"threadId": input.thread_id, "runId": input.run_id}
    asked = input.forwarded_props or {}
    yield {"type": "RUN_STARTED", **run}
    if asked.get("raises"):
        raise ValueError("password=hunter2")
    if asked.get("fails"):
        yield {"type": "RUN_ERROR", "message": "quota", "usage": USAGE}
        return
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hi"}
    if asked.get("breaks"):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "other", "delta": "?"}
    yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
    if asked.get("stays"):
        while True:
            yield {"type": "CUSTOM", "name": "n", "value": 1}
    if not asked.get("forgets"):
        yield {"type": "RUN_FINISHED", **run, "usage": USAGE}


class Told:
    """The runs of a client, as its application was told of them."""

    def __init__(self, **options: Any) -> None:
        self.started: list[RunStart] = []
        self.ended: list[RunReport] = []
        options.setdefault(
            "hooks", Hooks(on_run_start=self.started.append, on_run_end=self.ended.append)
        )
        self.client = Client(CopilotRuntime({"default": agent}, **options))

    def run(self, thread: str = "t", run: str = "r", **props: Any) -> Any:
        body = run_input(thread, run, forwardedProps=props)
        return self.client.post(RUN, json=body)


def test_a_run_is_reported_as_it_starts_and_as_it_ends() -> None:
    told = Told()
    answer = told.run()
    (start,), (report,) = told.started, told.ended
    for each in (start, report):
        assert (each.agent_id, each.thread_id, each.run_id) == ("default", "t", "r")
        assert each.context.request.path == RUN
        assert each.context.request.body is None
        assert not each.ephemeral
    assert (report.outcome, report.error) == ("finished", None)
    assert report.events == len(answer.events()) == 5
    assert report.size == len(answer.body)
    assert report.usage == (USAGE[0],)
    assert report.started_at == told.client.now
    assert report.first_event_seconds == report.seconds == 0


def test_times_are_in_seconds() -> None:
    told = Told()
    stream = told.client.stream("POST", RUN, json=run_input("t", forwardedProps={"stays": True}))
    stream.next()
    told.client.advance(2.5)
    told.client.post(f"{BASE}/agent/default/stop/t")
    assert told.ended[0].outcome == "stopped"
    assert told.ended[0].seconds == 2.5
    assert told.ended[0].first_event_seconds == 0


@pytest.mark.parametrize(
    ("props", "error"),
    [
        ({"raises": True}, "password=hunter2"),
        ({"fails": True}, "quota"),
        ({"breaks": True}, "other"),
        ({"forgets": True}, "The agent ended without RUN_FINISHED or RUN_ERROR"),
    ],
)
def test_the_report_says_why_a_run_failed_whatever_clients_are_told(
    props: dict[str, Any], error: str
) -> None:
    told = Told(error_message=lambda agent_id, problem: "Something went wrong")
    answer = told.run(**props)
    assert b"hunter2" not in answer.body
    assert b"quota" not in answer.body
    report = told.ended[0]
    assert report.outcome == "failed"
    assert report.error is not None
    assert error in report.error


def test_a_store_that_fails_is_the_reason() -> None:
    class Failing(MemoryStore):
        def append(self, *args: Any, **options: Any) -> Any:
            raise OSError("disk full")

    told = Told(store=Failing())
    told.run()
    assert told.ended[0].error == "The thread store failed: disk full"
    assert told.ended[0].outcome == "failed"


def test_a_shutdown_is_the_reason() -> None:
    told = Told()
    told.client.stream("POST", RUN, json=run_input("t", forwardedProps={"stays": True})).next()
    told.client.close()
    assert (told.ended[0].outcome, told.ended[0].error) == ("failed", "The server is shutting down")


def test_a_run_that_says_nothing_has_no_first_event() -> None:
    def silent(input: Any, context: Any) -> Iterator[Any]:
        raise ValueError("no")
        yield

    reports: list[RunReport] = []
    client = Client(CopilotRuntime({"default": silent}, hooks=Hooks(on_run_end=reports.append)))
    client.post(RUN, json=run_input("t"))
    assert reports[0].first_event_seconds is None


def test_suggestions_are_runs_that_belong_to_no_thread() -> None:
    told = Told()
    told.client.post(f"{BASE}/agent/default/suggest", json=run_input("t"))
    assert [each.ephemeral for each in (*told.started, *told.ended)] == [True, True]


def test_requests_that_start_no_run_are_not_told_of() -> None:
    told = Told()
    told.client.get(f"{BASE}/info")
    told.client.post(f"{BASE}/agent/default/connect", json=run_input("t"))
    assert not told.started
    assert not told.ended


def test_on_run_start_may_refuse_a_run() -> None:
    reports: list[RunReport] = []

    async def refuse(start: RunStart) -> None:
        raise Reject(Response.json({"error": "no budget"}, 429))

    store = MemoryStore()
    seen: list[int] = []
    hooks = Hooks(
        on_run_start=refuse,
        on_run_end=reports.append,
        on_response=lambda context: seen.append(context.response.status),  # type: ignore[union-attr]
    )
    client = Client(CopilotRuntime({"default": agent}, hooks=hooks, store=store))
    answer = client.post(RUN, json=run_input("t"))
    assert (answer.status, answer.json()) == (429, {"error": "no budget"})
    assert seen == [429]
    assert not reports
    # The run is as if it had never been, and its thread is not busy.
    assert client.get(f"{BASE}/threads").json()["threads"] == []
    assert (
        Client(CopilotRuntime({"default": agent}, store=store))
        .post(RUN, json=run_input("t"))
        .status
        == 200
    )


def test_an_on_run_start_that_fails_is_answered_as_any_hook(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(start: RunStart) -> None:
        raise ValueError("password=hunter2")

    client = Client(CopilotRuntime({"default": agent}, hooks=Hooks(on_run_start=fail)))
    answer = client.post(RUN, json=run_input("t"))
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})
    assert "hook on_run_start" in caplog.text


def test_the_agent_sees_what_on_run_start_sets() -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    seen: list[str] = []

    def looks(input: Any, context: Any) -> Iterator[Any]:
        seen.append(trace.get())
        yield from agent(input, context)

    def start(run: RunStart) -> None:
        trace.set(run.run_id)

    client = Client(CopilotRuntime({"default": looks}, hooks=Hooks(on_run_start=start)))
    client.post(RUN, json=run_input("t", "r7"))
    # A test client has one context; a binding gives each exchange its own.
    assert seen == ["r7"]


def test_an_on_run_end_that_fails_is_logged_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(report: RunReport) -> None:
        raise ValueError("no audit log")

    told = Told(hooks=Hooks(on_run_end=fail), title=lambda report, messages: "A title")
    assert told.run().status == 200
    assert "hook on_run_end failed after run 'r'" in caplog.text
    assert told.client.get(f"{BASE}/threads").json()["threads"][0]["name"] == "A title"


# --- Token usage ----------------------------------------------------------------------------------


def test_the_tokens_of_several_terminal_events_are_summed_for_each_model() -> None:
    total: list[dict[str, Any]] = []
    sum_up(total, [{"model": "a", "inputTokens": 1}, {"provider": "p", "totalTokens": 5}])
    sum_up(total, [{"model": "a", "inputTokens": 2, "outputTokens": 3, "note": "?"}])
    assert total == [
        {"model": "a", "inputTokens": 3, "outputTokens": 3},
        {"provider": "p", "totalTokens": 5},
    ]


def test_an_agent_that_makes_up_models_fills_no_memory() -> None:
    total: list[dict[str, Any]] = []
    for number in range(100):
        sum_up(total, [{"model": f"m{number}", "inputTokens": 1}])
    sum_up(total, [{"model": "m0", "inputTokens": 1}])
    assert len(total) == 32
    assert total[0] == {"model": "m0", "inputTokens": 2}


# --- Titles ---------------------------------------------------------------------------------------


def names(client: Client) -> list[str | None]:
    return [thread["name"] for thread in client.get(f"{BASE}/threads").json()["threads"]]


def test_a_thread_without_a_name_is_given_a_title() -> None:
    asked: list[list[dict[str, Any]]] = []

    async def title(report: RunReport, messages: list[dict[str, Any]]) -> str:
        asked.append(messages)
        return f"  About\n{messages[-1]['content']} "

    told = Told(title=title)
    told.run()
    assert names(told.client) == ["About Hi"]
    told.run(run="second")
    assert len(asked) == 1
    assert [message["role"] for message in asked[0]][-1] == "assistant"


def test_a_title_needs_no_hook() -> None:
    told = Told(hooks=Hooks(), title=lambda report, messages: "A title")
    told.run()
    assert names(told.client) == ["A title"]


def test_a_hook_that_waits_is_told_to_be_tried_with_a_loop() -> None:
    async def wait(report: RunReport) -> None:
        await asyncio.sleep(1)

    told = Told(hooks=Hooks(on_run_end=wait))
    with pytest.raises(NeedsEventLoop):
        told.run()


def test_a_title_is_one_short_line() -> None:
    told = Told(title=lambda report, messages: "long " * 100)
    told.run()
    (name,) = names(told.client)
    assert name is not None
    assert len(name) <= 120


def test_a_name_that_a_person_gave_stays() -> None:
    asked: list[object] = []
    answers: list[str | None] = [None, "Too late"]

    def title(report: RunReport, messages: list[Any]) -> str | None:
        asked.append(report)
        return answers[len(asked) - 1]

    told = Told(title=title, thread_mutations=True)
    told.run()
    assert names(told.client) == [None]
    body = json.dumps({"name": "Mine"})
    told.client.request("PATCH", f"{BASE}/threads/t", body=body)
    told.run(run="second")
    assert names(told.client) == ["Mine"]
    assert len(asked) == 1


def test_a_name_that_a_person_gives_while_a_title_is_sought_stays() -> None:
    store = MemoryStore()

    def title(report: RunReport, messages: list[Any]) -> str:
        store.update_thread("t", {"name": "Mine"})
        return "Too late"

    told = Told(title=title, store=store)
    told.run()
    assert names(told.client) == ["Mine"]


@pytest.mark.parametrize("title", ["", "  ", 5])
def test_no_title_is_given_by_a_function_that_has_none(
    title: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(title=lambda report, messages: title)
    told.run()
    assert names(told.client) == [None]
    assert ("title returned int, expected str or None" in caplog.text) == (title == 5)


def test_runs_that_failed_and_runs_without_a_thread_are_not_asked_about() -> None:
    asked: list[object] = []

    def title(report: RunReport, messages: list[Any]) -> None:
        asked.append(report)

    told = Told(title=title)
    told.run(fails=True)
    told.client.post(f"{BASE}/agent/default/suggest", json=run_input("s"))
    assert not asked


def test_a_thread_that_has_gone_is_not_named() -> None:
    class Forgets(MemoryStore):
        def update_thread(self, *args: Any, **options: Any) -> None:
            return None

    told = Told(title=lambda report, messages: "A title", store=Forgets())
    assert told.run().status == 200
    assert names(told.client) == [None]


def test_title_is_a_function_of_two_arguments() -> None:
    with pytest.raises(TypeError, match="title is a function of a RunReport and messages, not"):
        CopilotRuntime({}, title=lambda report: "x")  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match="title is a function"):
        CopilotRuntime({}, title="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["on_run_start", "on_run_end"])
def test_hooks_of_runs_can_be_called(name: str) -> None:
    argument = {"on_run_start": "RunStart", "on_run_end": "RunReport"}[name]
    hooks: dict[str, Any] = {name: 5}
    with pytest.raises(TypeError, match=f"{name} is a function of a {argument}, not int"):
        Hooks(**hooks)
