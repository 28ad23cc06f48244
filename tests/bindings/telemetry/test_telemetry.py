"""OpenTelemetry is told of requests and runs; its own SDK collects what it is told."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextvars import copy_context
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from ag_ui.core import RunAgentInput
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from copilot_bindings.telemetry import Telemetry
from copilot_bindings.testing import AsyncClient
from sansio_copilot import (
    CopilotRuntime,
    Hooks,
    Reject,
    Request,
    Response,
    RunReport,
    RunStart,
)
from sansio_copilot.agents import AgentContext
from sansio_copilot.testing import Client, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"
ASKED = Request("POST", RUN)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


class Collected:
    """A runtime with telemetry, and what has been collected of it."""

    def __init__(self, hooks: Hooks | None = None, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader])
        self.tracer = tracers.get_tracer("the agent's")
        self.headers: list[dict[str, str]] = []
        telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters, **options)
        self.runtime = CopilotRuntime(
            {"default": self.agent}, hooks=telemetry.hooks(hooks), metrics_path="/metrics"
        )
        telemetry.watch(self.runtime)
        self.client = Client(self.runtime)

    async def agent(self, input: Any, context: Any) -> AsyncIterator[Any]:
        run = {"threadId": input.thread_id, "runId": input.run_id}
        self.headers.append(dict(context.headers))
        yield {"type": "RUN_STARTED", **run}
        with self.tracer.start_as_current_span("ask a model"):
            pass
        if input.forwarded_props:
            raise ValueError("password=hunter2")
        usage = [{"model": "m", "inputTokens": 3, "outputTokens": 4}, {"outputTokens": 1}]
        yield {"type": "RUN_FINISHED", **run, "usage": usage}

    def run(self, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        body = run_input("the-thread", **fields)
        # A binding gives each exchange a context of its own, and a test client has one.
        return copy_context().run(self.client.post, RUN, json=body, headers=headers or {})

    def get(self, path: str) -> Any:
        return copy_context().run(self.client.get, path)

    def finished(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.finished()}

    def metrics(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_request_and_its_run_have_spans_that_are_linked() -> None:
    collected = Collected()
    collected.run(PARENT)
    spans = collected.spans()
    request, run = spans["POST agent/run"], spans["invoke_agent default"]
    for span in (request, run):
        assert span.context.trace_id == int(TRACE, 16)
        assert span.parent is not None
        assert f"{span.parent.span_id:x}" == "b7ad6b7169203331"
    assert [link.context.span_id for link in run.links] == [request.context.span_id]
    assert attributes(request) == {
        "http.request.method": "POST",
        "url.path": RUN,
        "http.route": "agent/run",
        "http.response.status_code": 200,
    }
    told = attributes(run)
    assert told["gen_ai.operation.name"] == "invoke_agent"
    assert told["gen_ai.agent.name"] == "default"
    assert told["gen_ai.conversation.id"] == "the-thread"
    assert told["gen_ai.usage.input_tokens"] == 3
    assert told["gen_ai.usage.output_tokens"] == 5
    assert told["sansio_copilot.run.outcome"] == "finished"
    assert told["sansio_copilot.run.events"] == 2


def test_calls_of_an_agent_are_below_the_span_of_its_run() -> None:
    collected = Collected()
    collected.run(PARENT)
    spans = collected.spans()
    run, call = spans["invoke_agent default"], spans["ask a model"]
    assert call.parent is not None
    assert call.parent.span_id == run.context.span_id
    # The header that the agent may pass on names the run's span, and not the client's.
    span_id = f"{run.context.span_id:016x}"
    assert collected.headers[0]["traceparent"] == f"00-{TRACE}-{span_id}-01"


def test_each_run_begins_a_trace_without_a_client_that_traces() -> None:
    collected = Collected()
    collected.run()
    spans = collected.spans()
    assert spans["invoke_agent default"].parent is None
    assert spans["POST agent/run"].parent is None


def test_no_value_of_a_request_is_seen_by_the_next() -> None:
    collected = Collected()
    collected.run(PARENT)
    collected.run()
    last = collected.spans()["invoke_agent default"]
    assert last.context.trace_id != int(TRACE, 16)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_run_that_fails_is_an_error_without_its_text() -> None:
    collected = Collected()
    collected.run(forwardedProps={"fail": True}, text="my secret")
    span = collected.spans()["invoke_agent default"]
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "failed"
    everything = "".join(each.to_json() for each in collected.spans().values())
    assert "hunter2" not in everything
    assert "my secret" not in everything


def test_content_is_told_if_it_is_asked_for() -> None:
    collected = Collected(content=True)
    collected.run(forwardedProps={"fail": True}, text="my secret")
    span = collected.spans()["invoke_agent default"]
    assert span.status.description == "password=hunter2"
    messages = json.loads(attributes(span)["gen_ai.input.messages"])
    assert [message["content"] for message in messages] == ["my secret"]


def test_requests_that_match_nothing_have_spans_too() -> None:
    collected = Collected()
    collected.get("/nothing")
    assert attributes(collected.spans()["GET"])["http.response.status_code"] == 404


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_hooks_of_the_application_are_called_inside_of_the_span(kind: str) -> None:
    seen: list[tuple[str, bool]] = []

    def look(name: str) -> Any:
        def plain(argument: Any) -> None:
            seen.append((name, trace.get_current_span() is not trace.INVALID_SPAN))

        async def later(argument: Any) -> None:
            plain(argument)

        return plain if kind == "plain" else later

    names = ("on_request", "on_before_handler", "on_response", "on_run_start", "on_run_end")
    hooks: dict[str, Any] = {name: look(name) for name in names}
    collected = Collected(Hooks(**hooks))
    assert collected.run().status == 200
    assert sorted(seen) == sorted((name, True) for name in names)


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("name", ["on_request", "on_run_start", "on_response"])
def test_a_rejection_ends_the_span_of_its_request(name: str, kind: str) -> None:
    def refuse(argument: Any) -> None:
        raise Reject(Response.json({"error": "no"}, 403))

    async def refuse_later(argument: Any) -> None:
        refuse(argument)

    hooks: dict[str, Any] = {name: refuse if kind == "plain" else refuse_later}
    collected = Collected(Hooks(**hooks))
    assert collected.run().status == 403
    (span,) = collected.spans().values()
    assert attributes(span)["http.response.status_code"] == 403


def test_a_hook_may_be_plain_and_return_what_is_awaited() -> None:
    async def later() -> Response:
        return Response.json({"instead": True}, 418)

    collected = Collected(Hooks(on_response=lambda context: later()))
    assert collected.get(f"{BASE}/info").status == 418
    assert attributes(collected.spans()["GET info"])["http.response.status_code"] == 418


@pytest.mark.parametrize("answers", [False, True])
def test_a_hook_that_fails_is_an_error_of_its_request(answers: bool) -> None:
    def fail(context: Any) -> None:
        raise ValueError("password=hunter2")

    answer = Response.json({"handled": True}, 502)
    on_error = (lambda context: answer) if answers else None
    collected = Collected(Hooks(on_before_handler=fail, on_error=on_error))
    collected.get(f"{BASE}/info")
    span = collected.spans()["GET info"]
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "ValueError"
    assert attributes(span).get("http.response.status_code") == (502 if answers else None)
    assert "hunter2" not in span.to_json()


@pytest.mark.parametrize("library", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_under_a_server_each_exchange_has_its_own_spans(library: str, kind: str) -> None:
    """Plain hooks are called in threads there, and runs live in tasks of their own."""

    async def later(argument: Any) -> None:
        await anyio.lowlevel.checkpoint()

    hook: Any = (lambda argument: None) if kind == "plain" else later
    names = ("on_request", "on_response", "on_run_start", "on_run_end")
    collected = Collected(Hooks(**dict.fromkeys(names, hook)))

    async def main() -> None:
        async with AsyncClient(collected.runtime) as client:
            await client.post(RUN, json=run_input("one"), headers=PARENT)
            await client.post(RUN, json=run_input("two"))

    anyio.run(main, backend=library)
    spans = [span for span in collected.finished() if span.name.startswith("invoke_agent")]
    traces = {attributes(span)["gen_ai.conversation.id"]: span.context.trace_id for span in spans}
    assert traces["one"] == int(TRACE, 16)
    assert traces["two"] != traces["one"]
    calls = [span for span in collected.finished() if span.name == "ask a model"]
    parents = {span.parent.span_id for span in calls if span.parent is not None}
    assert parents == {span.context.span_id for span in spans}
    assert all(span.end_time for span in spans)


def test_requests_runs_events_and_tokens_are_counted_as_metrics() -> None:
    collected = Collected()
    collected.run()
    collected.run(forwardedProps={"fail": True})
    found = collected.metrics()
    assert sum(point.value for point in found["sansio_copilot.requests"]) == 2
    assert sum(point.value for point in found["sansio_copilot.events"]) == 4
    durations = found["gen_ai.client.operation.duration"]
    assert sorted(point.attributes.get("error.type", "") for point in durations) == ["", "failed"]
    tokens = {
        (point.attributes["gen_ai.token.type"], point.attributes.get("gen_ai.request.model")): (
            point.sum
        )
        for point in found["gen_ai.client.token.usage"]
    }
    assert tokens == {("input", "m"): 3, ("output", "m"): 4, ("output", None): 1}
    assert [point.value for point in found["sansio_copilot.runs.live"]] == [0]
    assert [point.value for point in found["sansio_copilot.readers"]] == [0]
    assert found["sansio_copilot.run.first_event"][0].count == 2
    runs = found["sansio_copilot.runs"]
    outcomes = [point.attributes["sansio_copilot.run.outcome"] for point in runs]
    assert sorted(outcomes) == ["failed", "finished"]
    assert sum(point.value for point in found["sansio_copilot.event.size"]) > 400
    calls = {point.attributes["method"] for point in found["sansio_copilot.store.calls"]}
    assert {"open_run", "append", "close_run"} <= calls
    assert [point.value for point in found["sansio_copilot.evictions"]] == [0]


def test_both_formats_tell_the_same_metrics() -> None:
    """OpenTelemetry has every metric that Prometheus's text has."""
    collected = Collected()
    collected.run()
    counted = collected.runtime.metrics
    assert counted is not None
    counted.store_failed("store method read")
    text = counted.text(collected.runtime.store).decode()
    names = re.findall(r"^# TYPE sansio_copilot_(\w+)", text, re.MULTILINE)
    same = {
        "info": None,
        "readers": "sansio_copilot.readers",
        "runs_live": "sansio_copilot.runs.live",
        "requests_total": "sansio_copilot.requests",
        "runs_total": "sansio_copilot.runs",
        "events_total": "sansio_copilot.events",
        "event_bytes_total": "sansio_copilot.event.size",
        "tokens_total": "gen_ai.client.token.usage",
        "store_calls_total": "sansio_copilot.store.calls",
        "store_failures_total": "sansio_copilot.store.failures",
        "evictions_total": "sansio_copilot.evictions",
        "run_seconds": "gen_ai.client.operation.duration",
        "first_event_seconds": "sansio_copilot.run.first_event",
    }
    assert set(names) == same.keys()
    found = collected.metrics()
    assert {name for name in same.values() if name} == found.keys()
    assert all(found.values())


