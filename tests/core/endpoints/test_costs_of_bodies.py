"""Costs of a body: an answer or a log line does not grow with it, memory only linearly."""

from __future__ import annotations

import json
import logging
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sansio_copilot import CopilotRuntime, Hooks, Limits, json_codec
from sansio_copilot.endpoints.run_input import parse_input
from sansio_copilot.http.refusals import Refusal
from sansio_copilot.testing import Client, ClientResponse, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"
JSON = {"content-type": "application/json"}
ANSWER = 4096
"""No error answer is longer, in bytes, and no log line, in characters."""
SIZE = 128 * 1024


def quiet(input: Any, context: Any) -> Iterator[Any]:
    return iter(())


def client(mode: Any = "multi-route", values: float = 10**9, **options: Any) -> Client:
    limits = Limits(body_values=values)  # type: ignore[arg-type]
    return Client(CopilotRuntime({"default": quiet}, mode=mode, limits=limits, **options))


def filled(element: str, size: int = SIZE) -> str:
    """An array of so many bytes."""
    return "[" + ",".join([element] * (size // (len(element) + 1))) + "]"


def body(**members: str) -> bytes:
    """A run's body, some members of which are given as their text."""
    texts = {name: json.dumps(value) for name, value in run_input("t").items()} | members
    return ("{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}").encode()


def user(content: str) -> str:
    return f'{{"id":"1","role":"user","content":{content}}}'


def assistant(calls: str) -> str:
    return f'{{"id":"1","role":"assistant","toolCalls":{calls}}}'


LISTS = ("messages", "tools", "context", "resume")
NONSENSE = ("0", "[]", '"secret"', "null", "{}", '{"role":"secret"}', '{"secret":{"secret":[0]}}')
PARTS = (
    *(
        "0",
        "{}",
        '{"type":"secret"}',
        '{"type":"text"}',
        '{"type":"binary"}',
        '{"type":["secret"]}',
    ),
    *('{"type":"image","source":{"type":"secret"}}', '{"type":"text","text":{"secret":[]}}'),
)
CALLS = ("0", "{}", '{"id":1,"function":0}', '{"id":"1","type":"secret","function":{"name":[]}}')
LONG = '"' + "secret" * (SIZE // 6) + '"'
NAMES = "{" + ",".join(f'"secret{number}":0' for number in range(SIZE // 14)) + "}"

WRONG: dict[str, bytes] = {
    **{f"{name} of {bad}": body(**{name: filled(bad)}) for name in LISTS for bad in NONSENSE},
    **{f"parts {bad}": body(messages=f"[{user(filled(bad))}]") for bad in PARTS},
    **{f"calls {bad}": body(messages=f"[{assistant(filled(bad))}]") for bad in CALLS},
    **{f"messages with parts {bad}": body(messages=filled(user(f"[{bad}]"))) for bad in PARTS},
    "names": NAMES.encode(),
    "names in a message": body(messages=f"[{NAMES}]"),
    "messages with names": body(
        messages=filled('{"role":"user","secret":1,"name":2,"metadata":3}')
    ),
    "a long id": body(threadId=LONG),
    "a long role": body(messages=f'[{{"id":"1","role":{LONG}}}]'),
    "a long type": body(messages="[" + user(f'[{{"type":{LONG}}}]') + "]"),
    "a long status": body(resume=f'[{{"interruptId":"1","status":{LONG}}}]'),
    "a string for a list": body(tools=LONG),
    "a deep state": body(state=filled("[" * 250 + "]" * 250)),
    "a number": b"9" * SIZE,
    "no JSON": b"[" + b"{" * 100 + b'"secret' * (SIZE // 7),
    "too deep": b"[" * SIZE,
}


def peak(call: Callable[[], Any]) -> int:
    """Return how many bytes more than before ``call`` holds at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestWrongBodies:
    @pytest.mark.parametrize("sent", WRONG.values(), ids=WRONG.keys())
    def test_the_answer_is_short_and_has_nothing_of_the_input(self, sent: bytes) -> None:
        answer = client().request("POST", RUN, body=sent)
        assert answer.status == 400
        assert answer.json()["error"] == "Invalid request body"
        assert len(answer.body) < ANSWER
        assert b"secret" not in answer.body

    @pytest.mark.untraced
    @pytest.mark.parametrize("sent", WRONG.values(), ids=WRONG.keys())
    def test_a_wrong_body_takes_no_more_than_its_values_do(self, sent: bytes) -> None:
        def value() -> Any:
            try:
                return json_codec.decode(sent)
            except ValueError:
                return None

        server = client()
        least = peak(value)
        assert peak(lambda: server.request("POST", RUN, body=sent)) < 1.5 * least + 512 * 1024

    def test_the_first_problems_are_named_and_how_much_is_left(self) -> None:
        sent = body(messages=json.dumps([0, 1, {"role": "user"}, *[None] * 1000]))
        details = client().request("POST", RUN, body=sent).json()["details"]
        assert details.split("; ") == [
            "messages.0: expected an object, received a number",
            "messages.1: expected an object, received a number",
            "messages.2.id: expected a string, received nothing",
            "messages.2.content: expected a string or an array, received nothing",
            "messages.3: expected an object, received nothing",
            "and more: validation ended there, 999 elements are unchecked",
        ]

    def test_a_list_that_is_unchecked_counts_too(self) -> None:
        sent = body(messages="[" + user("[0,0,0,0,0,0,0]") + ",1,2]")
        details = client().request("POST", RUN, body=sent).json()["details"]
        assert details.startswith("messages.0.content.0: expected an object, received a number; ")
        assert details.endswith(", 4 elements are unchecked"), "two parts and two messages"

    @pytest.mark.parametrize(
        ("field", "value", "problem"),
        [
            ("threadId", "x" * 1025, "threadId: expected at most 1024 characters, received 1025"),
            ("runId", "x" * 1025, "runId: expected at most 1024 characters, received 1025"),
            ("state", {"a": 1}, None),
            ("threadId", "x" * 1024, None),
            (
                "resume",
                [{"interruptId": "1", "status": "maybe"}],
                "resume.0.status: expected one of 'resolved', 'cancelled', received another string",
            ),
            ("resume", [{"interruptId": "1", "status": "resolved", "payload": None}], None),
            ("tools", [{"name": "a", "description": "", "metadata": 1}], "tools.0.metadata: expec"),
            (
                "messages",
                [{"id": "1", "role": "activity", "activityType": "a", "content": "x"}],
                "messages.0.content: expected an object, received a string",
            ),
            (
                "messages",
                [{"id": "1", "role": "user", "content": [{"type": "binary", "mimeType": "a/b"}]}],
                "messages.0.content.0: expected data, url or id",
            ),
        ],
    )
    def test_a_wrong_field_is_named_and_a_right_one_is_taken(
        self, field: str, value: Any, problem: Any
    ) -> None:
        answer = client().post(RUN, json=run_input("t") | {field: value})
        assert (answer.json()["details"] if answer.status == 400 else "").startswith(problem or "")
        assert (answer.status == 200) == (problem is None)

    def test_a_refusal_by_older_models_is_a_short_answer_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The models of an earlier release of ag-ui-protocol are an example."""

        class Strict:
            model_validate = TypeAdapter(dict[str, int]).validate_python

        monkeypatch.setattr("sansio_copilot.endpoints.run_input.RunAgentInput", Strict)
        answer = client().post(RUN, json=run_input("t"))
        assert answer.status == 400
        assert re.fullmatch(
            r"the server's AG-UI models refuse it, for \d reasons", answer.json()["details"]
        )


# The inputs have AG-UI's shape, and are wrong here and there.
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
ANY = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
KEYS = st.sampled_from(
    (
        *("id", "role", "content", "name", "toolCalls", "toolCallId", "type", "text", "source"),
        *("value", "mimeType", "function", "arguments", "activityType", "metadata", "description"),
        *("parameters", "interruptId", "status", "payload", "data", "encryptedValue"),
    )
)
TAGS = st.sampled_from(
    (
        *("user", "assistant", "tool", "system", "developer", "activity", "reasoning", "text"),
        *("image", "document", "binary", "data", "url", "file", "function", "resolved"),
    )
)
OBJECTS = st.recursive(
    ANY | TAGS,
    lambda inner: st.dictionaries(KEYS, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=12,
)
INPUTS = st.fixed_dictionaries({name: st.lists(OBJECTS, max_size=2) for name in LISTS})


@given(INPUTS)
def test_an_input_that_the_walk_lets_through_is_taken_by_the_models(fields: dict[str, Any]) -> None:
    """The models' own errors, which may be many, would come after all if they refused more."""
    try:
        parse_input(run_input("t") | fields)
    except Refusal as refusal:
        answer = refusal.response.body
    else:
        answer = b""
    assert b"models" not in answer


def count(value: Any) -> tuple[int, int]:
    """Return how many values there are, and how many of them are empty arrays and objects."""
    if not isinstance(value, (list, dict)):
        return 1, 0
    inner = list(value.values()) if isinstance(value, dict) else value
    counts = [count(item) for item in inner]
    return 1 + sum(n for n, _ in counts), sum(n for _, n in counts) + (not inner)


VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from(',[{"\\a\n')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('",[{\\')), inner),
)


class TestCounting:
    @given(VALUES, st.sampled_from([None, 1]))
    def test_values_are_counted_without_being_made(self, value: Any, indent: int | None) -> None:
        text = json.dumps(value, indent=indent).encode()
        values, empty = count(value)
        assert not json_codec.has_more_values(text, values + empty)
        assert json_codec.has_more_values(text, values - 1)

    @pytest.mark.parametrize("element", ["0", '","', '"\\\\"', '"\\\\\\"[,"', "[0]", '{"a,":0}'])
    @pytest.mark.parametrize("length", [1, 999, 1000, 1001, 12_345])
    def test_lists_of_any_length_are_counted(self, element: str, length: int) -> None:
        text = f"[{','.join([element] * length)}]".encode()
        values, _ = count(json.loads(text))
        assert not json_codec.has_more_values(text, values)
        assert json_codec.has_more_values(text, values - 1)

    @pytest.mark.parametrize("text", [b'"' + b"," * 5000, b'"\\', b"," * 10 + b'"' * 5001])
    def test_a_string_that_does_not_end(self, text: bytes) -> None:
        assert not json_codec.has_more_values(text, 11)

    @given(st.binary())
    def test_bytes_have_no_more_values_than_their_length(self, data: bytes) -> None:
        assert not json_codec.has_more_values(data, len(data) + 1)


MANY = [0] * 2000
RUN_INPUT = run_input("t", state=MANY)
STRING = json.dumps(RUN_INPUT)


class TestTooManyValues:
    @pytest.mark.parametrize(
        ("mode", "method", "path", "sent"),
        [
            ("multi-route", "POST", RUN, RUN_INPUT),
            ("multi-route", "POST", f"{BASE}/agent/default/connect", RUN_INPUT),
            ("multi-route", "POST", f"{BASE}/agent/default/suggest", RUN_INPUT),
            ("multi-route", "POST", f"{BASE}/agent/default/stop/t", MANY),
            ("multi-route", "POST", f"{BASE}/transcribe", MANY),
            ("multi-route", "PATCH", f"{BASE}/threads/t", MANY),
            ("multi-route", "POST", BASE, MANY),
            ("single-route", "POST", BASE, MANY),
            ("single-route", "POST", BASE, {"method": "info", "params": MANY}),
            (
                "single-route",
                "POST",
                BASE,
                {"method": "agent/run", "params": {"agentId": "default"}, "body": STRING},
            ),
        ],
    )
    def test_a_body_of_too_many_values_is_refused(
        self, mode: Any, method: str, path: str, sent: Any
    ) -> None:
        server = client(mode, 1000, thread_mutations=True, transcription=lambda audio: "")
        answer = server.request(method, path, body=json.dumps(sent), headers=JSON)
        assert (answer.status, answer.json()) == (
            413,
            {
                "error": "Payload too large",
                "message": "The request body has more than 1000 JSON values",
            },
        )

    def test_no_value_of_a_refused_body_is_made(self) -> None:
        sent = body(state=filled("{}"))
        server = client(values=1000)
        assert peak(lambda: server.request("POST", RUN, body=sent)) < 2 * len(sent)

    def test_text_does_not_count(self) -> None:
        sent = run_input("t", state="[,{" * 1000)
        assert client(values=20).post(RUN, json=sent).status == 200

    def test_the_default_has_room_for_a_long_conversation(self) -> None:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        turn = [
            {"id": "u", "role": "user", "content": "hello"},
            {"id": "a", "role": "assistant", "content": "", "toolCalls": [call]},
            {"id": "t", "role": "tool", "toolCallId": "c", "content": "{}"},
        ]
        text = json.dumps(run_input("t", messages=turn * 10_000)).encode()
        assert not json_codec.has_more_values(text, Limits().body_values)


class TestOnce:
    @pytest.fixture
    def parsed(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The lengths of what is parsed."""
        lengths = []
        decode = json_codec.decode

        def counted(data: bytes) -> Any:
            lengths.append(len(data))
            return decode(data)

        monkeypatch.setattr(json_codec, "decode", counted)
        return lengths

    @pytest.mark.parametrize("what", ["run", "connect", "suggest"])
    def test_a_body_is_parsed_once(self, parsed: list[int], what: str) -> None:
        sent = body(state=filled("0"))
        client().request("POST", f"{BASE}/agent/default/{what}", body=sent)
        assert [length for length in parsed if length > 1000] == [len(sent)]

    @pytest.mark.parametrize("what", ["run", "connect", "suggest"])
    def test_a_body_is_parsed_once_in_single_route_mode_too(
        self, parsed: list[int], what: str
    ) -> None:
        inner = body(state=filled("0"))
        sent = b'{"method":"agent/%b","params":{"agentId":"default"},"body":%b}' % (
            what.encode(),
            inner,
        )
        answer = client("single-route").request("POST", BASE, body=sent, headers=JSON)
        assert answer.status == 200
        assert [length for length in parsed if length > 1000] == [len(inner)]

    def test_a_body_that_msgspec_cannot_read_is_parsed_by_python(self, parsed: list[int]) -> None:
        inner = body(state=filled(r'"\ud800"'))
        sent = b'{"method":"agent/run","params":{"agentId":"default"},"body":%b}' % inner
        answer = client("single-route").request("POST", BASE, body=sent, headers=JSON)
        assert answer.status == 200
        assert [length for length in parsed if length > 1000] == [len(sent)]


ID = "x" * 60_000
"""About as long as a path may be that a server takes."""


class TestEchoes:
    """The part of a request that an answer or a log line repeats is cut."""

    @pytest.mark.parametrize(
        ("method", "path", "sent", "status"),
        [
            ("POST", f"{BASE}/agent/{ID}/run", run_input("t"), 404),
            ("POST", f"{BASE}/agent/default/stop/{ID}", {}, 200),
            ("POST", f"{BASE}/agent/default/stop/t", {"runId": ID}, 200),
            ("PATCH", f"{BASE}/threads/{ID}", {"name": "x"}, 404),
            ("DELETE", f"{BASE}/threads/{ID}", None, 404),
            ("POST", f"{BASE}/{ID}", None, 404),
            (ID, f"{BASE}/info", None, 405),
            (ID, f"/elsewhere/{ID}", None, 404),
            ("GET", f"{BASE}/threads?limit={ID}", None, 400),
            ("POST", f"{BASE}/transcribe", {"audio": "AAAA", "mimeType": ID}, 400),
            ("POST", f"{BASE}/transcribe", {"audio": "AAAA", "mimeType": f"a/{ID}"}, 400),
            ("POST", RUN, run_input(ID), 400),
        ],
    )
    def test_a_refusal_in_multi_route_mode_is_short(
        self,
        method: str,
        path: str,
        sent: Any,
        status: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server = client(thread_mutations=True, transcription=lambda audio: "")
        answer = server.request(method, path, body=json.dumps(sent), headers=JSON)
        self.check(answer, status, caplog)

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            ({"method": ID}, 400),
            ({"method": int("9" * 4000)}, 400),
            ({"method": "agent/run", "params": {"agentId": ID[:16000]}, "body": {}}, 404),
            ({"method": "agent/run", "params": {"agentId": ID}, "body": {}}, 400),
            ({"method": "resource/request", "params": {"path": "/" + ID, "httpMethod": "G"}}, 400),
            ({"method": "inspector/learning", "params": {"agentId": ID}}, 404),
        ],
    )
    def test_a_refusal_in_single_route_mode_is_short(
        self, sent: Any, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        answer = client("single-route").request("POST", BASE, body=json.dumps(sent), headers=JSON)
        self.check(answer, status, caplog)

    def test_the_log_line_of_a_failing_hook_is_short(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(context: Any) -> None:
            raise RuntimeError

        server = client(hooks=Hooks(on_request=fail))
        self.check(server.request(ID, f"/{ID}"), 500, caplog)

    def test_a_refused_get_in_single_route_mode_is_short(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.check(client("single-route").get(f"{BASE}/{ID}"), 405, caplog)

    def test_the_answer_for_a_busy_thread_is_short(self, caplog: pytest.LogCaptureFixture) -> None:
        def talker(input: Any, context: Any) -> Iterator[Any]:
            ids = {"threadId": input.thread_id, "runId": input.run_id}
            yield {"type": "RUN_STARTED", **ids}
            yield {"type": "RUN_FINISHED", **ids}

        thread, run = "t" * 1024, "r" * 1024
        server = Client(CopilotRuntime({"default": talker}))
        stream = server.stream("POST", RUN, json=run_input(thread, run))
        stream.next()
        answer = server.post(RUN, json=run_input(thread, "other"))
        self.check(answer, 409, caplog)
        stream.close()

    @staticmethod
    def check(answer: ClientResponse, status: int, caplog: pytest.LogCaptureFixture) -> None:
        assert answer.status == status
        assert len(answer.body) < ANSWER
        for record in caplog.records:
            assert len(record.getMessage()) < ANSWER
