"""Tests of the answer of each endpoint that starts, joins or stops a run."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
from ag_ui.core import AgentCapabilities, RunAgentInput

from sansio_copilot import (
    AgentContext,
    CopilotRuntime,
    ForwardHeaders,
    HookContext,
    Hooks,
    MemoryStore,
    Request,
    Response,
    __version__,
)
from sansio_copilot.endpoints import DISPATCH
from sansio_copilot.endpoints.run_input import to_early_model
from sansio_copilot.events import EventError
from sansio_copilot.http.routing import match_path
from sansio_copilot.testing import Client, ClientResponse, Stream, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"
CONNECT = f"{BASE}/agent/default/connect"
SUGGEST = f"{BASE}/agent/default/suggest"
STOP = f"{BASE}/agent/default/stop/t1"

INTERRUPT = {"type": "RUN_ERROR", "message": "Run stopped by user", "code": "STOPPED"}


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


class Talker:
    """Says three words, and notes when it has cleaned up."""

    def __init__(self, *behind: dict[str, Any]) -> None:
        self.behind = behind
        self.cleaned_up: list[str] = []
        self.inputs: list[RunAgentInput] = []
        self.contexts: list[AgentContext] = []

    def events(self, input: RunAgentInput, context: AgentContext) -> Iterator[Any]:
        self.inputs.append(input)
        self.contexts.append(context)
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        message = f"{input.run_id}-m"
        yield {"type": "RUN_STARTED", **ids}
        yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
        for word in ("one ", "two ", "three"):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": word}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message}
        yield {"type": "STATE_SNAPSHOT", "snapshot": {"said": 3}}
        yield {"type": "RUN_FINISHED", **ids}
        yield from self.behind


class PlainTalker(Talker):
    def run(self, input: RunAgentInput, context: AgentContext) -> Iterator[Any]:
        try:
            yield from self.events(input, context)
        finally:
            self.cleaned_up.append(input.run_id)


class AsyncTalker(Talker):
    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
        try:
            for event in self.events(input, context):
                yield event
        finally:
            self.cleaned_up.append(input.run_id)


@pytest.fixture(params=[PlainTalker, AsyncTalker], ids=["plain", "async"])
def talker(request: pytest.FixtureRequest) -> Talker:
    made: Talker = request.param()
    return made


def client(agent: Any = None, **options: Any) -> Client:
    return Client(CopilotRuntime({"default": agent or PlainTalker()}, **options))


def run(client: Client, run_id: str = "r1", thread: str = "t1", **fields: Any) -> ClientResponse:
    return client.post(RUN, json=run_input(thread, run_id, **fields))


def begin(client: Client, run_id: str = "r1", path: str = RUN) -> Stream:
    return client.stream("POST", path, json=run_input("t1", run_id))


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


WHOLE = [
    "RUN_STARTED",
    "TEXT_MESSAGE_START",
    *["TEXT_MESSAGE_CONTENT"] * 3,
    "TEXT_MESSAGE_END",
    "STATE_SNAPSHOT",
    "RUN_FINISHED",
]


class TestRun:
    def test_a_run_streams_what_its_agent_yields(self, talker: Talker) -> None:
        answer = run(client(talker))
        assert (answer.status, types(answer.events())) == (200, WHOLE)
        assert talker.cleaned_up == ["r1"]

    def test_run_started_tells_other_readers_the_input(self) -> None:
        messages = [{"id": "u1", "role": "user", "content": "hi"}]
        first = run(client(), messages=messages, state={"n": 1}).events()[0]
        assert first["input"] == run_input("t1", "r1", messages=messages, state={"n": 1})

    def test_run_started_has_no_field_that_is_not_of_the_protocol(self) -> None:
        first = run(client(), publicApiKey="secret", lastSeenEventId="x").events()[0]
        assert first["input"].keys() == run_input("t1").keys()

    def test_a_message_is_told_once(self) -> None:
        server = client()
        messages = [{"id": "u1", "role": "user", "content": "hi"}]
        run(server, "r1", messages=messages)
        more = [*messages, {"id": "u2", "role": "user", "content": "and?"}]
        first = run(server, "r2", messages=more).events()[0]
        assert [message["id"] for message in first["input"]["messages"]] == ["u2"]

    def test_a_state_of_null_is_no_state(self) -> None:
        agent = PlainTalker()
        first = run(client(agent), state=None).events()[0]
        assert "state" not in first["input"]
        assert agent.inputs[0].state is None

    @pytest.mark.parametrize("name", ["state", "forwardedProps"])
    def test_optional_fields_may_be_absent(self, name: str) -> None:
        body = run_input("t1")
        del body[name]
        assert client().post(RUN, json=body).status == 200

    def test_the_content_type_does_not_matter(self) -> None:
        body = json.dumps(run_input("t1"))
        for headers in ({}, {"content-type": "text/plain"}):
            assert client().request("POST", RUN, headers=headers, body=body).status == 200

    def test_every_frame_has_an_id(self) -> None:
        stream = begin(client())
        ids = []
        while (frame := stream.next_frame()) is not None:
            ids.append(frame.id)
        assert len(set(ids)) == len(WHOLE)
        assert stream.last_event_id == ids[-1]

    def test_an_unknown_agent_is_404(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, "sansio_copilot")
        for what in ("run", "connect", "suggest", "stop/t1"):
            body = {} if what.startswith("stop") else run_input("t1")
            answer = client().post(f"{BASE}/agent/nope/{what}", json=body)
            assert answer.status == 404
            assert answer.json() == {
                "error": "Agent not found",
                "message": "Agent 'nope' does not exist",
            }
        assert "no agent 'nope'; there are ['default']" in caplog.text

    def test_a_busy_thread_is_409_and_its_run_untouched(self, talker: Talker) -> None:
        server = client(talker)
        live = begin(server)
        seen = [live.next(), live.next()]
        answer = run(server, "r2")
        assert answer.status == 409
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "error": "Thread already running",
            "message": "Thread 't1' has a live run, 'r1': stop it, or wait for its end.",
        }
        assert types([*seen, *live]) == WHOLE
        assert [input.run_id for input in talker.inputs] == ["r1"]
        assert run(server, "r2").status == 200

    def test_other_threads_are_not_busy(self) -> None:
        server = client()
        live = begin(server)
        live.next()
        assert types(run(server, "r2", "t2").events()) == WHOLE
        assert types(list(live)) == WHOLE[1:]

    def test_a_store_that_supersedes_lets_the_second_run_stop_the_first(
        self, talker: Talker
    ) -> None:
        server = client(talker, store=MemoryStore(on_concurrent_run="supersede"))
        first = begin(server)
        first.next()
        first.next()
        assert types(run(server, "r2").events()) == WHOLE
        assert types(list(first)) == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert "r1" in talker.cleaned_up
        replayed = server.get(f"{BASE}/threads/t1/events").json()["events"]
        # The first is kept as one that was stopped: a reload shows its question and what it said.
        started = [event["runId"] for event in replayed if event["type"] == "RUN_STARTED"]
        assert started == ["r1", "r2"]
        assert [event["runId"] for event in replayed if event["type"] == "RUN_FINISHED"] == started

    @pytest.mark.parametrize("behind", [0, 3], ids=["statements", "statements and events"])
    @pytest.mark.parametrize("kind", [PlainTalker, AsyncTalker])
    def test_a_follow_up_is_never_refused_while_the_agent_still_cleans_up(
        self, kind: Callable[..., Talker], behind: int
    ) -> None:
        agent = kind(*[{"type": "CUSTOM", "name": "late", "value": 1}] * behind)
        server = client(agent)
        first = begin(server)
        while first.next()["type"] != "RUN_FINISHED":
            pass
        assert agent.cleaned_up == [], "its generator stands at the yield of RUN_FINISHED"
        second = begin(server, "r2")
        assert second.status == 200
        assert first.ready() == []
        assert types(list(second)) == [*WHOLE]
        assert list(first) == [], "what an agent yields behind a follow-up reaches nobody"
        while server.step():
            pass
        assert sorted(agent.cleaned_up) == ["r1", "r2"], "it could clean up in its own time"

    def test_events_behind_run_finished_reach_nobody(self) -> None:
        events = run(client(PlainTalker({"type": "CUSTOM", "name": "x", "value": 1}))).events()
        assert types(events) == WHOLE

    @pytest.mark.parametrize("text", ["boom", ""])
    def test_an_agent_that_fails_ends_its_run(self, text: str) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}
            raise RuntimeError(text)

        last = run(client(agent)).events()[-1]
        assert last["type"] == "RUN_ERROR"
        assert last["message"] == (text or "RuntimeError")


class TestInput:
    @pytest.mark.parametrize(
        ("body", "details"),
        [
            (b"", "not JSON: "),
            (b"{", "not JSON: "),
            (b"[" * 100_000, "not JSON: the JSON is nested too deeply"),
            (b"[]", "expected an object, received an array"),
            (b"null", "expected an object, received nothing"),
            (b'"x"', "expected an object, received a string"),
            (b"true", "expected an object, received a boolean"),
            (b"1.5", "expected an object, received a number"),
        ],
        ids=["empty", "broken", "deep", "array", "null", "string", "boolean", "number"],
    )
    def test_a_body_that_is_no_object_is_refused(self, body: bytes, details: str) -> None:
        answer = client().request("POST", RUN, body=body)
        assert answer.status == 400
        assert answer.json()["error"] == "Invalid request body"
        assert answer.json()["details"].startswith(details)

    @pytest.mark.parametrize(
        ("fields", "details"),
        [
            ({"threadId": 1}, "threadId: expected a string, received a number"),
            ({"runId": None}, "runId: expected a string, received nothing"),
            ({"messages": "x"}, "messages: expected an array, received a string"),
            ({"tools": None}, "tools: expected an array, received nothing"),
            ({"tools": {}}, "tools: expected an array, received an object"),
            ({"context": 1}, "context: expected an array, received a number"),
            ({"messages": [{"id": "1", "role": "nobody"}]}, "messages.0.role: expected one of "),
            ({"messages": [1]}, "messages.0: expected an object, received a number"),
            ({"tools": [{}]}, "tools.0.name: expected a string, received nothing"),
        ],
    )
    def test_a_field_that_is_wrong_is_named(self, fields: dict[str, Any], details: str) -> None:
        answer = run(client(), **fields)
        assert answer.status == 400
        assert details in answer.json()["details"]

    def test_all_wrong_fields_are_named_at_once(self) -> None:
        details = run(client(), threadId=1, tools=None).json()["details"]
        assert details.split("; ")[0].startswith("threadId: ")
        assert "tools: expected an array, received nothing" in details

    def test_values_that_were_sent_are_not_sent_back(self) -> None:
        secret = "hunter2"
        messages = [{"id": [secret], "role": "user", "content": [{"type": "text", "x": secret}]}]
        for fields in ({"messages": messages}, {"tools": secret}, {"threadId": [secret]}):
            answer = run(client(), **fields)
            assert answer.status == 400
            assert secret.encode() not in answer.body

    @pytest.mark.parametrize("path", [CONNECT, SUGGEST])
    def test_connect_and_suggest_are_as_strict(self, path: str) -> None:
        answer = client().post(path, json={"threadId": 1})
        assert answer.json()["error"] == "Invalid request body"

    def test_a_body_may_be_nested_as_deeply_as_anybody_means_to(self) -> None:
        def nested(levels: int) -> Any:
            state: Any = {}
            for _ in range(levels):
                state = {"a": [state]}
            return state

        for state in (nested(90), [nested(1)] * 200, "[" * 300):
            first = run(client(), state=state).events()[0]
            assert first["input"]["state"] == state
        for levels in (110, 400):
            answer = run(client(), state=nested(levels))
            assert answer.status == 400
            assert answer.json()["details"] == "nested deeper than 200 levels"

    def test_null_stands_for_absence_where_it_can(self) -> None:
        """Servers in other languages write it; the clients' own schema refuses it."""
        message = {"id": "u1", "role": "user", "content": "hi", "name": None}
        tool = {"name": "t", "description": "", "parameters": {"default": None}}
        props = {"a": None}
        first = run(
            client(), messages=[message], tools=[tool], forwardedProps=props, parentRunId=None
        ).events()[0]
        assert "name" not in first["input"]["messages"][0]
        assert "parentRunId" not in first["input"]
        assert first["input"]["tools"] == [tool], "in a value it is one"
        assert first["input"]["forwardedProps"] == props

    def test_members_that_are_not_the_protocols_go_no_further(self) -> None:
        message = {"id": "u1", "role": "user", "content": "hi", "_internal": 1}
        first = run(client(), messages=[message], secret=1).events()[0]
        assert first["input"]["messages"] == [{"id": "u1", "role": "user", "content": "hi"}]
        assert "secret" not in first["input"]

    def test_a_field_that_is_any_object_stays_as_it_is(self) -> None:
        plan = {"id": "a1", "role": "activity", "activityType": "plan", "content": {"steps": [1]}}
        said = {"id": "u1", "role": "user", "content": "hi", "metadata": {"any": {"x": None}}}
        agent = PlainTalker()
        first = run(client(agent), messages=[plan, said]).events()[0]
        assert first["input"]["messages"] == [plan, said]
        seen = [message.model_dump(by_alias=True) for message in agent.inputs[0].messages]
        assert seen == [plan, said]


