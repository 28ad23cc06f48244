"""A runtime counts, and Prometheus reads it."""

from __future__ import annotations

import re
import threading
from collections import Counter as Counts
from collections.abc import Iterator
from typing import Any

import pytest

from sansio_copilot import CopilotRuntime, MemoryStore, StoreUnavailable, __version__
from sansio_copilot.metrics import Counter, LabelValues, Metrics
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"


def agent(input: Any, context: Any) -> Iterator[Any]:
    run = {"threadId": input.thread_id, "runId": input.run_id}
    props = input.forwarded_props or {}
    yield {"type": "RUN_STARTED", **run}
    while props.get("stays"):
        yield {"type": "CUSTOM", "name": "n", "value": 1}
    if props.get("fails"):
        raise ValueError("why")
    usage = [{"model": 'a"b\\c', "inputTokens": 3, "outputTokens": 4}]
    yield {"type": "RUN_FINISHED", **run, "usage": usage}


def client(**options: Any) -> Client:
    return Client(CopilotRuntime({"default": agent}, metrics_path="/metrics", **options))


def samples(client: Client) -> dict[str, str]:
    """The value of each sample."""
    answer = client.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.body.decode().splitlines()
    told = [line for line in lines if not line.startswith("#")]
    for line in told:
        assert re.fullmatch(r'sansio_copilot_[a-z_]+(\{([a-z]+=".*",?)*\})? [0-9.]+', line), line
    return dict(line.rpartition(" ")[::2] for line in told)


def run(server: Client, thread: str = "t", **props: Any) -> None:
    server.post(RUN, json=run_input(thread, forwardedProps=props))


def test_a_runtime_without_a_path_for_them_counts_nothing() -> None:
    runtime = CopilotRuntime({})
    assert runtime.metrics is None
    assert Client(runtime).get("/metrics").status == 404


def test_a_runtime_counts_from_the_beginning() -> None:
    found = samples(client())
    assert found == {
        f'sansio_copilot_info{{version="{__version__}"}}': "1",
        "sansio_copilot_readers": "0",
        "sansio_copilot_runs_live": "0",
        "sansio_copilot_evictions_total": "0",
    }


def test_requests_are_counted_by_route_and_status_and_probes_are_not() -> None:
    server = client()
    for path in ("/info", "/info", "/nothing"):
        server.get(f"{BASE}{path}")
    server.get("/healthz")
    found = samples(server)
    assert found['sansio_copilot_requests_total{route="info",status="200"}'] == "2"
    assert found['sansio_copilot_requests_total{route="none",status="404"}'] == "1"
    assert len([name for name in found if "requests_total" in name]) == 2


def test_runs_are_counted_by_agent_and_outcome() -> None:
    server = client()
    run(server)
    run(server, "t2")
    run(server, "t3", fails=True)
    found = samples(server)
    assert found['sansio_copilot_runs_total{agent="default",outcome="finished"}'] == "2"
    assert found['sansio_copilot_runs_total{agent="default",outcome="failed"}'] == "1"
    assert found['sansio_copilot_events_total{agent="default"}'] == "6"
    assert int(found['sansio_copilot_event_bytes_total{agent="default"}']) > 600
    assert found['sansio_copilot_run_seconds_bucket{agent="default",le="0.005"}'] == "3"
    assert found['sansio_copilot_run_seconds_bucket{agent="default",le="+Inf"}'] == "3"
    assert found['sansio_copilot_run_seconds_count{agent="default"}'] == "3"
    assert found['sansio_copilot_first_event_seconds_count{agent="default"}'] == "3"
    model = r"a\"b\\c"
    assert found[f'sansio_copilot_tokens_total{{model="{model}",kind="input"}}'] == "6"
    assert found[f'sansio_copilot_tokens_total{{model="{model}",kind="output"}}'] == "8"


def test_runs_and_readers_that_go_on_are_told() -> None:
    server = client()
    stream = server.stream("POST", RUN, json=run_input("t", forwardedProps={"stays": True}))
    stream.next()
    other = server.stream("POST", f"{BASE}/agent/default/connect", json=run_input("t"))
    other.next()
    found = samples(server)
    assert (found["sansio_copilot_readers"], found["sansio_copilot_runs_live"]) == ("2", "1")
    other.close()
    server.post(f"{BASE}/agent/default/stop/t")
    for _ in stream:
        pass
    found = samples(server)
    assert (found["sansio_copilot_readers"], found["sansio_copilot_runs_live"]) == ("0", "0")


def test_times_are_counted_in_their_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.005, 0.006, 1000.0):
        metrics.run_ended("a", "finished", seconds, None)
    text = metrics.text().decode()
    for bound, count in (("0.005", 1), ("0.01", 2), ("300.0", 2), ("+Inf", 3)):
        assert f'sansio_copilot_run_seconds_bucket{{agent="a",le="{bound}"}} {count}\n' in text
    assert 'sansio_copilot_run_seconds_sum{agent="a"} 1000.011000\n' in text
    assert "first_event_seconds_bucket" not in text


