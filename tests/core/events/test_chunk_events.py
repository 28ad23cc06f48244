"""Chunk events stand for other events."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sansio_copilot.events import ChunkExpander, EventError, expand_chunks

TEXT = {"type": "TEXT_MESSAGE_CHUNK"}
TOOL = {"type": "TOOL_CALL_CHUNK"}
REASONING = {"type": "REASONING_MESSAGE_CHUNK"}
FINISHED = {"type": "RUN_FINISHED"}


def shorthand(events: Any) -> Any:
    """``type id delta @owner`` of each event, without what is absent."""

    def parts(event: Any) -> Any:
        yield event["type"]
        yield event.get("messageId") or event.get("toolCallId")
        yield event.get("delta")
        yield "@" + event["subagentRunId"] if "subagentRunId" in event else None

    return [" ".join(part for part in parts(event) if part) for event in events]


def test_chunks_of_text_become_start_content_and_end() -> None:
    assert expand_chunks(
        [
            {**TEXT, "messageId": "m", "role": "user", "name": "Ann", "delta": "a"},
            {**TEXT, "delta": "b"},
            {**TEXT, "messageId": "m", "delta": "c"},
            FINISHED,
        ]
    ) == [
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "user", "name": "Ann"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "a"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "b"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "c"},
        {"type": "TEXT_MESSAGE_END", "messageId": "m"},
        FINISHED,
    ]


def test_chunks_of_a_tool_call_become_start_args_and_end() -> None:
    assert expand_chunks(
        [
            {**TOOL, "toolCallId": "c", "toolCallName": "f", "parentMessageId": "m"},
            {**TOOL, "delta": "{}"},
            FINISHED,
        ]
    ) == [
        {
            "type": "TOOL_CALL_START",
            "toolCallId": "c",
            "toolCallName": "f",
            "parentMessageId": "m",
        },
        {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{}"},
        {"type": "TOOL_CALL_END", "toolCallId": "c"},
        FINISHED,
    ]


def test_chunks_of_reasoning_become_start_content_and_end() -> None:
    assert expand_chunks([{**REASONING, "messageId": "r", "delta": "hm"}, FINISHED]) == [
        {"type": "REASONING_MESSAGE_START", "messageId": "r", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "r", "delta": "hm"},
        {"type": "REASONING_MESSAGE_END", "messageId": "r"},
        FINISHED,
    ]


def test_the_role_is_assistant_unless_the_chunk_names_one() -> None:
    (start,) = expand_chunks([{**TEXT, "messageId": "m"}])
    assert start == {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}


def test_another_id_or_kind_ends_what_is_open() -> None:
    assert shorthand(
        expand_chunks(
            [
                {**TEXT, "messageId": "m1"},
                {**TEXT, "messageId": "m2"},
                {**TOOL, "toolCallId": "c", "toolCallName": "f"},
            ]
        )
    ) == [
        "TEXT_MESSAGE_START m1",
        "TEXT_MESSAGE_END m1",
        "TEXT_MESSAGE_START m2",
        "TEXT_MESSAGE_END m2",
        "TOOL_CALL_START c",
    ]


def test_an_entity_that_is_open_when_the_stream_ends_stays_open() -> None:
    assert shorthand(expand_chunks([{**TEXT, "messageId": "m"}])) == ["TEXT_MESSAGE_START m"]


def test_an_event_that_is_no_chunk_is_passed_on_as_the_same_object() -> None:
    expander = ChunkExpander()
    event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x"}
    (out,) = expander.feed(event)
    assert out is event


def test_an_unknown_type_is_dropped() -> None:
    assert expand_chunks([{"type": "FROM_THE_FUTURE"}, {**TEXT, "messageId": "m"}]) == (
        expand_chunks([{**TEXT, "messageId": "m"}, {"type": "FROM_THE_FUTURE"}])
    )


def test_an_ordinary_event_ends_the_chunks_of_its_own_lane_only() -> None:
    opened = [{**TEXT, "messageId": "m"}, {**TEXT, "messageId": "s", "subagentRunId": "s1"}]
    custom = {"type": "CUSTOM", "name": "n", "value": 1}
    assert shorthand(expand_chunks([*opened, custom, {**custom, "subagentRunId": "s1"}])[2:]) == [
        "TEXT_MESSAGE_END m",
        "CUSTOM",
        "TEXT_MESSAGE_END s @s1",
        "CUSTOM @s1",
    ]


@pytest.mark.parametrize(
    "type_", ["RAW", "ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA", "REASONING_ENCRYPTED_VALUE"]
)
def test_some_events_can_occur_in_the_middle_of_a_message(type_: Any) -> None:
    assert shorthand(expand_chunks([{**TEXT, "messageId": "m"}, {"type": type_}])) == [
        "TEXT_MESSAGE_START m",
        type_,
    ]


@pytest.mark.parametrize("type_", ["RUN_STARTED", "RUN_FINISHED", "RUN_ERROR", "MESSAGES_SNAPSHOT"])
def test_an_event_of_the_whole_run_ends_every_lane_in_the_order_they_opened(type_: Any) -> None:
    assert shorthand(
        expand_chunks(
            [
                {**TOOL, "toolCallId": "c", "toolCallName": "f", "subagentRunId": "s1"},
                {**TEXT, "messageId": "m"},
                {"type": type_},
            ]
        )[2:]
    ) == ["TOOL_CALL_END c @s1", "TEXT_MESSAGE_END m", type_]


@pytest.mark.parametrize("type_", ["SUBAGENT_FINISHED", "SUBAGENT_ERROR"])
def test_the_end_of_a_subagent_ends_its_lane(type_: Any) -> None:
    opened = [{**TEXT, "messageId": "m"}, {**TEXT, "messageId": "s", "subagentRunId": "s1"}]
    assert shorthand(expand_chunks([*opened, {"type": type_, "subagentRunId": "s1"}])[2:]) == [
        "TEXT_MESSAGE_END s @s1",
        f"{type_} @s1",
    ]
    assert shorthand(expand_chunks([*opened, {"type": type_}])[2:]) == [type_]


def test_subagents_that_stream_at_the_same_time_do_not_end_each_other() -> None:
    first = {**TEXT, "messageId": "a", "subagentRunId": "s1"}
    second = {**TEXT, "messageId": "b", "subagentRunId": "s2"}
    more = [
        {**TEXT, "delta": "1", "subagentRunId": "s1"},
        {**TEXT, "delta": "2", "messageId": "b"},
    ]
    assert shorthand(expand_chunks([first, second, *more])) == [
        "TEXT_MESSAGE_START a @s1",
        "TEXT_MESSAGE_START b @s2",
        "TEXT_MESSAGE_CONTENT a 1 @s1",
        "TEXT_MESSAGE_CONTENT b 2 @s2",
    ]


def test_a_chunk_without_id_and_owner_continues_the_parents_stream_or_the_only_one() -> None:
    sub = {**TEXT, "messageId": "s", "subagentRunId": "s1"}
    assert shorthand(expand_chunks([sub, {**TEXT, "delta": "x"}])[1:]) == [
        "TEXT_MESSAGE_CONTENT s x @s1"
    ]
    both = [sub, {**TEXT, "messageId": "m"}, {**TEXT, "delta": "x"}]
    assert shorthand(expand_chunks(both)[2:]) == ["TEXT_MESSAGE_CONTENT m x"]


def test_metadata_rides_on_everything_that_comes_of_its_chunk_but_not_on_the_end_before() -> None:
    first = {**TEXT, "messageId": "a", "metadata": {"n": 1}}
    second = {**TEXT, "messageId": "b", "delta": "x", "metadata": {"n": 2}}
    events = expand_chunks([first, second])
    assert [(event["type"], event.get("metadata")) for event in events] == [
        ("TEXT_MESSAGE_START", {"n": 1}),
        ("TEXT_MESSAGE_END", None),
        ("TEXT_MESSAGE_START", {"n": 2}),
        ("TEXT_MESSAGE_CONTENT", {"n": 2}),
    ]


@pytest.mark.parametrize(
    ("opening", "content_type"),
    [
        ({**TEXT, "messageId": "e"}, "TEXT_MESSAGE_CONTENT"),
        ({**TOOL, "toolCallId": "e", "toolCallName": "f"}, "TOOL_CALL_ARGS"),
        ({**REASONING, "messageId": "e"}, "REASONING_MESSAGE_CONTENT"),
    ],
)
def test_a_chunk_with_nothing_but_metadata_becomes_an_empty_delta(
    opening: Any, content_type: Any
) -> None:
    usage = {"type": opening["type"], "metadata": {"usage": 3}}
    (content,) = expand_chunks([opening, usage])[1:]
    assert (content["type"], content["delta"], content["metadata"]) == (
        content_type,
        "",
        {"usage": 3},
    )


def test_a_chunk_with_nothing_at_all_becomes_nothing() -> None:
    assert expand_chunks([{**TEXT, "messageId": "m"}, TEXT])[1:] == []


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([TEXT], "First TEXT_MESSAGE_CHUNK must have a messageId"),
        ([TOOL], "First TOOL_CALL_CHUNK must have a toolCallId"),
        ([REASONING], "First REASONING_MESSAGE_CHUNK must have a messageId"),
        ([{**TOOL, "toolCallId": "c"}], "First TOOL_CALL_CHUNK must have a toolCallName"),
        (
            [{**TEXT, "messageId": "m"}, {**TEXT, "messageId": "m", "subagentRunId": "s1"}],
            (
                "Cannot continue text message 'm': chunk subagentRunId 's1' does not match the "
                "open stream's subagent '(the parent agent)'."
            ),
        ),
        (
            [
                {**REASONING, "messageId": "m", "subagentRunId": "s1"},
                {**REASONING, "messageId": "m", "subagentRunId": "s2"},
            ],
            (
                "Cannot continue reasoning message 'm': chunk subagentRunId 's2' does not match "
                "the open stream's subagent 's1'."
            ),
        ),
        (
            [
                {**TOOL, "toolCallId": "a", "toolCallName": "f", "subagentRunId": "s1"},
                {**TOOL, "toolCallId": "b", "toolCallName": "f", "subagentRunId": "s2"},
                {**TOOL, "delta": "{"},
            ],
            (
                "Ambiguous TOOL_CALL_CHUNK: it carries neither a toolCallId nor a subagentRunId, "
                "but 2 lanes have an open tool call. Attribute the chunk to the subagent it "
                "belongs to."
            ),
        ),
    ],
)
def test_a_chunk_that_fits_nowhere_is_an_error(chunks: Any, message: Any) -> None:
    with pytest.raises(EventError) as caught:
        expand_chunks(chunks)
    assert str(caught.value) == message


def test_no_chunk_is_changed() -> None:
    chunks = [
        {**TEXT, "messageId": "m", "delta": "x", "metadata": {"a": 1}},
        {**TEXT, "metadata": {"a": 2}},
        FINISHED,
    ]
    before = copy.deepcopy(chunks)
    expand_chunks(chunks)  # type: ignore[arg-type]
    assert chunks == before