class TestLegacyAttachments:
    """The parts of type ``binary`` that clients before AG-UI 1.0 send."""

    def content(self, part: dict[str, Any]) -> Any:
        agent = PlainTalker()
        messages = [{"id": "u1", "role": "user", "content": [{"type": "text", "text": "x"}, part]}]
        answer = run(client(agent), messages=messages)
        if answer.status != 200:
            return answer.json()["details"]
        sent = answer.events()[0]["input"]["messages"]
        assert sent == messages, "other readers get what was sent"
        seen = agent.inputs[0].messages[0].content
        assert isinstance(seen, list)
        return seen[1].model_dump(by_alias=True)

    @pytest.mark.parametrize(
        ("mime_type", "kind"),
        [
            ("image/png", "image"),
            ("IMAGE/PNG", "image"),
            ("audio/wav", "audio"),
            ("video/mp4", "video"),
            ("application/pdf", "document"),
        ],
    )
    def test_the_type_goes_by_the_media_type(self, mime_type: str, kind: str) -> None:
        part = {"type": "binary", "mimeType": mime_type, "data": "AAAA"}
        assert self.content(part) == {
            "type": kind,
            "source": {"type": "data", "value": "AAAA", "mimeType": mime_type},
        }

    def test_an_attachment_has_a_url_and_a_name(self) -> None:
        url = "https://example.com/a.png"
        part = {"type": "binary", "mimeType": "image/png", "url": url, "filename": "a.png"}
        assert self.content(part) == {
            "type": "image",
            "source": {"type": "url", "value": url, "mimeType": "image/png"},
            "metadata": {"filename": "a.png"},
        }

    def test_an_attachment_has_the_id_of_a_file(self) -> None:
        part = {"type": "binary", "mimeType": "image/png", "id": "file-1"}
        seen = self.content(part)
        # AG-UI's models before 1.0 have no other part for it.
        source = seen if seen["type"] == "binary" else seen["source"]
        assert source["mimeType"] == "image/png"
        assert source.get("id", source.get("value")) == "file-1"

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "binary", "mimeType": "image/png"},
            {"type": "binary", "mimeType": 5, "data": "AAAA"},
            {"type": "binary", "mimeType": "image/png", "data": ""},
        ],
    )
    def test_an_attachment_without_content_is_refused(self, part: dict[str, Any]) -> None:
        assert "messages.0" in self.content(part)

    def test_an_attachment_that_is_sent_both_ways_reaches_the_agent_once(self) -> None:
        def image(value: str, **source: str) -> dict[str, Any]:
            return {"type": "image", "source": {"type": "data", "value": value, **source}}

        def binary(value: str) -> dict[str, Any]:
            return {"type": "binary", "mimeType": "image/png", "data": value}

        text = {"type": "text", "text": "look"}
        png = {"mimeType": "image/png"}
        for sent, seen in (
            ([text, image("A", **png), binary("A")], ["A"]),
            ([binary("A"), text, image("A", **png)], ["A"]),
            ([image("A", mimeType="image/PNG"), binary("A")], ["A"]),
            ([image("A", **png), binary("A"), image("B", **png), binary("B")], ["A", "B"]),
            ([image("A", **png), binary("B")], ["A", "B"]),
            ([binary("A"), binary("A")], ["A", "A"]),
            ([image("A", **png), binary("A"), binary("A")], ["A", "A"]),
        ):
            agent = PlainTalker()
            messages = [{"id": "u1", "role": "user", "content": sent}]
            answer = run(client(agent), messages=messages)
            assert answer.events()[0]["input"]["messages"] == messages, "as it was sent"
            content: Any = agent.inputs[0].messages[0].content
            assert [part.source.value for part in content if part.type != "text"] == seen
            assert sum(part.type == "text" for part in content) == sent.count(text)

    def test_modern_parts_stay(self) -> None:
        source = {"type": "data", "value": "AAAA", "mimeType": "image/png"}
        part = {"type": "image", "source": source}
        assert self.content(part) == part

    def test_models_before_1_0_are_given_what_they_know(self) -> None:
        """Other things than in TestRun; all of it, with such models, is in tests/agui."""
        parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
        result = {"id": "r1", "role": "tool", "toolCallId": "c1", "content": parts}
        image = {"type": "binary", "mimeType": "image/png", "data": "AAAA"}
        user = {"id": "u1", "role": "user", "content": [image]}
        fields = run_input("t1", messages=[result, user])
        del fields["forwardedProps"]
        early = to_early_model(fields)
        assert early.messages[0].content == "one two"
        content: Any = early.messages[1].content
        assert [(part.type, part.source.value) for part in content] == [("image", "AAAA")]
        assert early.forwarded_props is None
        assert fields["messages"] == [result, user]


