"""The hooks that tell OpenTelemetry of requests and runs.

A request's span goes from ``on_request`` to the beginning of its response. A run's span goes from
the call of its agent to the end of its log: it outlives its request, and so it is no child of the
request's span but has a link to it. Both are children of the span that the client names in
``traceparent`` (W3C Trace Context), if it names one. The agent runs in the context of the run's
span, so that spans of the libraries that it calls are below this span; and ``traceparent`` is among
the headers that the agent may pass on.

The present spans are in context variables, and each exchange has its own context, as
docs/bindings.md says. So no span is looked up, and none is left behind when an exchange is over.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from sansio_copilot import (
    CopilotRuntime,
    HookContext,
    Hooks,
    Reject,
    Response,
    RunReport,
    RunStart,
    __version__,
)
from sansio_copilot.metrics import LabelValues
from sansio_copilot.stores.optional_methods import evictions_of

_NAME: Final = "sansio_copilot"
_LONGEST_CONTENT: Final = 32 * 1024
_FAILED: Final = "failed"
_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""The methods that spans and metrics tell apart, because a client may send any other word, and the
SDK keeps an entry for each."""
_OTHER_METHOD: Final = "_OTHER"
"""The name for the rest in the semantic conventions for HTTP."""

_request_span: ContextVar[Span | None] = ContextVar("sansio_copilot_request_span", default=None)
_run_span: ContextVar[Span | None] = ContextVar("sansio_copilot_run_span", default=None)
_parent: ContextVar[otel_context.Context | None] = ContextVar("sansio_copilot_parent", default=None)