def test_calls_of_the_store_that_fail_are_counted() -> None:
    class Failing(MemoryStore):
        def list_threads(self, *args: Any) -> Any:
            raise OSError("disk")

        def append(self, *args: Any, **options: Any) -> Any:
            raise StoreUnavailable("away")

    server = client(store=Failing())
    server.get(f"{BASE}/threads")
    run(server)
    found = samples(server)
    assert found['sansio_copilot_store_failures_total{method="list_threads"}'] == "1"
    assert found['sansio_copilot_store_calls_total{method="list_threads"}'] == "1"
    assert int(found['sansio_copilot_store_failures_total{method="append"}']) >= 1


def test_calls_of_the_store_are_told_by_method() -> None:
    metrics = Metrics()
    metrics.store_failed("read")
    metrics.store_called("read")
    assert metrics.store_failures == {"read": 1}
    assert metrics.store_calls == {"read": 2}


def test_all_calls_of_the_store_are_counted() -> None:
    """The calls are those of requests, of runs, of what follows a run, and of sweeps."""
    called: Counts[str] = Counts()

    class Counting(MemoryStore):
        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if not callable(found) or name.startswith(("_", "watch")):
                return found

            def method(*args: Any, **options: Any) -> Any:
                called[name] += 1
                if name in failing:
                    raise OSError("disk")
                return found(*args, **options)

            return method

    failing: set[str] = set()
    server = client(store=Counting(), title=lambda report, messages: "A title")
    server.post(RUN, json=run_input("t", text="hi"))
    server.post(f"{BASE}/agent/default/connect", json=run_input("t"))
    for path in ("threads", "threads/t/messages"):
        server.get(f"{BASE}/{path}")
    server.post(f"{BASE}/agent/default/stop/t")
    assert sweep(server.runtime) == 0
    failing.add("orphans")
    with pytest.raises(OSError, match="disk"):
        sweep(server.runtime)
    found = samples(server)
    told = {
        name.split('"')[1]: int(value) for name, value in found.items() if "store_calls" in name
    }
    assert told == called
    assert {"open_run", "append", "close_run", "read", "update_thread", "orphans"} <= told.keys()
    assert found['sansio_copilot_store_failures_total{method="orphans"}'] == "1"


def sweep(runtime: CopilotRuntime) -> int:
    """Perform a sweep."""
    steps = runtime.sweep(1.0)
    try:
        call = next(steps)
        while True:
            try:
                outcome = call.function(*call.args)
            except OSError as error:
                call = steps.throw(error)
            else:
                call = steps.send(outcome)
    except StopIteration as stop:
        ended: int = stop.value
        return ended


def test_threads_that_had_to_go_are_counted() -> None:
    server = client(store=MemoryStore(max_threads=2))
    for number in range(5):
        run(server, f"t{number}")
    assert samples(server)["sansio_copilot_evictions_total"] == "3"


def test_a_store_need_not_count_evictions() -> None:
    for store in (object(), type("Store", (), {"evictions": "many"})()):
        assert b"evictions" not in Metrics().text(store)


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    for number in range(150):
        metrics.run_ended(f"agent-{number}", "finished", 1.0, 1.0)
    text = metrics.text().decode()
    assert 'runs_total{agent="agent-99",outcome="finished"} 1\n' in text
    assert "agent-100" not in text
    assert 'runs_total{agent="other",outcome="other"} 50\n' in text


def test_values_for_another_system_of_metrics_are_bounded_as_well() -> None:
    values = LabelValues()
    assert [values.of(f"v{number % 150}") for number in range(300)] == [
        f"v{number % 150}" if number % 150 < 100 else "other" for number in range(300)
    ]
    assert LabelValues().of("\ud800" + "x" * 1000) == "?" + "x" * 199


def test_a_label_is_short_and_can_be_written() -> None:
    metrics = Metrics()
    for model in ("\ud800", "\udfff", "x" * 1_000_000, "x" * 2_000_000):
        metrics.run_said("default", 1, 1, [{"model": model, "inputTokens": 3}])
    text = metrics.text().decode()
    assert 'tokens_total{model="?",kind="input"} 6\n' in text
    assert f'tokens_total{{model="{"x" * 200}",kind="input"}} 6\n' in text
    assert len(text) < 10_000


def test_no_content_and_no_ids_are_told() -> None:
    server = client()
    server.post(RUN, json=run_input("secret-thread", "secret-run", text="secret-text"))
    assert b"secret" not in server.get("/metrics").body


def test_a_counter_counts_from_many_threads() -> None:
    counter = Counter()

    def count() -> None:
        for _ in range(10_000):
            counter.add_one()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 40_000


def test_a_path_for_metrics_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="metrics_path is a path that begins with '/', or None"):
        CopilotRuntime({}, metrics_path="metrics")