class TestHeaders:
    def headers(self, agent: Any = None, **options: Any) -> dict[str, str]:
        agent = agent or PlainTalker()
        body = run_input("t1")
        sent = {
            "Authorization": "Bearer x",
            "X-Tenant": "acme",
            "X-Forwarded-For": "10.0.0.1",
            "Accept": "*/*",
        }
        assert client(agent, **options).post(RUN, json=body, headers=sent).status == 200
        (context,) = agent.contexts
        return dict(context.headers)

    def test_an_agent_gets_the_headers_that_are_meant_for_it(self) -> None:
        assert self.headers() == {"authorization": "Bearer x", "x-tenant": "acme"}

    def test_a_header_that_the_server_set_on_the_agent_wins(self) -> None:
        agent = PlainTalker()
        agent.headers = {"Authorization": "Bearer server", "api-key": "k"}  # type: ignore[attr-defined]
        assert self.headers(agent) == {
            "Authorization": "Bearer server",
            "api-key": "k",
            "x-tenant": "acme",
        }

    def test_an_agent_whose_headers_are_none_leaves_no_run_behind(self) -> None:
        agent = PlainTalker()
        server = client(agent)
        # A runtime refuses an agent that has such headers when it is given.
        agent.headers = "Bearer x"  # type: ignore[attr-defined]
        assert [run(server).status, run(server).status] == [500, 500], "never 409"

    def test_the_policy_of_the_runtime_decides_what_is_forwarded(self) -> None:
        policy = ForwardHeaders(allow=["accept"])
        assert self.headers(forward_headers=policy) == {"accept": "*/*"}

    def test_the_context_has_the_agent_the_request_and_the_stop(self, talker: Talker) -> None:
        run(client(talker))
        (context,) = talker.contexts
        assert context.agent_id == "default"
        assert (context.request.method, context.request.path) == ("POST", RUN)
        assert context.stop_requested is False