def test_a_lost_run_is_counted_and_has_no_duration() -> None:
    collected = Collected()
    start = RunStart(RunAgentInput.model_validate(run_input("t")), AgentContext("default", ASKED))
    hook: Any = collected.runtime.hooks.on_run_end
    report = RunReport(start.input, start.context, outcome="lost", seconds=9.0, events=3)
    with pytest.raises(StopIteration):
        hook(report).send(None)
    found = collected.metrics()
    [runs] = found["sansio_copilot.runs"]
    assert runs.attributes["sansio_copilot.run.outcome"] == "lost"
    assert "gen_ai.client.operation.duration" not in found


def test_what_a_client_chooses_makes_no_metric_of_its_own() -> None:
    """The SDK keeps each combination of attributes for ever."""
    collected = Collected()
    for number in range(300):
        path = f"{BASE}/nothing/{number}"
        copy_context().run(collected.client.request, f"METHOD{number}", path)
    [point] = collected.metrics()["sansio_copilot.requests"]
    assert point.value == 300
    assert point.attributes["http.request.method"] == "_OTHER"
    assert {span.name for span in collected.finished()} == {"HTTP"}


def test_the_metrics_tell_a_hundred_agents_apart() -> None:
    """An application may have some for each tenant."""
    collected = Collected()
    agents = {f"a{number}": collected.agent for number in range(150)}
    client = Client(CopilotRuntime(agents, hooks=collected.runtime.hooks))
    for number in range(150):
        path = f"{BASE}/agent/a{number}/run"
        copy_context().run(client.post, path, json=run_input(f"t{number}"))
    points = collected.metrics()["sansio_copilot.runs"]
    assert sum(point.value for point in points) == 150
    assert len(points) == 101
    told = [attributes(span).get("gen_ai.agent.name") for span in collected.finished()]
    assert "a149" in told
    assert not any(span.name == "invoke_agent a149" for span in collected.finished())


def test_only_a_runtime_that_counts_can_be_watched() -> None:
    with pytest.raises(ValueError, match="make it with metrics_path"):
        Telemetry().watch(CopilotRuntime({}))


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [name for name in sys.modules if name.startswith("copilot_bindings.telemetry")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sansio-copilot\[otel\]'"):
        import copilot_bindings.telemetry  # noqa: F401
