"""A public function raises only the errors that its docstring names, whatever comes from outside.

From outside means: from a client, an agent, a hook, or the configuration of an application. Where
a docstring says nothing of wrong types, arguments are of the declared ones: any text, with lone
surrogates; any bytes; any JSON.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outside import (
    ANYTHING,
    BASES,
    BODIES,
    CHECKED,
    ENVELOPE_REQUESTS,
    ENVELOPES,
    EVENTS,
    HEADERS,
    JSON,
    METHODS,
    NAMES,
    PATHS,
    REQUESTS,
    STREAMS,
    TEXT,
    VALUES,
)
from support.owner import append
from support.sse_frames import format_frame

from sansio_copilot import (
    CopilotRuntime,
    CorsPolicy,
    Exchange,
    ForwardHeaders,
    Headers,
    Limits,
    LocalProtocolError,
    MemoryStore,
    RemoteProtocolError,
    Request,
    Response,
    Run,
    agui_agent,
    events,
    json_codec,
    sse,
    testing,
    text_agent,
)
from sansio_copilot.actions import Call, StartRun
from sansio_copilot.events import EventError
from sansio_copilot.http import envelope
from sansio_copilot.http.routing import Route
from sansio_copilot.runs.delta_shortcut import DELTAS
from sansio_copilot.stores.protocol import RunOpened, RunRequest, ThreadQuery, UnknownCursor

MODULES = (
    *("", ".events", ".sse", ".http.envelope", ".http.routing", ".http.paths", ".http.cors"),
    *(".http.forwarding", ".http.messages", ".testing.client", ".json_codec"),
    *(".testing.requests", ".testing.responses", ".testing.recordings"),
)

# --- What is called ---------------------------------------------------------------------------


@attrs.frozen
class Promise:
    """
    :param name: of what is called, as its module has it.
    :param raises: all that its docstring allows it to.
    :param call: how it is called, if not with the arguments just so.
    """

    name: str
    arguments: tuple[st.SearchStrategy[Any], ...]
    raises: tuple[type[Exception], ...] = ()
    call: Callable[..., Any] | None = None


def feeding(make: Callable[[], Any]) -> Callable[[list[Any]], None]:
    """Feed a machine a stream; one that refuses an event has refused the stream."""

    def feed(stream: list[Any]) -> None:
        machine = make()
        for event in stream:
            machine.feed(event)

    return feed


def continuing(make: Callable[[], Any]) -> Callable[[list[Any]], None]:
    """Feed a machine a stream, and each of its deltas once more by the shortcut."""

    def feed(stream: list[Any]) -> None:
        machine = make()
        for event in stream:
            machine.feed(event)
            if event["type"] in DELTAS and (take := machine.continuation(event)) is not None:
                take(event["delta"])

    return feed


def finalizer(stream: list[Any], stop: bool, message: str | None) -> None:
    machine = events.Finalizer()
    for event in stream:
        machine.observe(event)
    machine.finalize(stop_requested=stop, interruption_message=message)


def policy(origin: Any, credentials: bool) -> CorsPolicy:
    return CorsPolicy(origin, credentials, allow_headers=["*"], max_age=1)


ORIGINS = st.one_of(
    st.just("*"),
    st.just(["https://a.example", "null"]),
    ANYTHING.map(lambda answer: lambda origin: answer),
)
POLICIES = st.builds(policy, ORIGINS, st.booleans())


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield from ("Hel", "lo")


def client(mode: Any = "multi-route", base: str | None = "/api/copilotkit") -> testing.Client:
    return testing.Client(
        CopilotRuntime({"default": hello}, mode=mode, base_path=base, thread_mutations=True)
    )


ROUTES = st.builds(
    Route, st.sampled_from(["agent/run", "agent/stop", "threads/update", "info"]), TEXT, TEXT
)
EVENT_IDS = st.from_regex(r"[0-9.c]{1,12}", fullmatch=True)
FRAMES = st.lists(JSON.map(json_codec.encode).map(format_frame)).map(b"".join)
MODES = st.sampled_from(["multi-route", "single-route", "both"])


def response(body: bytes) -> testing.ClientResponse:
    return testing.ClientResponse(200, Headers({"content-type": "text/event-stream"}), body)


def answer(name: str) -> Callable[[bytes], Any]:
    return lambda body: getattr(response(body), name)()


STREAM_BODIES = st.binary() | st.lists(EVENTS | JSON, max_size=6).map(
    lambda stream: b"".join(format_frame(json_codec.encode(event)) for event in stream)
)


def ask(mode: Any, base: str | None, method: str, path: str, headers: Any, body: Any) -> None:
    one = client(mode, base)
    stream = testing.Stream(one, method, path, Headers(headers), body)
    for _ in stream:
        one.advance(1.0)
    answer = stream.finish()
    assert 200 <= answer.status < 504
    assert answer.status != 500
    one.close()


BASE_PATHS = st.sampled_from([None, "/", "/api/copilotkit"])
TARGETS = st.builds(lambda path: "/" + path, PATHS) | st.sampled_from(
    [f"/api/copilotkit{path}" for path in ("", "/info", "/agent/default/run", "/threads?limit=x")]
    + ["/api/copilotkit/transcribe", "/api/copilotkit/threads/t", "/api/copilotkit/threads/clear"]
)


def run_of_an_agent() -> Run:
    """A run whose agent is about to say something."""
    runtime = CopilotRuntime({"default": hello})
    body = json_codec.encode(testing.run_input("t"))
    request = Request("POST", "/api/copilotkit/agent/default/run", body=body)
    exchange = runtime.exchange(request, 0.0)
    action = exchange.start()
    while isinstance(action, Call):
        action = exchange.done(action.function(*action.args))
    assert isinstance(action, StartRun)
    action.run.start(0.0)
    return action.run


def say(stream: list[Any]) -> None:
    run = run_of_an_agent()
    for event in stream:
        action: Any = run.event(event, 0.0)
        while hasattr(action, "function"):
            action = run.stored(action.function(*action.args), 0.0)
        if run.state.name == "OVER":
            return
    run.agent_ended(0.0, ValueError("\ud800"))


def store_with_a_run() -> MemoryStore:
    store = MemoryStore()
    opened = store.open_run(RunRequest("t", "r", "a"))
    assert isinstance(opened, RunOpened)
    append(store, opened.key, b"id: 1.x.0\ndata: {}\n\n")
    return store


IDS = st.just("t") | TEXT

PROMISES = [
    # sansio_copilot
    Promise("CopilotRuntime", (ANYTHING, BASES | ANYTHING, MODES | ANYTHING, ANYTHING, ANYTHING),
            (TypeError, ValueError),
            lambda agents, base, mode, cors, other: CopilotRuntime(
                agents, base_path=base, mode=mode, cors=cors, hooks=other, store=other,
                transcription=other, limits=other, forward_headers=other)),
    Promise("CopilotRuntime.with_store", (ANYTHING,), (TypeError, ValueError),
            lambda store: CopilotRuntime({}).with_store(store)),
    Promise("CopilotRuntime.exchange", (REQUESTS,), (),
            lambda request: CopilotRuntime({}).exchange(request, 0.0)),
    Promise("CorsPolicy", (ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING),
            (TypeError, ValueError)),
    Promise("CorsPolicy.preflight", (POLICIES, REQUESTS), (TypeError, ValueError)),
    Promise("CorsPolicy.lock_out", (POLICIES, st.builds(Response)), ()),
    Promise("CorsPolicy.apply", (POLICIES, st.builds(Response), st.none() | VALUES),
            (TypeError, ValueError)),
    Promise("Exchange.start", (REQUESTS,), (LocalProtocolError,),
            lambda request: Exchange(CopilotRuntime({}), request, 0.0).start()),
    Promise("ForwardHeaders", (st.booleans(), ANYTHING, ANYTHING, ANYTHING), (TypeError,)),
    Promise("ForwardHeaders.forwards", (TEXT,), (), ForwardHeaders().forwards),
    Promise("ForwardHeaders.merge", (st.none() | st.dictionaries(NAMES, VALUES), HEADERS), (),
            lambda own, fields: ForwardHeaders().merge(own, Headers(fields))),
    Promise("Headers", (st.none() | HEADERS | st.dictionaries(NAMES, VALUES),), ()),
    Promise("Headers.from_raw", (HEADERS.map(tuple),), ()),
    Promise("Headers.get", (HEADERS, NAMES), (), lambda f, n: Headers(f).get(n)),
    Promise("Headers.get_all", (HEADERS, NAMES), (), lambda f, n: Headers(f).get_all(n)),
    Promise("Headers.set", (HEADERS, NAMES, VALUES), (), lambda f, n, v: Headers(f).set(n, v)),
    Promise("Headers.add", (HEADERS, NAMES, VALUES), (), lambda f, n, v: Headers(f).add(n, v)),
    Promise("Headers.remove", (HEADERS, NAMES), (), lambda f, n: Headers(f).remove(n)),
    Promise("Hooks", (ANYTHING, ANYTHING, ANYTHING, ANYTHING), (TypeError,)),
    Promise("Limits", (ANYTHING,), (ValueError,),
            lambda value: [Limits(**{field.name: value}) for field in attrs.fields(Limits)]),
    Promise("MemoryStore", (ANYTHING,), (ValueError,),
            lambda value: [MemoryStore(**{name: value}) for name in (
                "max_threads", "max_runs_per_thread", "max_bytes", "on_concurrent_run")]),
    Promise("MemoryStore.open_run", (IDS, TEXT, st.tuples(TEXT)), (),
            lambda thread, run, ids: store_with_a_run().open_run(
                RunRequest(thread, run, "a", ids))),
    Promise("MemoryStore.request_stop", (IDS, st.none() | TEXT), (),
            lambda thread, run: store_with_a_run().request_stop(thread, run)),
    Promise("MemoryStore.open_cursor", (IDS, st.none() | TEXT), (),
            lambda thread, after: store_with_a_run().open_cursor(thread, after)),
    Promise("MemoryStore.read_history", (IDS,), (),
            lambda t: store_with_a_run().read_history(t, "frames", None, 9)),
    Promise("MemoryStore.list_threads", (st.none() | TEXT,), (UnknownCursor,),
            lambda cursor: store_with_a_run().list_threads(ThreadQuery(cursor=cursor))),
    Promise("MemoryStore.update_thread", (IDS, st.none() | TEXT), (),
            lambda thread, name: store_with_a_run().update_thread(thread, {"name": name})),
    Promise("MemoryStore.delete_thread", (IDS,), (), lambda t: store_with_a_run().delete_thread(t)),
    Promise("Reject", (ANYTHING,), (TypeError,)),
    Promise("agui_agent", (ANYTHING, st.none() | TEXT), (TypeError, ValueError),
            lambda agent, loop: agui_agent(agent, loop=loop)),
    Promise("Request", (METHODS, PATHS, TEXT, HEADERS, BODIES), ()),
    Promise("Request.from_target", (METHODS, PATHS, HEADERS, BODIES), (RemoteProtocolError,)),
    Promise("Request.json", (BODIES, st.integers()), (ValueError,),
            lambda body, most: Request("POST", "/", body=body).json(most)),
    Promise("Request.with_body", (REQUESTS, st.binary()), (),
            lambda request, body: request.with_body(body)),
    Promise("Request.with_headers", (REQUESTS, HEADERS), (),
            lambda request, fields: request.with_headers(Headers(fields))),
    Promise("Response", (ANYTHING, HEADERS, st.binary() | TEXT), (ValueError,)),
    Promise("Response.json", (ANYTHING, ANYTHING, HEADERS), (TypeError, ValueError)),
    Promise("Response.with_headers", (HEADERS,), (ValueError,),
            lambda fields: Response().with_headers(Headers(fields))),
    Promise("Run.event", (STREAMS,), (), say),
    Promise("TranscriptionError", (TEXT, st.none() | TEXT), (ValueError,)),
    # sansio_copilot.events
    Promise("User", (ANYTHING, ANYTHING), (TypeError, ValueError)),
    Promise("normalize_event", (EVENTS | ANYTHING,), (EventError,)),
    Promise("normalize_input", (JSON,), (EventError,)),
    Promise("verify_events", (STREAMS,), (EventError,)),
    Promise("ThinkingUpgrader", (TEXT,), ()),
    Promise("ThinkingUpgrader.feed", (CHECKED,), (EventError,),
            feeding(lambda: events.ThinkingUpgrader("run"))),
    Promise("Verifier.feed", (CHECKED,), (EventError,), feeding(events.Verifier)),
    Promise("Verifier.closers", (CHECKED,), (), lambda stream: closers_of(stream)),
    Promise("expand_chunks", (CHECKED,), (EventError,)),
    Promise("ChunkExpander.feed", (CHECKED,), (EventError,), feeding(events.ChunkExpander)),
    Promise("compact_events", (CHECKED,), ()),
    Promise("Compactor.feed", (CHECKED,), (), feeding(events.Compactor)),
    Promise("Compactor.finish", (CHECKED, JSON), (),
            lambda stream, state: events.compact_events(stream, state=state)),
    Promise("Compactor.continuation", (CHECKED,), (), continuing(events.Compactor)),
    Promise("finalize_events", (CHECKED,), ()),
    Promise("Finalizer.observe", (CHECKED, st.booleans(), st.none() | TEXT), (), finalizer),
    Promise("Finalizer.finalize", (CHECKED, st.booleans(), st.none() | TEXT), (), finalizer),
    Promise("fold_messages", (CHECKED, st.lists(JSON, max_size=3)), ()),
    Promise("MessageFolder", (st.lists(JSON),), (), events.MessageFolder),
    Promise("MessageFolder.feed", (CHECKED,), (), feeding(events.MessageFolder)),
    Promise("MessageFolder.continuation", (CHECKED,), (), continuing(events.MessageFolder)),
    Promise("fold_state", (CHECKED,), ()),
    Promise("StateFolder", (JSON,), (), events.StateFolder),
    Promise("StateFolder.feed", (CHECKED, JSON), (),
            lambda stream, state: feeding(lambda: events.StateFolder(state))(stream)),
    # sansio_copilot.sse
    Promise("end_of_frame", (FRAMES, st.integers()), ()),
    Promise("behind_frame", (FRAMES, TEXT), ()),
    Promise("run_token", (st.integers(), TEXT), ()),
    Promise("EventId.parse", (TEXT | EVENT_IDS,), (), sse.EventId.parse),
    Promise("Parser.feed", (st.lists(st.binary()),), (), feeding(sse.Parser)),
    Promise("FrameData.feed", (st.lists(st.binary()),), (), feeding(sse.FrameData)),
    # sansio_copilot.http.envelope, routing, paths
    Promise("detect_envelope", (REQUESTS | ENVELOPE_REQUESTS,), ()),
    Promise("detect_graphql", (REQUESTS | ENVELOPE_REQUESTS,), ()),
    Promise("may_be_envelope", (REQUESTS,), ()),
    Promise("parse_envelope", (REQUESTS | ENVELOPE_REQUESTS,), (envelope.EnvelopeRefusal,)),
    Promise("envelope_route", (ENVELOPES,), (envelope.EnvelopeRefusal, ValueError),
            lambda value: envelope.envelope_route(envelope_of(value))),
    Promise("resource_request", (ENVELOPES, REQUESTS), (envelope.EnvelopeRefusal,),
            lambda value, request: envelope.resource_request(envelope_of(value), request)),
    Promise("resolve_envelope", (ENVELOPES, REQUESTS), (envelope.EnvelopeRefusal,),
            lambda value, request: envelope.resolve_envelope(envelope_of(value), request)),
    Promise("require_body", (ENVELOPES, REQUESTS), (envelope.EnvelopeRefusal,),
            lambda value, request: envelope.require_body(envelope_of(value), request)),
    Promise("match_path", (PATHS, BASES), ()),
    Promise("path_of", (ROUTES,), ()),
    Promise("is_resource", (ROUTES,), ()),
    Promise("below", (PATHS, BASES), ()),
    Promise("decode_component", (TEXT,), ()),
    Promise("well_formed", (TEXT,), ()),
    Promise("under_base_path", (PATHS, BASES), ()),
    Promise("at_base_path", (PATHS, BASES), ()),
    Promise("from_base_path", (PATHS, PATHS, BASES), ()),
    Promise("normalize_path", (PATHS,), ()),
    Promise("normalize_base_path", (BASES | ANYTHING,), (TypeError, ValueError)),
    # sansio_copilot.http.cors
    Promise("policy_from", (ANYTHING,), (TypeError,)),
    # sansio_copilot.testing
    Promise("Client.request", (MODES, BASE_PATHS, METHODS, TARGETS | PATHS, HEADERS,
                               st.binary() | TEXT | ENVELOPES.map(json_codec.encode)),
            (RemoteProtocolError, ValueError), ask),
    Promise("Client.post", (MODES, TARGETS, ENVELOPES | ANYTHING), (TypeError, ValueError),
            lambda mode, path, value: client(mode).post(path, json=value)),
    Promise("ClientResponse.json", (st.binary(),), (ValueError,),
            lambda body: testing.ClientResponse(200, Headers(), body).json()),
    Promise("ClientResponse.events",
            (st.binary() | JSON.map(json_codec.encode).map(format_frame),),
            (ValueError,), lambda body: testing.ClientResponse(200, Headers(), body).events()),
    *(
        Promise(f"ClientResponse.{name}", (STREAM_BODIES,), (AssertionError,), answer(name))
        for name in ("text", "messages", "tool_calls", "state", "run_error")
    ),
    Promise("assert_valid_stream", (STREAMS | STREAM_BODIES.map(response),), (AssertionError,)),
    Promise("endpoint", (st.builds(client, MODES).map(lambda one: one.runtime), st.just("run"),
                         TEXT, JSON), ()),
    Promise("json_body", (ANYTHING, HEADERS), (TypeError, ValueError)),
    Promise("Recording.loads", (st.binary() | JSON.map(json_codec.encode),), (ValueError,)),
    Promise("Recording.of_stream", (STREAM_BODIES,), (ValueError,)),
    # sansio_copilot.json_codec
    Promise("decode", (st.binary() | JSON.map(json_codec.encode),), (ValueError,)),
    Promise("elements", (st.binary() | JSON.map(json_codec.encode),), (ValueError,)),
    Promise("has_more_values", (st.binary(), st.integers()), ()),
    Promise("encode", (ANYTHING,), (TypeError, ValueError)),
    Promise("encode_each", (st.lists(ANYTHING),), (TypeError, ValueError)),
    Promise("to_builtins", (ANYTHING,), (TypeError, RecursionError)),
]  # fmt: skip

NOTHING_FROM_OUTSIDE = {
    "AgentContext AudioFile HookContext Route Envelope ServerSentEvent EventId ClientResponse"
    " AgentBase Event ToolCall Recording RecordingAgent ReplayAgent RunStart RunReport": (
        "hold what they are given"
    ),
    "BodyRefused BodyTimeout BodyTooLarge LocalProtocolError RemoteProtocolError RunRefused"
    " StoreAnswerLost StoreUnavailable EventError EnvelopeRefusal ExchangeState RunState": (
        "are raised, or named"
    ),
    "Exchange Exchange.done Exchange.failed Exchange.client_gone Run Run.start Run.agent_ended"
    " Run.check Run.signalled Run.flush Run.resume Run.settle Run.interrupt Run.abandon"
    " Run.stored Run.store_failed Run.events Run.farewell": (
        "are a binding's to call; both test_machine.py have their errors"
    ),
    "MemoryStore.append MemoryStore.close_run MemoryStore.renew MemoryStore.watch_run"
    " MemoryStore.read MemoryStore.watch MemoryStore.orphans MemoryStore.clear MemoryStore.owner_of"
    " MemoryStore.claim_thread MemoryStore.bytes_of MemoryStore.threads_of_all"
    " ThreadStore": ("take keys and cursors of the store's own, and the core's frames"),
    "CopilotRuntime.behind_cors CopilotRuntime.sweep CopilotRuntime.tell_of_lost"
    " CopilotRuntime.where_exposed Request.outlived": "take nothing",
    "CopilotRuntime.needs_start CopilotRuntime.refused Request.in_place_of": (
        "takes what has been checked"
    ),
    "frame_data": "takes the core's frames",
    "answer_preflight with_cors": "let nobody in where a policy raises; test_machine.py has it",
    "text_agent": "takes a function, and calls it in a run",
    "ChunkExpander Compactor Finalizer Verifier Parser FrameData": "are made of nothing",
    "Client Stream": "are made of nothing",
    "Client.get Client.stream Client.advance Client.step Client.start_run Client.close Stream.next"
    " Stream.next_frame Stream.ready Stream.finish Stream.close Stream.time_out_if_due run_input"
    " Client.run Client.begin_run": ("are a test's to call, and go the way of Client.request"),
    "record Recording.dumps Recording.agent RecordingAgent.run RecordingAgent.stop_call"
    " ReplayAgent.run": ("are a test's to call, with what an agent or a recording has given it"),
}


def envelope_of(value: dict[str, Any]) -> envelope.Envelope:
    method = value["method"] if value["method"] in envelope.METHOD_NAMES else "info"
    return envelope.Envelope(method, value.get("params"), value.get("body"), "body" in value)


def closers_of(stream: list[Any]) -> None:
    verifier = events.Verifier()
    for event in stream:
        try:
            verifier.feed(event)
        except EventError:
            break
    verifier.closers()


def find(name: str) -> Any:
    """Return the function, class, or method of a class that is public under ``name``."""
    for suffix in MODULES:
        found: Any = importlib.import_module(f"sansio_copilot{suffix}")
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise LookupError(name)


def public_names() -> Iterator[str]:
    for suffix in MODULES:
        module = importlib.import_module(f"sansio_copilot{suffix}")
        for name, value in vars(module).items():
            exported = name in getattr(module, "__all__", ()) or (
                getattr(value, "__module__", "") == module.__name__
            )
            if name.startswith("_") or not callable(value) or not exported:
                continue
            yield name
            if inspect.isclass(value) and not getattr(value, "_is_protocol", False):
                for method, function in vars(value).items():
                    if not method.startswith("_") and isinstance(
                        function, (classmethod, staticmethod, type(public_names))
                    ):
                        yield f"{name}.{method}"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
@settings(max_examples=20)
@given(data=st.data())
def test_no_other_error_is_raised(promise: Promise, data: st.DataObject) -> None:
    arguments = [data.draw(strategy) for strategy in promise.arguments]
    with suppress(*promise.raises):
        (promise.call or find(promise.name))(*arguments)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_the_error_is_the_one_that_the_docstring_names(promise: Promise) -> None:
    said = re.findall(r":raises (\w+):", inspect.getdoc(find(promise.name)) or "")
    assert set(said) == {error.__name__ for error in promise.raises}


def test_every_public_name_has_its_promise() -> None:
    excused = {name for names in NOTHING_FROM_OUTSIDE for name in names.split()}
    promised = {promise.name for promise in PROMISES}
    assert promised.isdisjoint(excused)
    assert set(public_names()) == promised | excused