class TestConnect:
    def connect(self, server: Client, after: str = "", **fields: Any) -> ClientResponse:
        headers = {"last-event-id": after} if after else {}
        return server.post(CONNECT, json=run_input("t1", "r9", **fields), headers=headers)

    def test_a_connect_in_the_middle_of_a_run_gets_its_beginning_and_follows(
        self, talker: Talker
    ) -> None:
        server = client(talker)
        live = begin(server)
        for _ in range(4):
            live.next()
        second = begin(server, "r9", CONNECT)
        assert types(second.ready()) == WHOLE[:4]
        rest = list(live)
        assert second.ready() == rest
        assert second.finish().events()[4:] == rest

    def test_a_connect_after_the_end_replays_the_compacted_run(self) -> None:
        server = client()
        run(server)
        events = self.connect(server).events()
        assert types(events) == [
            "RUN_STARTED",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "STATE_SNAPSHOT",
            "RUN_FINISHED",
        ]
        assert events[2]["delta"] == "one two three"

    def test_a_connect_gets_history_and_then_the_live_run(self) -> None:
        server = client()
        run(server, "r1")
        live = begin(server, "r2")
        live.next()
        second = begin(server, "r9", CONNECT)
        started = [e["runId"] for e in second.ready() if e["type"] == "RUN_STARTED"]
        assert started == ["r1", "r2"]

    @pytest.mark.parametrize("by", ["header", "body"])
    def test_a_reader_that_was_cut_off_gets_only_what_it_missed(self, by: str) -> None:
        server = client()
        live = begin(server)
        for _ in range(3):
            live.next_frame()
        seen = live.last_event_id
        live.close()
        if by == "header":
            answer = self.connect(server, seen)
        else:
            answer = self.connect(server, lastSeenEventId=seen)
        assert types(answer.events()) == WHOLE[3:]

    def test_the_header_wins_over_the_event_id_in_the_body(self) -> None:
        server = client()
        stream = begin(server)
        ids = []
        while (frame := stream.next_frame()) is not None:
            ids.append(frame.id)
        assert types(self.connect(server, ids[-2], lastSeenEventId=ids[0]).events()) == WHOLE[-1:]

    @pytest.mark.parametrize("seen", [5, "", None, "gone.0"])
    def test_an_event_that_nobody_knows_reads_from_the_beginning(self, seen: Any) -> None:
        server = client()
        run(server)
        assert len(self.connect(server, lastSeenEventId=seen).events()) == 6

    def test_an_unknown_thread_is_an_empty_stream(self) -> None:
        answer = self.connect(client())
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "text/event-stream"

    def test_a_reader_that_goes_does_not_stop_the_run(self, talker: Talker) -> None:
        server = client(talker)
        live = begin(server)
        live.next()
        live.close()
        assert types(self.connect(server).events()) == WHOLE


class TestStop:
    def test_a_live_run_is_stopped_well_formed(self, talker: Talker) -> None:
        server = client(talker)
        live = begin(server)
        for _ in range(3):
            live.next()
        answer = server.post(STOP)
        assert (answer.status, answer.json()) == (200, {"stopped": True, "interrupt": INTERRUPT})
        assert talker.cleaned_up == ["r1"], "it was cancelled at once"
        assert talker.contexts[0].stop_requested
        assert list(live) == [
            {"type": "TEXT_MESSAGE_END", "messageId": "r1-m"},
            {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1"},
        ]

    def test_a_run_that_has_not_begun_is_still_stopped(self, talker: Talker) -> None:
        server = client(talker)
        live = begin(server)
        assert server.post(STOP).json()["stopped"] is True
        assert types(list(live)) == ["RUN_STARTED", "RUN_FINISHED"]
        assert talker.inputs == []

    def test_a_stop_without_a_run_stops_nothing(self) -> None:
        answer = client().post(STOP)
        assert (answer.status, answer.json()) == (
            200,
            {"stopped": False, "message": "No active run for thread 't1'."},
        )

    @pytest.mark.parametrize("body", [{"runId": "r1"}, {}, None], ids=["run", "object", "nothing"])
    def test_the_run_may_be_named(self, body: Any) -> None:
        server = client()
        begin(server).next()
        assert server.post(STOP, json=body).json()["stopped"] is True

    def test_a_stop_of_another_run_stops_nothing(self) -> None:
        server = client()
        live = begin(server)
        live.next()
        assert server.post(STOP, json={"runId": "r0"}).json() == {
            "stopped": False,
            "message": "Run 'r0' is not the active run for thread 't1'.",
        }
        assert types(list(live)) == WHOLE[1:]

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ("{", "Invalid stop request"),
            ("[]", "Invalid stop request"),
            ('{"other":1}', "Invalid stop request"),
            ('{"runId":"r1","other":1}', "Invalid stop request"),
            ('{"runId":""}', "Invalid runId"),
            ('{"runId":" "}', "Invalid runId"),
            ('{"runId":5}', "Invalid runId"),
            ('{"runId":null}', "Invalid runId"),
        ],
    )
    def test_a_body_that_is_no_request_to_stop(self, body: str, error: str) -> None:
        answer = client().request("POST", STOP, body=body)
        assert (answer.status, answer.json()) == (400, {"error": error})

    def test_white_space_is_no_body(self) -> None:
        assert client().request("POST", STOP, body=" \n").status == 200

    def test_a_thread_runs_again_after_a_stop(self, talker: Talker) -> None:
        server = client(talker)
        begin(server).next()
        server.post(STOP)
        assert server.post(STOP).json()["stopped"] is False
        assert types(run(server, "r2").events()) == WHOLE

    def test_a_run_that_has_its_end_is_not_stopped_twice(self) -> None:
        server = client()
        run(server)
        assert server.post(STOP).json()["stopped"] is False

    def test_the_id_of_a_thread_may_have_any_character(self) -> None:
        server = client()
        stream = server.stream("POST", RUN, json=run_input("a/b ü"))
        stream.next()
        answer = server.post(f"{BASE}/agent/default/stop/a%2Fb%20%C3%BC")
        assert answer.json()["stopped"] is True


