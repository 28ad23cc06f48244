"""Tests of what is put right in an event, of what is refused, and in which words."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import RECORDS, TEXT_FIELDS, TYPES, fits, well_formed

from sansio_copilot import events, json_codec
from sansio_copilot.events import (
    KNOWN_TYPES,
    EventError,
    client_schemas,
    normalize_event,
    normalize_input,
)
from sansio_copilot.events.client_schema_texts import V0_0_59, V1_0_0

TESTS = Path(__file__).parents[2]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=5,
)
INPUT = {"threadId": "t", "runId": "r", "messages": [], "tools": [], "context": []}


def refusal(event: Any) -> str:
    before = copy.deepcopy(event)
    with pytest.raises(EventError) as caught:
        normalize_event(event)
    assert isinstance(caught.value, ValueError)
    assert event == before
    return str(caught.value)


def snapshot(*messages: Any) -> dict[str, Any]:
    return {"type": "MESSAGES_SNAPSHOT", "messages": list(messages)}


def call(**fields: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, **fields}


def finished(outcome: Any) -> dict[str, Any]:
    return {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome}


def interrupt(**fields: Any) -> dict[str, Any]:
    return {"type": "interrupt", "interrupts": [{"id": "i", "reason": "why", **fields}]}


class TestWhatIsInOrder:
    @pytest.mark.parametrize("type_", TYPES)
    @pytest.mark.parametrize("whole", [False, True])
    def test_an_event_in_order_stays_as_it_is(self, type_: str, whole: bool) -> None:
        event = well_formed(type_, whole=whole)
        if type_ == "TEXT_MESSAGE_START":
            event["role"] = "user"
        assert normalize_event(event) is event

    @pytest.mark.parametrize("type_", TYPES)
    def test_members_that_nobody_knows_pass_through(self, type_: str) -> None:
        event = {**well_formed(type_, whole=True), "extra": object(), "extra_2": [{}]}
        assert normalize_event(event) is event

    def test_a_text_of_another_class_is_what_it_says(self) -> None:
        class Text(str):
            __slots__ = ()

        started = {"type": "TEXT_MESSAGE_START", "messageId": Text("m"), "role": Text("user")}
        assert normalize_event(started) is started
        with pytest.raises(EventError, match="'role' to be one of"):
            normalize_event({**started, "role": Text("nobody")})

    @pytest.mark.parametrize("name", ["compact", "finalize", "runs"])
    def test_every_event_of_the_vectors_is_in_order(self, name: str) -> None:
        for case in json.loads((TESTS / "vectors" / f"{name}.json").read_text())["cases"]:
            assert all(normalize_event(event) is event for event in case["events"])

    def test_an_unknown_type_is_no_error_but_to_be_dropped(self) -> None:
        assert normalize_event({"type": "FROM_THE_FUTURE"}) is None
        assert "FROM_THE_FUTURE" not in KNOWN_TYPES

    def test_the_runtime_may_finish_a_run_without_naming_it(self) -> None:
        assert normalize_event({"type": "RUN_FINISHED"}) == {"type": "RUN_FINISHED"}


class TestNulls:
    """Null where a member may be absent is absence; where it may not, it is a value or wrong."""

    @pytest.mark.parametrize("type_", TYPES)
    def test_null_in_optional_members_is_left_out(self, type_: str) -> None:
        record = RECORDS[type_]
        event = well_formed(type_)
        nulls = dict.fromkeys(record.fields.keys() - record.required)
        assert normalize_event({**event, **nulls}) == normalize_event(event)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (
                snapshot(
                    {
                        "id": "a",
                        "role": "assistant",
                        "content": None,
                        "name": None,
                        "toolCalls": [call(encryptedValue=None, type=None)],
                    }
                ),
                snapshot({"id": "a", "role": "assistant", "toolCalls": [call()]}),
            ),
            (
                snapshot(
                    {
                        "id": "u",
                        "role": "user",
                        "content": [
                            {
                                "type": "image",
                                "source": {"type": "url", "value": "u", "mimeType": None},
                                "metadata": None,
                            }
                        ],
                    }
                ),
                snapshot(
                    {
                        "id": "u",
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "url", "value": "u"}}],
                    }
                ),
            ),
            (finished(interrupt(message=None, expiresAt=None)), finished(interrupt())),
            (
                {
                    "type": "RUN_STARTED",
                    "threadId": "t",
                    "runId": "r",
                    "input": {
                        **INPUT,
                        "tools": [{"name": "f", "description": "", "parameters": None}],
                    },
                },
                {
                    "type": "RUN_STARTED",
                    "threadId": "t",
                    "runId": "r",
                    "input": {**INPUT, "tools": [{"name": "f", "description": ""}]},
                },
            ),
        ],
    )
    def test_null_at_any_depth_is_left_out(self, given: Any, expected: Any) -> None:
        before = copy.deepcopy(given)
        assert normalize_event(given) == expected
        assert given == before

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "CUSTOM", "name": "n", "value": None},
            {"type": "RAW", "event": None},
            {"type": "STATE_SNAPSHOT", "snapshot": None},
            {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a", "value": None}]},
            {"type": "CUSTOM", "name": "n", "value": {"a": None}, "metadata": {"b": None}},
        ],
    )
    def test_null_that_is_data_stays(self, event: Any) -> None:
        assert normalize_event(event) is event


class TestWhatIsPutRight:
    @pytest.mark.parametrize(
        ("timestamp", "expected"),
        [
            (1.4, 1),
            (-2.0, -2),
            ("2026-01-01T00:00:00Z", 1767225600000),
            ("2026-01-01T00:00:00", 1767225600000),
            ("2026-01-01T01:00:00.5+01:00", 1767225600500),
            ("2026-01-01", 1767225600000),
        ],
    )
    def test_a_timestamp_is_put_right(self, timestamp: Any, expected: int) -> None:
        normal = normalize_event(
            {"type": "CUSTOM", "name": "n", "value": 1, "timestamp": timestamp}
        )
        assert normal is not None
        assert normal["timestamp"] == expected
        assert type(normal["timestamp"]) is int

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"type": "RUN_ERROR", "message": "x", "code": 500}, {"code": "500"}),
            ({"type": "TEXT_MESSAGE_START", "messageId": "m"}, {"role": "assistant"}),
            ({"type": "REASONING_MESSAGE_START", "messageId": "m"}, {"role": "reasoning"}),
            (
                {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": None},
                {"role": "reasoning"},
            ),
            ({"type": "CUSTOM", "name": "n"}, {"value": None}),
            ({"type": "RAW"}, {"event": None}),
            ({"type": "RUN_FINISHED", "result": float("nan")}, {"result": None}),
            (finished("success"), {"outcome": {"type": "success"}}),
            (
                finished({"type": "success", "pendingToolCallIds": ["c"]}),
                {"outcome": {"type": "success"}},
            ),
            (finished({"type": "cancelled"}), {"outcome": None}),
            (
                {"type": "RUN_ERROR", "message": "x", "usage": ({"inputTokens": 3.0},)},
                {"usage": [{"inputTokens": 3}]},
            ),
            (
                {
                    "type": "RUN_STARTED",
                    "threadId": "t",
                    "runId": "r",
                    "input": {"threadId": "t", "runId": "r", "messages": ()},
                },
                {"input": INPUT},
            ),
        ],
    )
    def test_a_member_is_put_right(self, given: Any, expected: dict[str, Any]) -> None:
        normal = normalize_event(given)
        whole = {**given, **expected}
        assert normal == {
            name: value
            for name, value in whole.items()
            if value is not None or name in ("value", "event")
        }

    def test_a_tool_call_is_put_right(self) -> None:
        bare = {"id": "c", "function": {"name": "f", "arguments": {"x": [1, None]}}}
        normal = normalize_event(snapshot({"id": "a", "role": "assistant", "toolCalls": [bare]}))
        assert normal is not None
        [message] = normal["messages"]
        assert message["toolCalls"] == [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "f", "arguments": '{"x":[1,null]}'},
            }
        ]

    def test_defaults_are_made_for_each_event(self) -> None:
        started: dict[str, Any] = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
        started["input"] = {"threadId": "t", "runId": "r", "messages": []}
        one, other = normalize_event(started), normalize_event(started)
        assert one is not None
        assert other is not None
        assert one["input"]["tools"] is not other["input"]["tools"]


RESULT: dict[str, Any] = {"type": "TOOL_CALL_RESULT", "toolCallId": "c", "messageId": "r"}
IMAGE = {"type": "image", "source": {"type": "data", "value": "eA==", "mimeType": "image/png"}}


class TestWhatOneGenerationCannotRead:
    def test_the_parts_of_a_result_become_their_text(self) -> None:
        parts = [{"type": "text", "text": "a"}, IMAGE, {"type": "text", "text": "b"}]
        for content in (parts, tuple(parts)):
            assert normalize_event({**RESULT, "content": content}) == {
                **RESULT,
                "content": "ab",
            }
        message = {"id": "r", "role": "tool", "toolCallId": "c", "content": parts}
        assert normalize_event(snapshot(message)) == snapshot({**message, "content": "ab"})

    def test_the_parts_of_a_result_have_to_be_parts(self) -> None:
        assert refusal({**RESULT, "content": [{"type": "text"}]}) == (
            "TOOL_CALL_RESULT needs 'content[0].text' to be a string, but it is missing"
        )
        assert refusal({**RESULT, "content": {"x": 1}}) == (
            "TOOL_CALL_RESULT needs 'content' to be a string or a list of parts, got dict"
        )

    def test_a_file_that_its_provider_has_becomes_binary(self) -> None:
        def user(part: Any) -> Any:
            return snapshot({"id": "u", "role": "user", "content": [part]})

        source = {"type": "file", "value": "file-1", "provider": "openai"}
        binary = {"type": "binary", "mimeType": "application/octet-stream", "id": "file-1"}
        assert normalize_event(user({"type": "document", "source": source})) == user(binary)
        source["mimeType"] = "application/pdf"
        binary["mimeType"] = "application/pdf"
        for metadata in ({}, {"filename": 5}, "a.pdf"):
            part = {"type": "document", "source": source, "metadata": metadata}
            assert normalize_event(user(part)) == user(binary)
        part = {"type": "document", "source": source, "metadata": {"filename": "a.pdf"}}
        assert normalize_event(user(part)) == user({**binary, "filename": "a.pdf"})
        assert refusal(user({"type": "image", "source": {"type": "file"}})) == (
            "MESSAGES_SNAPSHOT needs 'messages[0].content[0].id' to be there, or 'url' or 'data', "
            "but none is"
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("type_", "field"),
        [(type_, name) for type_, names in TEXT_FIELDS.items() for name in names],
    )
    def test_each_required_text_is_needed(self, type_: str, field: str) -> None:
        event = well_formed(type_)
        kind = "a string or a list of parts" if field == "content" else "a string"
        assert refusal({**event, field: 1}) == f"{type_} needs '{field}' to be {kind}, got int"
        del event[field]
        assert refusal(event) == f"{type_} needs '{field}' to be {kind}, but it is missing"

    @pytest.mark.parametrize(
        ("event", "message"),
        [
            (["RUN_STARTED"], "an event needs to be a dict, got list"),
            ({}, "an event needs 'type' to be a string, but it is missing"),
            ({"type": None}, "an event needs 'type' to be a string, got NoneType"),
            (
                {"type": "TEXT_MESSAGE_CHUNK", "delta": 1},
                "TEXT_MESSAGE_CHUNK needs 'delta' to be a string, got int",
            ),
            (
                {"type": "RUN_ERROR", "message": "no", "metadata": []},
                "RUN_ERROR needs 'metadata' to be a dict, got list",
            ),
            (
                {"type": "RUN_ERROR", "message": "no", "code": True},
                "RUN_ERROR needs 'code' to be a string, got bool",
            ),
            (
                {"type": "STATE_SNAPSHOT"},
                "STATE_SNAPSHOT needs 'snapshot' to be any value, but it is missing",
            ),
            (
                {"type": "STATE_DELTA", "delta": {"a": 1}},
                "STATE_DELTA needs 'delta' to be a list, got dict",
            ),
            (
                {"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "a"}]},
                "STATE_DELTA needs 'delta[0].path' to be a JSON Pointer (RFC 6901), got str",
            ),
            (
                {"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "/a~2"}]},
                "STATE_DELTA needs 'delta[0].path' to be a JSON Pointer (RFC 6901), got str",
            ),
            (
                {"type": "STATE_DELTA", "delta": [{"op": "move", "from": "", "path": "/a"}]},
                "STATE_DELTA needs 'delta[0].path' to be a place outside of 'from', got one "
                "inside of it",
            ),
            (
                {
                    "type": "ACTIVITY_DELTA",
                    "messageId": "a",
                    "activityType": "b",
                    "patch": [
                        {"op": "move", "from": "/a", "path": "/ab"},
                        {"op": "move", "from": "/a", "path": "/a"},
                        {"op": "move", "from": "/a/0", "path": "/a/0/1"},
                    ],
                },
                "ACTIVITY_DELTA needs 'patch[2].path' to be a place outside of 'from', got one "
                "inside of it",
            ),
            (
                {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a"}]},
                "STATE_DELTA needs 'delta[0].value' to be any value, but it is missing",
            ),
            (
                {
                    "type": "ACTIVITY_DELTA",
                    "messageId": "a",
                    "activityType": "b",
                    "patch": [{"op": "merge", "path": ""}],
                },
                "ACTIVITY_DELTA needs 'patch[0].op' to be one of 'add', 'remove', 'replace', "
                "'move', 'copy', 'test', got another string",
            ),
            (
                {
                    "type": "ACTIVITY_SNAPSHOT",
                    "messageId": "a",
                    "activityType": "b",
                    "content": {},
                    "replace": "no",
                },
                "ACTIVITY_SNAPSHOT needs 'replace' to be a bool, got str",
            ),
            (snapshot("hi"), "MESSAGES_SNAPSHOT needs 'messages[0]' to be a dict, got str"),
            (
                snapshot({"id": "m"}),
                "MESSAGES_SNAPSHOT needs 'messages[0].role' to be one of 'developer', 'system', "
                "'assistant', 'user', 'tool', 'activity', 'reasoning', but it is missing",
            ),
            (
                snapshot({"id": "m", "role": ["user"]}),
                "MESSAGES_SNAPSHOT needs 'messages[0].role' to be one of 'developer', 'system', "
                "'assistant', 'user', 'tool', 'activity', 'reasoning', got list",
            ),
            (
                snapshot({"id": "m", "role": "human", "content": "x"}),
                "MESSAGES_SNAPSHOT needs 'messages[0].role' to be one of 'developer', 'system', "
                "'assistant', 'user', 'tool', 'activity', 'reasoning', got 'human', which AG-UI "
                "calls 'user'",
            ),
            (
                snapshot({"id": "t", "role": "tool", "content": "x", "tool_call_id": "c"}),
                "MESSAGES_SNAPSHOT needs 'messages[0].toolCallId' to be a string, but "
                "'tool_call_id' is there: AG-UI's JSON is in camelCase",
            ),
            (
                {"type": "RUN_STARTED", "threadId": "t", "runId": "r", "parent_run_id": "q"},
                "RUN_STARTED needs 'parentRunId' to be a string, but 'parent_run_id' is there: "
                "AG-UI's JSON is in camelCase",
            ),
            (
                snapshot(
                    {"id": "u", "role": "user", "content": "x"},
                    {
                        "id": "a",
                        "role": "assistant",
                        "toolCalls": [call(), call(function={"name": "f", "arguments": [1]})],
                    },
                ),
                "MESSAGES_SNAPSHOT needs 'messages[1].toolCalls[1].function.arguments' to be a "
                "string, got list",
            ),
            (
                snapshot({"id": "u", "role": "user", "content": 1}),
                "MESSAGES_SNAPSHOT needs 'messages[0].content' to be a string or a list, got int",
            ),
            (
                finished({"type": "interrupt", "interrupts": []}),
                "RUN_FINISHED needs 'outcome.interrupts' to be a list of at least one, got an "
                "empty one",
            ),
            (
                finished({"type": "maybe"}),
                "RUN_FINISHED needs 'outcome.type' to be one of 'success', 'interrupt', got "
                "another string",
            ),
            (
                {"type": "RUN_ERROR", "message": "x", "usage": [{"inputTokens": -1}]},
                "RUN_ERROR needs 'usage[0].inputTokens' to be an integer from 0 to 2^53 - 1, got "
                "int",
            ),
            (
                {"type": "TEXT_MESSAGE_END", "messageId": "m", "metadata": {}, "timestamp": True},
                "TEXT_MESSAGE_END needs 'timestamp' to be milliseconds since 1970 as an integer, "
                "got bool",
            ),
        ],
    )
    def test_refusals_say_what_is_wrong_and_what_was_expected(
        self, event: Any, message: str
    ) -> None:
        assert refusal(event) == message

    @pytest.mark.parametrize(
        "timestamp", [2**53, -(2**60), float("nan"), float("inf"), "noon", "1" * 65, [], {}]
    )
    def test_a_timestamp_that_is_no_number_is_refused(self, timestamp: Any) -> None:
        event = {"type": "TEXT_MESSAGE_END", "messageId": "m", "timestamp": timestamp}
        assert "needs 'timestamp' to be milliseconds" in refusal(event)

    def test_arguments_that_json_cannot_say_are_refused(self) -> None:
        bad = call(function={"name": "f", "arguments": {"x": print}})
        assert refusal(snapshot({"id": "a", "role": "assistant", "toolCalls": [bad]})).endswith(
            "arguments' to be a string, got dict"
        )

    def test_refusals_have_a_bounded_size_and_repeat_nothing(self) -> None:
        secret = "secret" * 1000
        for event in (
            snapshot({"id": "m", "role": secret}),
            {"type": "TEXT_MESSAGE_START", "messageId": {secret: secret}, secret: 1},
            {"type": "STATE_DELTA", "delta": [{"op": "add", "path": secret}]},
            {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": secret},
        ):
            text = refusal(event)
            assert "secret" not in text
            assert len(text) < 300


class TestInput:
    def test_an_input_that_is_in_order_stays_as_it_is(self) -> None:
        assert normalize_input(INPUT) is INPUT

    def test_an_input_is_lowered_for_those_who_did_not_send_it(self) -> None:
        parts = [{"type": "text", "text": "ok"}]
        messages = [
            {"id": "a", "role": "assistant", "toolCalls": [{**call(), "type": None}]},
            {"id": "b", "role": "tool", "toolCallId": "c", "content": parts},
        ]
        normal = normalize_input({**INPUT, "messages": messages})
        assert normal["messages"] == [
            {"id": "a", "role": "assistant", "toolCalls": [call()]},
            {"id": "b", "role": "tool", "toolCallId": "c", "content": "ok"},
        ]

    def test_an_input_that_is_wrong_is_refused_with_the_place(self) -> None:
        with pytest.raises(EventError) as caught:
            normalize_input({**INPUT, "messages": [{"id": 1, "role": "user", "content": ""}]})
        assert str(caught.value) == "messages[0].id: expected a string, got int"


FIELDS = sorted({name for record in RECORDS.values() for name in record.fields} - {"type"})


@given(
    st.lists(
        st.builds(
            lambda type_, fields: {**well_formed(type_), **fields},
            st.sampled_from(TYPES),
            st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
        ),
        max_size=8,
    )
)
def test_an_event_that_passes_never_breaks_a_machine(stream: list[dict[str, Any]]) -> None:
    checked = []
    for event in stream:
        with contextlib.suppress(EventError):
            normal = normalize_event(event)
            assert normal is not None
            assert normalize_event(normal) == normal
            checked.append(normal)
    for function in (events.expand_chunks, events.verify_events):
        with contextlib.suppress(EventError):
            function(checked)
    events.finalize_events(checked)
    events.fold_messages(checked)
    events.fold_state(checked)
    events.compact_events(checked)


GENERATIONS = {
    "0.0.59": client_schemas.Schemas(V0_0_59)["Event"],
    "1.0.0": client_schemas.Schemas(V1_0_0)["Event"],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return each member and element of ``value``, at any depth."""
    found: list[tuple[Any, ...]] = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
    return found