class Telemetry:
    """Spans and metrics of a runtime's requests and runs, by OpenTelemetry.

    :param tracer_provider: makes the spans; None for the one that the application has set.
    :param meter_provider: the same for the metrics.
    :param content: whether a run's span has the messages of its input (``gen_ai.input.messages``,
        at most 32 KiB) and the text of its error. Both are private, as a rule.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        content: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        meter = metrics.get_meter(_NAME, __version__, meter_provider)
        self._content = content
        self._agents, self._models = LabelValues(), LabelValues()
        self._requests = meter.create_counter(
            "sansio_copilot.requests", "{request}", "Responses by route and status code"
        )
        self._meter = meter
        self._durations = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "How long runs took"
        )
        self._first_events = meter.create_histogram(
            "sansio_copilot.run.first_event", "s", "After how long the first event was there"
        )
        self._events = meter.create_counter(
            "sansio_copilot.events", "{event}", "Events that runs have sent"
        )
        self._bytes = meter.create_counter(
            "sansio_copilot.event.size", "By", "The bytes of these as frames"
        )
        self._runs = meter.create_counter(
            "sansio_copilot.runs", "{run}", "Runs that are over, by how they ended"
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens that a run has used"
        )

    def hooks(self, hooks: Hooks | None = None) -> Hooks:
        """Return hooks that tell of each request and run, and call ``hooks`` as well.

        :param hooks: the application's own hooks; each is called inside the span.
        """
        own = hooks or Hooks()
        return Hooks(
            on_request=_around(own.on_request, before=self._request_begins),
            on_before_handler=own.on_before_handler,
            on_response=_around(own.on_response, after=self._response_begins),
            on_error=_around(own.on_error, after=self._request_failed),
            on_run_start=_around(own.on_run_start, after=self._run_starts),
            on_run_end=_around(own.on_run_end, before=self._run_ends),
        )

    def watch(self, runtime: CopilotRuntime) -> None:
        """Tell the metrics of ``runtime`` that no hook sees: live runs, readers, and the calls,
        failures and evictions of the store.

        :raises ValueError: if the runtime counts nothing, because it has no ``metrics_path``.
        """
        counted = runtime.metrics
        if counted is None:
            raise ValueError("the runtime counts nothing: make it with metrics_path")
        gauges = {
            "sansio_copilot.runs.live": ("{run}", lambda: counted.runs_live),
            "sansio_copilot.readers": ("{reader}", lambda: counted.readers),
        }
        for name, (unit, value) in gauges.items():
            self._meter.create_observable_gauge(name, [_observed(value)], unit)
        counters = {
            "sansio_copilot.store.calls": lambda: counted.store_calls,
            "sansio_copilot.store.failures": lambda: counted.store_failures,
        }
        for name, counts in counters.items():
            self._meter.create_observable_counter(name, [_observed_by_method(counts)], "{call}")
        if evictions_of(runtime.store) is not None:
            self._meter.create_observable_counter(
                "sansio_copilot.evictions",
                [_observed(lambda: evictions_of(runtime.store) or 0)],
                "{thread}",
                "Threads that had to go for others",
            )

    # Requests

    def _request_begins(self, context: HookContext) -> None:
        request = context.request
        parent = propagate.extract(dict(request.headers.items()))
        _parent.set(parent)
        method = _method_of(context)
        span = self._tracer.start_span(
            _name_of(method),
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": context.path},
        )
        _request_span.set(span)
        otel_context.attach(trace.set_span_in_context(span, parent))

    def _response_begins(self, context: HookContext, outcome: object) -> None:
        response = outcome if isinstance(outcome, Response) else context.response
        if response is not None:
            self._responded(context, response.status)

    def _request_failed(self, context: HookContext, outcome: object) -> None:
        span = _request_span.get()
        if span is not None and context.error is not None:
            span.set_attribute("error.type", type(context.error).__qualname__)
            span.set_status(Status(StatusCode.ERROR))
        self._responded(context, outcome.status if isinstance(outcome, Response) else None)

    def _responded(self, context: HookContext, status: int | None) -> None:
        method = _method_of(context)
        attributes: dict[str, Any] = {"http.request.method": method}
        if context.route is not None:
            attributes["http.route"] = context.route.name
        if status is not None:
            attributes["http.response.status_code"] = status
        self._requests.add(1, attributes)
        span = _request_span.get()
        if span is None:
            return
        if context.route is not None:
            span.update_name(f"{_name_of(method)} {context.route.name}")
        span.set_attributes(attributes)
        span.end()

    # Runs

    def _run_starts(self, start: RunStart, outcome: object) -> None:
        if isinstance(outcome, Response):
            # There is no span, because a hook of the application has refused the run.
            return
        request_span = _request_span.get()
        attributes: dict[str, Any] = {
            **self._labels(start),
            "gen_ai.agent.name": start.agent_id,
            "gen_ai.conversation.id": start.thread_id,
            "sansio_copilot.run.id": start.run_id,
        }
        if self._content:
            messages = [
                message.model_dump(mode="json", by_alias=True, exclude_none=True)
                for message in start.input.messages
            ]
            text = json.dumps(messages, ensure_ascii=False)
            attributes["gen_ai.input.messages"] = text[:_LONGEST_CONTENT]
        parent = _parent.get() or otel_context.Context()
        span = self._tracer.start_span(
            f"invoke_agent {self._agents.of(start.agent_id)}",
            context=parent,
            links=[] if request_span is None else [Link(request_span.get_span_context())],
            attributes=attributes,
        )
        _run_span.set(span)
        present = trace.set_span_in_context(span, parent)
        otel_context.attach(present)
        told: dict[str, str] = {}
        propagate.inject(told, present)
        start.context.headers = {**start.context.headers, **told}

    def _run_ends(self, report: RunReport) -> None:
        labels = self._labels(report)
        self._runs.add(1, labels | {"sansio_copilot.run.outcome": report.outcome})
        self._events.add(report.events, labels)
        self._bytes.add(report.size, labels)
        if report.first_event_seconds is not None:
            self._first_events.record(report.first_event_seconds, labels)
        failed = {"error.type": _FAILED} if report.outcome == _FAILED else {}
        if report.outcome != "lost":
            # The duration of a lost run is left out, because the time until somebody found it says
            # nothing of the agent.
            self._durations.record(report.seconds, labels | failed)
        used = dict.fromkeys(_TOKENS, 0)
        for entry in report.usage:
            model = (
                {"gen_ai.request.model": self._models.of(entry["model"])}
                if "model" in entry
                else {}
            )
            for kind, name in _TOKENS.items():
                count = entry.get(name, 0)
                used[kind] += count
                if count:
                    self._tokens.record(count, labels | model | {"gen_ai.token.type": kind})
        span = _run_span.get()
        if span is None:
            return
        span.set_attribute("sansio_copilot.run.outcome", report.outcome)
        span.set_attribute("sansio_copilot.run.events", report.events)
        for kind, count in used.items():
            if count:
                span.set_attribute(f"gen_ai.usage.{kind}_tokens", count)
        if failed:
            span.set_attributes(failed)
            span.set_status(Status(StatusCode.ERROR, report.error if self._content else None))
        span.end()

    def _labels(self, run: RunStart) -> dict[str, Any]:
        # The ids are bounded, because an application may have agents for each of its tenants.
        name = self._agents.of(run.agent_id)
        return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


_TOKENS: Final = {"input": "inputTokens", "output": "outputTokens"}


def _observed(value: Callable[[], int]) -> Callable[[CallbackOptions], list[Observation]]:
    return lambda options: [Observation(value())]


def _observed_by_method(
    counts: Callable[[], dict[str, int]],
) -> Callable[[CallbackOptions], list[Observation]]:
    return lambda options: [
        Observation(count, {"method": method}) for method, count in counts().items()
    ]


def _method_of(context: HookContext) -> str:
    method = context.request.method
    return method if method in _METHODS else _OTHER_METHOD


def _name_of(method: str) -> str:
    """The word for a method in the name of a span."""
    return "HTTP" if method == _OTHER_METHOD else method


def _nothing(*arguments: object) -> None:
    """Does nothing, in the place of a function that is not given."""


def _around(
    hook: Callable[[Any], Any] | None,
    *,
    before: Callable[[Any], None] = _nothing,
    after: Callable[[Any, object], None] = _nothing,
) -> Callable[[Any], Any]:
    """Return a hook that does something before or after ``hook``, and is plain if ``hook`` is.

    So a plain hook, which may block, gets a thread, and an async one does not.
    """
    if hook is not None and not inspect.iscoroutinefunction(hook):
        plain = hook

        def call_plain(argument: Any) -> Any:
            before(argument)
            try:
                outcome = plain(argument)
            except Reject as rejection:
                after(argument, rejection.response)
                raise
            if inspect.isawaitable(outcome):
                return _awaited(outcome, argument, after)
            after(argument, outcome)
            return outcome

        return call_plain

    async def call(argument: Any) -> Any:
        before(argument)
        if hook is not None:
            return await _awaited(hook(argument), argument, after)
        after(argument, None)
        return None

    return call


async def _awaited(outcome: Any, argument: Any, after: Callable[[Any, object], None]) -> Any:
    try:
        result = await outcome
    except Reject as rejection:
        after(argument, rejection.response)
        raise
    after(argument, result)
    return result