class TestSuggest:
    def test_a_suggestion_stores_nothing(self) -> None:
        server = client()
        answer = server.post(SUGGEST, json=run_input("t1"))
        assert types(answer.events()) == WHOLE
        assert server.get(f"{BASE}/threads").json()["threads"] == []
        assert server.post(CONNECT, json=run_input("t1")).body == b""

    def test_the_frames_of_a_suggestion_cannot_be_resumed_and_carry_no_input(self) -> None:
        stream = begin(client(), path=SUGGEST)
        frame = stream.next_frame()
        assert frame is not None
        assert frame.id == ""
        assert "input" not in json.loads(frame.data)

    def test_a_suggestion_and_a_run_of_the_thread_do_not_meet(self) -> None:
        server = client()
        live = begin(server)
        live.next()
        assert types(server.post(SUGGEST, json=run_input("t1", "s1")).events()) == WHOLE
        suggesting = begin(server, "s2", SUGGEST)
        suggesting.next()
        assert types(list(live)) == WHOLE[1:]
        assert server.post(STOP).json()["stopped"] is False
        assert types(list(suggesting)) == WHOLE[1:]

    def test_a_suggestion_dies_with_its_client(self, talker: Talker) -> None:
        server = client(talker)
        suggesting = begin(server, path=SUGGEST)
        suggesting.next()
        suggesting.close()
        assert talker.cleaned_up == ["r1"]
        assert not server.step()

    def test_an_agent_that_fails_ends_a_suggestion_well_formed(self) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}
            raise RuntimeError("boom")

        answer = client(agent).post(SUGGEST, json=run_input("t1"))
        assert types(answer.events()) == ["RUN_STARTED", "RUN_ERROR"]


