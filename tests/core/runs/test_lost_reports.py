"""Runs whose processes died: the application is told of each once, by whoever has ended it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from sansio_copilot import (
    CopilotRuntime,
    Hooks,
    MemoryStore,
    RunReport,
    StoreAnswerLost,
    StoreUnavailable,
)
from sansio_copilot.runs import lost_reports
from sansio_copilot.stores.protocol import Batch, Orphan, RunKey, RunRequest, RunResult
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
AGENT = f"{BASE}/agent/default"
STARTED = b'data: {"type":"RUN_STARTED","threadId":"t","runId":"dead"}\n\n'
FINISHED = (
    b'data: {"type":"RUN_FINISHED","threadId":"t","runId":"dead",'
    b'"usage":[{"model":"m","inputTokens":3}]}\n\n'
)
FAILED = b'data: {"type":"RUN_ERROR","message":"quota"}\n\n'
NOW = 1_700_000_000.0


class Orphaned(MemoryStore):
    """The owners of its runs have died, as a shared store finds out.

    :param answers: what each close of one returns or raises; True after these.
    """

    def __init__(
        self, *, frames: bytes = STARTED, count: int = 1, answers: tuple[Any, ...] = (), **more: Any
    ) -> None:
        super().__init__()
        more = {"owner": None, "opened_at": NOW - 60} | more
        self.orphans_left = [
            Orphan(RunKey("t", number, "dead"), "default", frames, **more)
            for number in range(count)
        ]
        self.answers = list(answers)

    @property
    def first(self) -> Orphan | None:
        return self.orphans_left[0] if self.orphans_left else None

    def orphans(self, limit: int) -> list[Orphan]:
        return self.orphans_left[:limit]

    def open_run(self, request: RunRequest) -> Any:
        return self.first or super().open_run(request)

    def request_stop(self, thread_id: str, run_id: str | None, owner: str | None = None) -> Any:
        return self.first or super().request_stop(thread_id, run_id, owner)

    def read(self, cursor: Any, max_bytes: int) -> Any:
        if self.first is not None:
            return Batch(b"", cursor, False, self.first)
        return MemoryStore.read(cursor, max_bytes)

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> bool | None:
        if all(orphan.key != key for orphan in self.orphans_left):
            return super().close_run(key, at, frames, result)
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        self.orphans_left = [orphan for orphan in self.orphans_left if orphan.key != key]
        return bool(answer)


class Told:
    """A runtime, driven by a test, that keeps what its application is told."""

    def __init__(self, store: MemoryStore, **options: Any) -> None:
        self.reports: list[RunReport] = []
        options.setdefault("hooks", Hooks(on_run_end=self.reports.append))
        self.runtime = CopilotRuntime(
            {"default": agent}, store=store, metrics_path="/metrics", **options
        )
        self.client = Client(self.runtime, now=NOW)

    def sweep(self) -> int:
        ended: int = performed(self.runtime.sweep(NOW))
        return ended

    def samples(self) -> list[str]:
        text = self.client.get("/metrics").body.decode()
        return [line.removeprefix("sansio_copilot_") for line in text.splitlines()]


def performed(steps: Generator[Any, Any, Any]) -> Any:
    try:
        call = next(steps)
        while True:
            try:
                outcome = call.function(*call.args)
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(outcome)
    except StopIteration as stop:
        return stop.value


def agent(input: Any, context: Any) -> Any:
    run = {"threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_STARTED", **run}
    yield {"type": "RUN_FINISHED", **run}


def test_a_sweep_tells_of_each_lost_run() -> None:
    told = Told(Orphaned(count=40, owner="ann"))
    assert told.sweep() == 40
    assert len(told.reports) == 40
    report = told.reports[0]
    assert (report.agent_id, report.thread_id, report.run_id) == ("default", "t", "dead")
    assert report.user is not None
    assert report.context.request.user is report.user
    assert report.user.id == "ann"
    assert (report.outcome, report.error) == ("lost", "The server that ran the agent has died")
    assert (report.started_at, report.seconds) == (NOW - 60, 60)
    assert report.first_event_seconds is None
    # The run's own event counts, and the one that has ended the run.
    assert report.events == 2
    assert report.size > len(STARTED)
    assert not report.ephemeral
    assert told.sweep() == 0
    assert len(told.reports) == 40


def test_metrics_count_lost_runs_and_no_live_run() -> None:
    told = Told(Orphaned(count=2))
    told.sweep()
    samples = told.samples()
    assert 'runs_total{agent="default",outcome="lost"} 2' in samples
    assert "runs_live 0" in samples
    assert 'events_total{agent="default"} 4' in samples
    assert not any(line.startswith("run_seconds_count") for line in samples)


@pytest.mark.parametrize("found_by", ["run", "connect", "stop/t"])
def test_a_request_that_finds_a_lost_run_does_not_wait_for_the_hook(found_by: str) -> None:
    told = Told(Orphaned())
    body = None if found_by == "stop/t" else run_input("t", "next")
    answer = told.client.post(f"{AGENT}/{found_by}", json=body)
    assert answer.status == 200
    # The run of the request is told of as ever; and the lost one by the next sweep.
    assert [report.run_id for report in told.reports] == ["next"] * (found_by == "run")
    told.reports.clear()
    assert told.sweep() == 0
    assert [(report.run_id, report.outcome) for report in told.reports] == [("dead", "lost")]
    told.sweep()
    assert len(told.reports) == 1


def test_the_end_of_a_server_tells_of_lost_runs_that_requests_have_found() -> None:
    told = Told(Orphaned())
    told.client.post(f"{AGENT}/connect", json=run_input("t"))
    told.client.close()
    assert [report.outcome for report in told.reports] == ["lost"]


def test_a_process_that_comes_too_late_tells_nothing() -> None:
    told = Told(Orphaned(answers=(False,)))
    assert told.sweep() == 1
    assert told.reports == []
    assert not any(line.startswith("runs_total{") for line in told.samples())


def test_a_store_that_says_nothing_of_a_close_has_closed() -> None:
    class Silent(Orphaned):
        def close_run(self, *args: Any) -> None:
            super().close_run(*args)

    told = Told(Silent())
    told.sweep()
    assert len(told.reports) == 1


def test_a_close_whose_answer_was_lost_is_made_again_and_was_ours() -> None:
    told = Told(Orphaned(answers=(StoreAnswerLost("?"), False)))
    assert told.sweep() == 1
    assert [report.outcome for report in told.reports] == ["lost"]


def test_a_close_by_a_request_whose_answer_was_lost_is_made_again() -> None:
    told = Told(Orphaned(answers=(StoreAnswerLost("?"), False)))
    assert told.client.post(f"{AGENT}/stop/t").status == 200
    told.sweep()
    assert [report.outcome for report in told.reports] == ["lost"]


def test_a_run_that_cannot_be_closed_is_told_of_when_it_can() -> None:
    told = Told(Orphaned(answers=(StoreUnavailable("away"),)))
    with pytest.raises(StoreUnavailable):
        told.sweep()
    assert told.reports == []
    told.sweep()
    assert [report.outcome for report in told.reports] == ["lost"]


@pytest.mark.parametrize(
    ("frames", "outcome", "tokens"),
    [(STARTED + FINISHED, "finished", 3), (STARTED + FAILED, "failed", 0), (b"", "lost", 0)],
)
def test_a_run_whose_agent_had_ended_is_told_of_as_it_ended(
    frames: bytes, outcome: str, tokens: int
) -> None:
    told = Told(Orphaned(frames=frames))
    told.sweep()
    [report] = told.reports
    assert report.outcome == outcome
    assert (report.error is None) == (outcome != "lost")
    assert sum(entry["inputTokens"] for entry in report.usage) == tokens


def test_a_run_that_was_to_stop_is_lost_nevertheless() -> None:
    told = Told(Orphaned(stop_requested=True))
    told.sweep()
    assert [report.outcome for report in told.reports] == ["lost"]


def test_a_hook_that_fails_is_logged_and_told_of_the_other_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = []

    def fails(report: RunReport) -> None:
        seen.append(report)
        raise ValueError("no")

    told = Told(Orphaned(count=3), hooks=Hooks(on_run_end=fails))
    assert told.sweep() == 3
    assert len(seen) == 3
    assert caplog.text.count("hook on_run_end failed after run 'dead'") == 3


def test_no_lost_run_is_kept_without_a_hook() -> None:
    told = Told(Orphaned(), hooks=None)
    told.client.post(f"{AGENT}/connect", json=run_input("t"))
    assert len(told.runtime.lost) == 0
    assert 'runs_total{agent="default",outcome="lost"} 1' in told.samples()


def test_lost_runs_are_told_of_without_metrics_all_the_same() -> None:
    reports: list[RunReport] = []
    runtime = CopilotRuntime({}, store=Orphaned(), hooks=Hooks(on_run_end=reports.append))
    performed(runtime.sweep(NOW))
    assert len(reports) == 1


def test_the_number_of_lost_runs_that_are_kept_has_a_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lost_reports, "MOST_REPORTS", 0)
    told = Told(Orphaned())
    told.client.post(f"{AGENT}/connect", json=run_input("t"))
    told.sweep()
    assert told.reports == []
    assert "hook on_run_end is not told of lost run 'dead': too many" in caplog.text


def test_a_report_may_have_an_impossible_owner_and_an_unknown_time() -> None:
    told = Told(Orphaned(owner="", opened_at=0.0))
    told.sweep()
    [report] = told.reports
    assert report.user is None
    assert (report.started_at, report.seconds) == (0.0, 0.0)


# --- The other side: a process that was only thought dead -------------------------------------


class Taken(MemoryStore):
    """A store in which somebody else has closed the runs, as their owner finds out by its close.

    :param fails: how many closes fail before that.
    """

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.fails = fails

    def close_run(self, *args: Any) -> bool:
        super().close_run(*args)
        if self.fails:
            self.fails -= 1
            raise StoreAnswerLost("?")
        return False


def test_a_run_that_another_has_ended_is_sealed() -> None:
    told = Told(Taken())

    def breaks(input: Any, context: Any) -> Any:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        raise ValueError("no")

    told.runtime.agents["default"] = breaks  # type: ignore[index]
    told.client.post(f"{AGENT}/run", json=run_input("t"))
    assert [report.outcome for report in told.reports] == ["sealed"]


def test_a_run_that_was_ended_behind_its_terminal_event_is_finished() -> None:
    told = Told(Taken())
    told.client.post(f"{AGENT}/run", json=run_input("t"))
    assert [report.outcome for report in told.reports] == ["finished"]


def test_a_close_that_is_made_again_finds_its_own_work() -> None:
    told = Told(Taken(fails=1))
    told.client.post(f"{AGENT}/run", json=run_input("t"))
    told.client.advance(60)
    assert [report.outcome for report in told.reports] == ["finished"]