@given(st.data(), st.sampled_from(TYPES))
def test_a_changed_event_that_passes_is_read_by_both_generations(
    data: st.DataObject, type_: str
) -> None:
    event = well_formed(type_, whole=True)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(places(event)))
        holder: Any = event
        for key in path:
            holder = holder[key]
        if data.draw(st.booleans()):
            del holder[last]
        elif data.draw(st.booleans()):
            holder[last] = data.draw(json_values)
        elif isinstance(holder, dict):
            holder[data.draw(st.sampled_from(FIELDS))] = data.draw(json_values)
        if not event:
            return
    try:
        normal = normalize_event(event)
    except EventError:
        return
    if normal is None:
        return
    sent = events.ThinkingUpgrader("run")
    sent.feed({"type": "RUN_STARTED"})
    with contextlib.suppress(EventError):
        upgraded = {"threadId": "t", "runId": "r", **sent.feed(normal)}
        told = json_codec.decode(json_codec.encode(upgraded))
        for generation, event_schema in GENERATIONS.items():
            assert fits(event_schema, told), generation


@pytest.mark.parametrize(
    "event",
    [
        {"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c"},
        {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "a", "role": "user"}]},
    ],
)
def test_a_text_of_a_class_of_its_own_is_a_text(event: Any) -> None:
    class Text(str):
        pass

    for holder in (event, *event.get("messages", ())):
        holder["content"] = Text("x")
    assert normalize_event(event) == event