class TestInfo:
    def info(self, agents: Any, **options: Any) -> dict[str, Any]:
        answer = Client(CopilotRuntime(agents, **options)).get(f"{BASE}/info")
        assert answer.status == 200
        value: dict[str, Any] = answer.json()
        return value

    def agent_with(self, capabilities: Any) -> Any:
        agent = PlainTalker()
        agent.capabilities = capabilities  # type: ignore[attr-defined]
        return agent

    def test_info_answers_with_all_that_a_client_asks_for(self) -> None:
        agent = PlainTalker()
        agent.description = "Says three words."  # type: ignore[attr-defined]
        endpoints = {"list": True, "inspect": True, "mutations": False, "realtimeMetadata": False}
        assert self.info({"default": agent}) == {
            "version": __version__,
            "agents": {
                "default": {
                    "name": "default",
                    "description": "Says three words.",
                    "className": "PlainTalker",
                }
            },
            "audioFileTranscriptionEnabled": False,
            "mode": "sse",
            "threadEndpoints": endpoints,
            "suggestions": True,
            "a2uiEnabled": False,
            "openGenerativeUIEnabled": False,
            "telemetryDisabled": True,
        }

    @pytest.mark.parametrize(
        ("a2ui", "said"),
        [
            (False, {"a2uiEnabled": False}),
            ([], {"a2uiEnabled": False}),
            (True, {"a2uiEnabled": True, "a2ui": {"enabled": True}}),
            (["ui"], {"a2uiEnabled": True, "a2ui": {"enabled": True, "agents": ["ui"]}}),
        ],
    )
    def test_info_has_the_settings_of_a2ui(self, a2ui: Any, said: dict[str, Any]) -> None:
        info = Client(CopilotRuntime({}, a2ui=a2ui)).get(f"{BASE}/info").json()
        assert {name: value for name, value in info.items() if name.startswith("a2ui")} == said

    def test_info_has_the_settings_of_open_generative_ui(self) -> None:
        info = Client(CopilotRuntime({}, open_generative_ui=True)).get(f"{BASE}/info").json()
        assert info["openGenerativeUIEnabled"] is True

    def test_info_in_single_route_mode_names_threads_a_resource(self) -> None:
        single = Client(CopilotRuntime({}, mode="single-route"))
        value = single.post(BASE, json={"method": "info"}).json()
        assert not any(value["threadEndpoints"].values())
        assert value["singleRoute"] == {
            "resourceOperations": True,
            "threadEndpoints": {
                "list": True,
                "inspect": True,
                "mutations": False,
                "realtimeMetadata": False,
            },
        }

    def test_info_lists_no_agents_where_there_are_none(self) -> None:
        assert self.info({})["agents"] == {}

    def test_a_function_has_its_name_and_no_description(self) -> None:
        def my_agent(input: Any, context: Any) -> Iterator[Any]:
            return iter(())

        described = self.info({"a": my_agent})["agents"]["a"]
        assert described == {"name": "a", "description": "", "className": "my_agent"}

    @pytest.mark.parametrize("description", [None, ""])
    def test_an_agent_without_a_description_has_an_empty_one(self, description: Any) -> None:
        agent = PlainTalker()
        agent.description = description  # type: ignore[attr-defined]
        assert self.info({"a": agent})["agents"]["a"]["description"] == ""

    def test_capabilities_are_a_mapping_or_a_function_plain_or_async(self) -> None:
        given = {"tools": {"supported": True}}

        def plain() -> Any:
            return given

        async def coroutine() -> Any:
            return given

        agents = {
            "mapping": self.agent_with(given),
            "plain": self.agent_with(plain),
            "async": self.agent_with(coroutine),
            "model": self.agent_with(AgentCapabilities.model_validate(given)),
            "function of a model": self.agent_with(lambda: AgentCapabilities.model_validate(given)),
        }
        for name, described in self.info(agents)["agents"].items():
            assert described["capabilities"] == given, name

    @pytest.mark.parametrize("nothing", [None, {}, lambda: None])
    def test_an_agent_without_capabilities_has_no_such_member(self, nothing: Any) -> None:
        assert "capabilities" not in self.info({"a": self.agent_with(nothing)})["agents"]["a"]

    def test_an_agent_whose_capabilities_fail_does_not_hide_the_others(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> Any:
            raise RuntimeError("no answer")

        async def fail_later() -> Any:
            raise RuntimeError("no answer")

        caplog.set_level(logging.WARNING, "sansio_copilot")
        agents = {
            "fails": self.agent_with(fail),
            "fails later": self.agent_with(fail_later),
            "wrong": self.agent_with(lambda: ["tools"]),
            "deep": self.agent_with(json.loads('{"a":' * 201 + "{}" + "}" * 201)),
            "works": self.agent_with({"tools": {"supported": True}}),
        }
        described = self.info(agents)["agents"]
        assert [name for name in described if "capabilities" in described[name]] == ["works"]
        assert [record.message for record in caplog.records] == [
            f"agent {name!r} failed to report its capabilities"
            for name in ("fails", "fails later", "wrong", "deep")
        ]


class TestAgentsFunction:
    @pytest.fixture(params=["plain", "async"])
    def agents(self, request: pytest.FixtureRequest) -> Callable[[Request], Any]:
        def pick(asked: Request) -> Any:
            tenant = asked.headers.get("x-tenant", "none")
            if tenant == "broken":
                raise RuntimeError("password=hunter2")
            if tenant == "rubbish":
                return ["not a mapping"]
            if tenant == "half":
                return {"a": 5}
            return MappingProxyType({tenant: PlainTalker()})

        async def pick_later(asked: Request) -> Any:
            return pick(asked)

        return pick if request.param == "plain" else pick_later

    def test_each_tenant_has_agents_of_its_own(self, agents: Callable[[Request], Any]) -> None:
        server = Client(CopilotRuntime(agents))
        answer = server.get(f"{BASE}/info", headers={"x-tenant": "acme"})
        assert list(answer.json()["agents"]) == ["acme"]
        path = f"{BASE}/agent/acme/run"
        assert server.post(path, json=run_input("t1")).status == 404
        headers = {"x-tenant": "acme"}
        assert types(server.post(path, json=run_input("t1"), headers=headers).events()) == WHOLE

    @pytest.mark.parametrize(
        ("tenant", "reason"),
        [
            ("broken", "hunter2"),
            ("rubbish", "agents is a mapping from id to agent, not list"),
            ("half", "agent 'a' is neither callable nor has a method run"),
        ],
    )
    def test_a_failure_of_the_agents_function_is_told_to_on_error(
        self,
        agents: Callable[[Request], Any],
        tenant: str,
        reason: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.ERROR, "sansio_copilot")
        headers = {"x-tenant": tenant}
        answer = Client(CopilotRuntime(agents)).get(f"{BASE}/info", headers=headers)
        assert (answer.status, answer.json()) == (500, {"error": "internal_error"})
        assert reason in caplog.text

        hooks = Hooks(on_error=lambda context: Response.json({"error": "tenant"}, 503))
        answer = Client(CopilotRuntime(agents, hooks=hooks)).get(f"{BASE}/info", headers=headers)
        assert (answer.status, answer.json()) == (503, {"error": "tenant"})


class TestThreads:
    def test_the_last_updated_thread_comes_first_with_times_of_the_clock(self) -> None:
        server = client()
        run(server, "r1", "older")
        server.now += 1.5
        run(server, "r2", "newer")
        answer = server.get(f"{BASE}/threads").json()
        assert answer["nextCursor"] is None
        assert answer["threads"] == [
            {
                "id": name,
                "name": None,
                "agentId": "default",
                "organizationId": "",
                "createdById": "",
                "archived": False,
                "createdAt": time,
                "updatedAt": time,
            }
            for name, time in [
                ("newer", "2023-11-14T22:13:21.500Z"),
                ("older", "2023-11-14T22:13:20.000Z"),
            ]
        ]

    def test_another_run_updates_a_thread(self) -> None:
        server = client()
        run(server, "r1", "a")
        server.now += 60
        run(server, "r2", "b")
        server.now += 60
        run(server, "r3", "a")
        threads = server.get(f"{BASE}/threads").json()["threads"]
        assert [thread["id"] for thread in threads] == ["a", "b"]
        assert threads[0]["createdAt"] < threads[0]["updatedAt"]

    def test_a_thread_without_history_is_not_listed(self) -> None:
        server = client()
        begin(server).next()
        assert server.get(f"{BASE}/threads").json()["threads"] == []

    def test_threads_are_listed_by_agent(self) -> None:
        server = Client(CopilotRuntime({"a b": PlainTalker(), "c": PlainTalker()}))
        server.post(f"{BASE}/agent/a%20b/run", json=run_input("t1"))
        server.post(f"{BASE}/agent/c/run", json=run_input("t2"))

        def listed(query: str) -> list[str]:
            threads = server.get(f"{BASE}/threads{query}").json()["threads"]
            return [thread["id"] for thread in threads]

        assert listed("?agentId=a%20b") == listed("?agentId=a+b") == ["t1"]
        assert listed("?agentId=nope") == []
        assert sorted(listed("?agentId=")) == sorted(listed("")) == ["t1", "t2"]

    def test_messages_have_the_shape_of_the_reference(self) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            call = {"toolCallId": "c1"}
            yield {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}
            yield {
                "type": "TOOL_CALL_START",
                **call,
                "toolCallName": "look",
                "parentMessageId": "a",
            }
            yield {"type": "TOOL_CALL_ARGS", **call, "delta": '{"at":"it"}'}
            yield {"type": "TOOL_CALL_END", **call}
            yield {"type": "TOOL_CALL_RESULT", **call, "messageId": "r", "content": "seen"}
            yield {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1"}

        server = client(agent)
        run(server, messages=[{"id": "u", "role": "user", "content": "look", "name": "ada"}])
        assert server.get(f"{BASE}/threads/t1/messages").json()["messages"] == [
            {"id": "u", "role": "user", "content": "look"},
            {
                "id": "a",
                "role": "assistant",
                "toolCalls": [{"id": "c1", "name": "look", "args": '{"at":"it"}'}],
            },
            {"id": "r", "role": "tool", "content": "seen", "toolCallId": "c1"},
        ]

    def test_events_are_what_a_connect_replays(self) -> None:
        server = client()
        run(server)
        answer = server.get(f"{BASE}/threads/t1/events")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["events"] == server.post(CONNECT, json=run_input("t1")).events()

    def test_the_state_of_a_thread_is_told(self) -> None:
        server = client()
        run(server)
        assert server.get(f"{BASE}/threads/t1/state").json() == {"state": {"said": 3}}

    def test_a_thread_that_nobody_knows_is_empty(self) -> None:
        thread = f"{BASE}/threads/nope"
        assert client().get(f"{thread}/messages").json() == {"messages": []}
        assert client().get(f"{thread}/events").json() == {"events": []}
        assert client().get(f"{thread}/state").json() == {"state": None}

    def test_clear_forgets_all_but_live_runs(self) -> None:
        server = client()
        run(server, "r1", "t2")
        live = begin(server)
        live.next()
        answer = server.post(f"{BASE}/threads/clear")
        assert (answer.status, answer.body) == (204, b"")
        assert server.get(f"{BASE}/threads").json()["threads"] == []
        assert types(list(live)) == WHOLE[1:]
        assert len(server.get(f"{BASE}/threads").json()["threads"]) == 1


class TestPlatform:
    """Routes that need the hosted platform have one answer each."""

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PATCH", "/threads/t1"),
            ("DELETE", "/threads/t1"),
            ("POST", "/threads/t1/archive"),
            ("POST", "/threads/subscribe"),
        ],
    )
    def test_threads_cannot_be_changed_without_the_platform(self, method: str, path: str) -> None:
        answer = client().request(method, BASE + path, body=b"{}")
        assert answer.status == 422
        assert "Thread operations require a CopilotKitIntelligence" in answer.json()["error"]

    def test_annotate_needs_the_platform(self) -> None:
        answer = client().post(f"{BASE}/annotate", json={})
        assert answer.status == 422
        assert "annotate requires a CopilotKitIntelligence" in answer.json()["error"]

    def test_inspector_metadata_is_empty_and_not_kept(self) -> None:
        answer = client().get(f"{BASE}/inspector-metadata")
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["cache-control"] == "no-store, private"
        assert "content-length" not in answer.headers

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/memories"),
            ("PUT", "/memories"),
            ("POST", "/memories/recall"),
            ("GET", "/inspector-learning"),
        ],
    )
    def test_routes_that_a_self_hosted_runtime_does_not_have(self, method: str, path: str) -> None:
        answer = client().request(method, BASE + path)
        assert (answer.status, answer.json()) == (404, {"error": "Not found"})


def test_every_route_has_an_endpoint() -> None:
    paths = {
        "info", "inspector-metadata", "inspector-learning", "transcribe", "cpk-debug-events",
        "agent/a/run", "agent/a/suggest", "agent/a/connect", "agent/a/stop/t", "threads",
        "threads/subscribe", "threads/t/messages", "threads/t/events", "threads/t/state",
        "threads/t/archive", "threads/clear", "threads/t", "annotate",
    }  # fmt: skip
    routes = {match_path(f"/{path}", None) for path in paths}
    assert {route.name for route in routes if route} == DISPATCH.keys()


class TestUnrouted:
    def test_the_log_tells_a_wrong_base_path(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, "sansio_copilot")
        assert client().get("/api/copilot/info").json() == {"error": "Not found"}
        assert caplog.messages == [
            "no route for GET /api/copilot/info; the base path is '/api/copilotkit'"
        ]

    def test_an_envelope_in_multi_route_mode_is_told_so(self) -> None:
        answer = client().post(BASE, json={"method": "info"})
        assert answer.status == 404
        assert answer.json()["code"]
        assert "single-route" in answer.json()["message"]

    @pytest.mark.parametrize("path", ["/elsewhere", f"{BASE}/nope", f"{BASE}x", "/api"])
    def test_an_envelope_elsewhere_is_told_of_the_base_path(
        self, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "sansio_copilot")
        answer = client().post(path, json={"method": "info"})
        assert (answer.status, answer.json()) == (404, {"error": "Not found"})
        assert caplog.messages[0].endswith("; the base path is '/api/copilotkit'")

    @pytest.mark.parametrize("path", [BASE, BASE + "/"])
    def test_the_log_names_the_mode_that_takes_an_envelope(
        self, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "sansio_copilot")
        answer = client().post(path, json={"method": "info"})
        assert 'mode="both"' in answer.json()["message"]
        assert "a runtime made with mode='both' takes" in caplog.messages[0]

    def test_any_path_may_be_the_base_path_if_none_is_known(self) -> None:
        anywhere = client(base_path=None)
        assert anywhere.post("/my/page", json={"method": "info"}).json()["code"]

    GRAPHQL: ClassVar[dict[str, Any]] = {
        "operationName": "generateCopilotResponse",
        "query": "mutation generateCopilotResponse($data: Input!) { generate(data: $data) { id } }",
        "variables": {"data": {"messages": []}},
    }

    @pytest.mark.parametrize("mode", ["multi-route", "both", "single-route"])
    @pytest.mark.parametrize("text", ["query hello { hello }", " \n{ hello }", None])
    def test_a_client_that_speaks_graphql_is_told_so(
        self, mode: str, text: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "sansio_copilot")
        sent = self.GRAPHQL if text is None else {"query": text}
        answer = client(mode=mode).post(BASE, json=sent)
        if mode == "multi-route":
            assert (answer.status, answer.json()["code"]) == (404, "graphql_request")
            assert "GraphQL" in caplog.messages[0]
        else:
            assert (answer.status, answer.json()["error"]) == (400, "invalid_request")
        assert "Upgrade the @copilotkit packages" in answer.json()["message"]

    def test_a_client_with_graphql_in_its_query_string_is_told_so(self) -> None:
        answer = client().get(f"{BASE}?query=query%20availableAgents%20%7Bid%7D&variables=%7B%7D")
        assert answer.json()["code"] == "graphql_request"
        assert client().get(f"{BASE}?query=pizza").json() == {"error": "Not found"}

    @pytest.mark.parametrize("sent", [{"query": 5}, {"query": "pizza"}, ["query"], "{", {"a": 1}])
    def test_other_json_is_no_graphql(self, sent: Any) -> None:
        assert client().post(BASE, json=sent).json() == {"error": "Not found"}
        message = client(mode="both").post(BASE, json=sent).json()["message"]
        assert message == "Missing method field"

    def test_other_json_is_no_envelope(self) -> None:
        assert client().post(BASE, json={"method": "nope"}).json() == {"error": "Not found"}

    def test_single_route_mode_is_one_place(self) -> None:
        single = client(mode="single-route")
        assert single.post("/elsewhere", json={"method": "info"}).status == 404
        answer = single.get(BASE)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")

    def test_both_modes_are_served_at_once_with_the_same_answers(self) -> None:
        both = client(mode="both")
        assert both.get(f"{BASE}/info").json() == both.post(BASE, json={"method": "info"}).json()
        info = both.get(f"{BASE}/info").json()
        assert info["threadEndpoints"]["list"] is True
        assert info["singleRoute"]["resourceOperations"] is True
        assert types(run(both).events()) == WHOLE
        envelope = {
            "method": "agent/connect",
            "params": {"agentId": "default"},
            "body": run_input("t1", "r9"),
        }
        replayed = both.post(CONNECT, json=run_input("t1", "r9")).body
        for path in (BASE, BASE + "/"):
            assert both.post(path, json=envelope).body == replayed != b""
        params = {"path": "/threads", "httpMethod": "GET"}
        listed = both.post(BASE, json={"method": "resource/request", "params": params}).json()
        assert listed == both.get(f"{BASE}/threads").json()

    def test_both_modes_keep_to_their_places(self) -> None:
        both = client(mode="both")
        envelope = {"method": "info"}
        for path in ("/elsewhere", f"{BASE}/nope"):
            assert both.post(path, json=envelope).json() == {"error": "Not found"}
        assert both.get(f"{BASE}/nope").status == 404
        assert both.post(f"{BASE}/info", json=envelope).status == 405
        answer = both.get(BASE)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert both.request("POST", BASE, body="{}").status == 415

    def test_both_modes_are_served_at_any_path_if_there_is_no_base_path(self) -> None:
        both = client(mode="both", base_path=None)
        for prefix in ("", "/a", "/a/b"):
            path = prefix or "/"
            assert both.get(f"{prefix}/info").status == 200
            assert both.post(path, json={"method": "info"}).status == 200
            assert both.get(path).json() == {"error": "Not found"}

    @pytest.mark.parametrize("coding", ["gzip", "GZIP", "br, gzip", "identity, gzip", "x" * 999])
    @pytest.mark.parametrize("path", [RUN, CONNECT, STOP, f"{BASE}/transcribe", BASE])
    @pytest.mark.parametrize("mode", ["multi-route", "single-route"])
    def test_a_compressed_body_is_not_read(self, mode: str, path: str, coding: str) -> None:
        headers = {"content-encoding": coding, "content-type": "application/json"}
        answer = client(mode=mode).request("POST", path, body=b"\x1f\x8b", headers=headers)
        assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
        assert "Content-Encoding" in answer.json()["message"]
        assert len(answer.body) < 500

    @pytest.mark.parametrize("coding", ["identity", "Identity", ""])
    def test_a_body_that_is_not_compressed_is_read(self, coding: str) -> None:
        body = json.dumps(run_input("t1"))
        headers = {"content-encoding": coding}
        assert client().request("POST", RUN, body=body, headers=headers).status == 200

    def test_a_hook_may_decompress_a_body(self) -> None:
        def decompress(context: HookContext) -> Request:
            return context.request.with_body(json.dumps(run_input("t1")).encode())

        server = client(hooks=Hooks(on_request=decompress))
        headers = {"content-encoding": "gzip"}
        assert server.request("POST", RUN, body=b"\x1f\x8b", headers=headers).status == 200

    def test_a_resource_that_takes_another_method_names_it(self) -> None:
        params = {"path": "/threads", "httpMethod": "PUT"}
        answer = client(mode="single-route").post(
            BASE, json={"method": "resource/request", "params": params}
        )
        assert (answer.status, answer.headers["allow"]) == (405, "GET")

    def test_an_envelope_without_a_parameter_is_refused_by_its_name(self) -> None:
        answer = client(mode="single-route").post(BASE, json={"method": "agent/run"})
        assert answer.status == 400
        assert answer.json() == {
            "error": "invalid_request",
            "message": "Missing or invalid parameter 'agentId'",
        }


def test_a_body_that_other_readers_could_not_read_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Inputs are refused that the walk over a body takes, and the schemas of clients do not."""

    def refuse(run_input: dict[str, Any]) -> dict[str, Any]:
        raise EventError("messages[0].id: expected a string, it is missing")

    monkeypatch.setattr("sansio_copilot.endpoints.run_input.normalize_input", refuse)
    answer = Client(CopilotRuntime({"default": Talker().events})).post(RUN, json=run_input("t1"))
    assert answer.status == 400
    assert answer.json()["details"] == "messages[0].id: expected a string, it is missing"


class Approved:
    """Asks once for an approval, and then notes what the thread knows of the answers it is given.

    :param end: the events behind RUN_STARTED of a run that has an answer.
    """

    def __init__(self, *end: dict[str, Any]) -> None:
        self.end = end
        self.statuses: list[str | None] = []

    def run(self, input: RunAgentInput, context: AgentContext) -> Iterator[dict[str, Any]]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        finished = {"type": "RUN_FINISHED", **ids}
        assert context.interrupts is not None
        self.statuses += [context.interrupts.status(one.interrupt_id) for one in input.resume or ()]
        yield {"type": "RUN_STARTED", **ids}
        if input.resume:
            yield from self.end or (finished,)
        else:
            asked = [{"id": "i", "reason": "approval"}]
            yield {**finished, "outcome": {"type": "interrupt", "interrupts": asked}}


ANSWER = {"interruptId": "i", "status": "resolved", "payload": True}
BROKEN = {"type": "RUN_ERROR", "message": "no"}


def answered(agent: Approved, runs: int) -> list[str | None]:
    """The statuses of the interrupt in so many runs that answer it."""
    made = Client(CopilotRuntime({"default": agent}))
    made.post(RUN, json=run_input("t1", "r"))
    for number in range(runs):
        made.post(RUN, json=run_input("t1", f"r{number}", resume=[ANSWER]))
    return agent.statuses


class TestInterrupts:
    def test_an_interrupt_is_open_until_it_is_answered(self) -> None:
        assert answered(Approved(), 3) == ["open", None, None]

    def test_an_interrupt_that_a_failed_run_was_given_the_answer_to_is_answered(self) -> None:
        assert answered(Approved(BROKEN), 3) == ["open", "answered", "answered"]

    def test_a_run_whose_thread_was_deleted_knows_no_interrupt(self) -> None:
        agent, store = Approved(), MemoryStore()
        made = Client(CopilotRuntime({"default": agent}, store=store))
        made.post(RUN, json=run_input("t1", "r"))
        assert store.delete_thread("t1") is True
        made.post(RUN, json=run_input("t1", "r1", resume=[ANSWER]))
        assert agent.statuses == [None]

    def test_two_answers_at_once_find_one_open_interrupt_where_runs_supersede(self) -> None:
        agent = Approved({"type": "CUSTOM", "name": "acts", "value": 0})
        store = MemoryStore(on_concurrent_run="supersede")
        made = Client(CopilotRuntime({"default": agent}, store=store))
        made.post(RUN, json=run_input("t1", "r"))
        first = made.stream("POST", RUN, json=run_input("t1", "r1", resume=[ANSWER]))
        assert first.next()["type"] == "RUN_STARTED"
        second = made.stream("POST", RUN, json=run_input("t1", "r2", resume=[ANSWER]))
        assert second.next()["type"] == "RUN_STARTED"
        assert agent.statuses == ["open", None]

    def test_the_interrupts_of_a_list_of_threads_are_marked_if_they_were_answered(self) -> None:
        made = Client(CopilotRuntime({"default": Approved(BROKEN)}))
        made.post(RUN, json=run_input("t1", "r"))
        made.post(RUN, json=run_input("t1", "r1", resume=[ANSWER]))
        (thread,) = made.get(f"{BASE}/threads?waiting=true").json()["threads"]
        told = [{"id": "i", "reason": "approval", "answered": True}]
        assert thread["waitsFor"] == {"interrupts": told, "toolCalls": []}
