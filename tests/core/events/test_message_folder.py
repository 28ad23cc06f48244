"""The conversation that comes of events."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sansio_copilot.events import MessageFolder, fold_messages

USER = {"id": "u", "role": "user", "content": "hi"}
S1 = {"subagentRunId": "s1"}


def text(what: Any, message_id: Any = "m", delta: Any = None, **fields: Any) -> Any:
    more = {} if delta is None else {"delta": delta}
    return {"type": f"TEXT_MESSAGE_{what}", "messageId": message_id, **more, **fields}


def tool(what: Any, call_id: Any = "c", **fields: Any) -> Any:
    return {"type": f"TOOL_CALL_{what}", "toolCallId": call_id, **fields}


def call(call_id: Any = "c", name: Any = "f", arguments: Any = "", **fields: Any) -> Any:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function, **fields}


def assistant(message_id: Any, *calls: Any, **fields: Any) -> Any:
    more = {"toolCalls": list(calls)} if calls else {}
    return {"id": message_id, "role": "assistant", **more, **fields}


def result(message_id: Any, call_id: Any = "c", **fields: Any) -> Any:
    return tool("RESULT", call_id, messageId=message_id, content="done", **fields)


def tool_message(message_id: Any, call_id: Any = "c", **fields: Any) -> Any:
    return {"id": message_id, "toolCallId": call_id, "role": "tool", "content": "done", **fields}


def reasoning(what: Any, message_id: Any = "z", **fields: Any) -> Any:
    return {"type": f"REASONING_MESSAGE_{what}", "messageId": message_id, **fields}


def activity_snapshot(content: Any, message_id: Any = "a", **fields: Any) -> Any:
    return {
        "type": "ACTIVITY_SNAPSHOT",
        "messageId": message_id,
        "activityType": "plan",
        "content": content,
        **fields,
    }


def activity_delta(
    patch: Any, message_id: Any = "a", activity_type: Any = "plan", **fields: Any
) -> Any:
    return {
        "type": "ACTIVITY_DELTA",
        "messageId": message_id,
        "activityType": activity_type,
        "patch": patch,
        **fields,
    }


def activity(
    content: Any, message_id: Any = "a", activity_type: Any = "plan", **fields: Any
) -> Any:
    return {
        "id": message_id,
        "role": "activity",
        "activityType": activity_type,
        "content": content,
        **fields,
    }


def snapshot(*messages: Any) -> Any:
    return {"type": "MESSAGES_SNAPSHOT", "messages": list(messages)}


def encrypted(subtype: Any, entity_id: Any) -> Any:
    return {
        "type": "REASONING_ENCRYPTED_VALUE",
        "subtype": subtype,
        "entityId": entity_id,
        "encryptedValue": "e",
    }


def add(path: Any, value: Any) -> Any:
    return [{"op": "add", "path": path, "value": value}]


class TestText:
    def test_start_content_and_end_make_a_message(self) -> None:
        assert fold_messages(
            [
                text("START", role="developer", name="Ann", **S1),
                text("CONTENT", delta="a"),
                text("CONTENT", delta="b"),
                text("END"),
            ],
            [USER],
        ) == [USER, {"id": "m", "role": "developer", "content": "ab", "name": "Ann", **S1}]

    def test_a_message_can_be_looked_at_in_the_middle(self) -> None:
        folder = MessageFolder()
        folder.feed(text("START"))
        assert folder.messages == [assistant("m", content="")]
        folder.feed(text("CONTENT", delta="a"))
        assert folder.messages == [assistant("m", content="a")]
        folder.feed(text("CONTENT", delta="b"))
        assert folder.messages == [assistant("m", content="ab")]

    def test_a_message_that_is_started_again_goes_on(self) -> None:
        events = [text("START", role="user"), text("CONTENT", delta="b"), text("END")]
        assert fold_messages(events, [assistant("m", content="a")]) == [
            assistant("m", content="ab")
        ]

    def test_content_that_is_no_text_gives_way_to_text(self) -> None:
        parts = {**USER, "content": [{"type": "text", "text": "hi"}]}
        assert fold_messages([text("CONTENT", "u", "x")], [parts]) == [{**USER, "content": "x"}]

    def test_an_event_that_refers_to_nothing_is_ignored(self) -> None:
        events = [text("CONTENT", delta="a"), text("END"), tool("ARGS", delta="{"), tool("END")]
        assert fold_messages(events) == []

    def test_metadata_is_merged_as_it_arrives(self) -> None:
        events = [
            text("START", metadata={"a": 1, "b": 1}),
            text("CONTENT", delta="x", metadata={"b": 2}),
            text("END", metadata={"c": {"usage": 3}}),
            text("START", metadata={"d": 4}),
        ]
        assert fold_messages(events) == [
            assistant("m", content="x", metadata={"a": 1, "b": 2, "c": {"usage": 3}, "d": 4})
        ]

    def test_metadata_that_is_no_object_gives_way(self) -> None:
        assert fold_messages([text("END", metadata={"a": 1})], [assistant("m", metadata="?")]) == [
            assistant("m", metadata={"a": 1})
        ]


class TestToolCalls:
    def test_a_call_makes_a_message_of_its_own(self) -> None:
        assert fold_messages(
            [
                tool("START", toolCallName="f", **S1),
                tool("ARGS", delta="{"),
                tool("ARGS", delta="}"),
                tool("END"),
            ]
        ) == [assistant("c", call(arguments="{}"), **S1)]

    def test_a_call_joins_the_message_that_it_names(self) -> None:
        events = [tool("START", toolCallName="f", parentMessageId="m")]
        assert fold_messages(events, [assistant("m", content="x")]) == [
            assistant("m", call(), content="x")
        ]
        assert fold_messages(events) == [assistant("m", call())]
        assert fold_messages([*events, text("START"), text("CONTENT", delta="x")]) == [
            assistant("m", call(), content="x")
        ]

    def test_a_message_that_is_not_the_assistants_cannot_carry_a_call(self) -> None:
        events = [tool("START", toolCallName="f", parentMessageId="u")]
        assert fold_messages(events, [USER]) == [USER, assistant("c", call())]

    def test_a_message_made_under_an_id_in_use_is_not_attributed(self) -> None:
        events = [tool("START", "u", toolCallName="f", **S1)]
        assert fold_messages(events, [USER]) == [USER, assistant("u", call("u"))]

    def test_a_call_that_is_started_again_is_renamed_and_keeps_its_arguments(self) -> None:
        events = [
            tool("START", toolCallName="new", metadata={"a": 1}),
            tool("ARGS", delta="}", metadata={"b": 2}),
            tool("END", metadata={"c": 3}),
        ]
        assert fold_messages(events, [assistant("m", call(name="old", arguments="{"))]) == [
            assistant("m", call(name="new", arguments="{}", metadata={"a": 1, "b": 2, "c": 3}))
        ]

    def test_a_call_without_arguments_gets_them(self) -> None:
        broken = {"id": "c", "function": {"name": "f"}}
        (message,) = fold_messages([tool("ARGS", delta="{}")], [assistant("m", broken)])
        assert message["toolCalls"] == [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]

    def test_a_call_without_an_id_or_a_function_is_left_alone(self) -> None:
        messages = [assistant("m", "?", {"id": 1}, {"id": "c"})]
        assert fold_messages([tool("ARGS", delta="{}")], messages) == messages

    def test_a_result_is_put_behind_the_message_of_its_call_and_earlier_results(self) -> None:
        messages = [assistant("m", call("c"), call("d")), USER]
        events = [result("r1"), result("r2", "d", metadata={"k": 1}, **S1)]
        assert fold_messages(events, messages) == [
            messages[0],
            tool_message("r1"),
            tool_message("r2", "d", metadata={"k": 1}, **S1),
            USER,
        ]

    def test_a_result_behind_the_last_message_is_the_last(self) -> None:
        messages = [assistant("m", call())]
        assert fold_messages([result("r")], messages) == [*messages, tool_message("r")]

    @pytest.mark.parametrize("messages", [[], [{**USER, "toolCalls": [call()]}, USER]])
    def test_a_result_without_a_call_of_the_assistant_is_put_at_the_end(
        self, messages: Any
    ) -> None:
        assert fold_messages([result("r")], messages) == [*messages, tool_message("r")]

    def test_the_first_of_two_messages_with_one_id_goes_on(self) -> None:
        before = [assistant("o", call()), assistant("m", content="")]
        events = [
            text("CONTENT", delta="a"),
            result("m"),
            text("CONTENT", delta="b"),
            result("m", "unheard of"),
            result("m"),
            text("CONTENT", delta="c"),
        ]
        assert fold_messages(events, before) == [
            before[0],
            {**tool_message("m"), "content": "donebc"},
            tool_message("m"),
            assistant("m", content="a"),
            tool_message("m", "unheard of"),
        ]


class TestReasoning:
    def test_start_content_and_end_make_a_message(self) -> None:
        assert fold_messages(
            [
                {"type": "REASONING_START", "messageId": "z"},
                reasoning("START", metadata={"a": 1}, **S1),
                reasoning("CONTENT", delta="hm", metadata={"b": 2}),
                reasoning("END", metadata={"c": 3}),
                {"type": "REASONING_END", "messageId": "z"},
                reasoning("START", metadata={"d": 4}),
            ]
        ) == [
            {
                "id": "z",
                "role": "reasoning",
                "content": "hm",
                "metadata": {"a": 1, "b": 2, "c": 3, "d": 4},
                **S1,
            }
        ]

    def test_an_encrypted_value_goes_to_the_message_or_call_it_names(self) -> None:
        messages = [assistant("m", call())]
        assert fold_messages([encrypted("message", "m")], messages) == [
            assistant("m", call(), encryptedValue="e")
        ]
        assert fold_messages([encrypted("tool-call", "c")], messages) == [
            assistant("m", call(encryptedValue="e"))
        ]
        assert fold_messages([encrypted("message", "c")], messages) == messages
        assert fold_messages([encrypted("message", "a")], [activity({})]) == [activity({})]


class TestActivities:
    def test_a_snapshot_makes_a_message_and_a_delta_patches_it(self) -> None:
        events = [
            activity_snapshot({"steps": []}, metadata={"a": 1}, **S1),
            activity_delta(add("/steps/-", 1), activity_type="other", metadata={"b": 2}),
        ]
        assert fold_messages(events) == [
            activity({"steps": [1]}, activity_type="other", metadata={"a": 1, "b": 2}, **S1)
        ]

    def test_a_snapshot_replaces_content_and_owner_but_not_metadata(self) -> None:
        before = [activity({"n": 1}, metadata={"a": 1}, **S1)]
        events = [activity_snapshot({"n": 2}, metadata={"b": 2})]
        assert fold_messages(events, before) == [activity({"n": 2}, metadata={"a": 1, "b": 2})]
        owned = [activity_snapshot({"n": 2}, subagentRunId="s2")]
        assert fold_messages(owned, [activity({"n": 1}, **S1)]) == [
            activity({"n": 2}, subagentRunId="s2")
        ]

    def test_a_snapshot_that_does_not_replace_leaves_the_activity(self) -> None:
        events = [activity_snapshot({"n": 2}, replace=False, metadata={"a": 1})]
        assert fold_messages(events, [activity({"n": 1})]) == [
            activity({"n": 1}, metadata={"a": 1})
        ]
        taken = {**USER, "id": "a"}
        assert fold_messages(events, [taken]) == [taken]
        assert fold_messages(events) == [activity({"n": 2}, metadata={"a": 1})]

    def test_a_snapshot_replaces_a_message_of_another_kind_in_its_place(self) -> None:
        before = [assistant("a", call()), USER]
        events = [
            text("CONTENT", "a", "x"),
            text("CONTENT", "u", "!"),
            activity_snapshot({}, metadata={"k": 1}, **S1),
            tool("ARGS", delta="{"),
        ]
        assert fold_messages(events, before) == [
            activity({}, metadata={"k": 1}, **S1),
            {**USER, "content": "hi!"},
        ]

    def test_a_delta_that_does_not_apply_changes_nothing_but_metadata(self) -> None:
        events = [activity_delta(add("/x/y", 1), activity_type="other", metadata={"a": 1})]
        assert fold_messages(events, [activity({})]) == [activity({}, metadata={"a": 1})]

    def test_a_harmful_delta_that_no_client_is_sent_has_no_effect(self) -> None:
        events = [activity_delta(add("/constructor/x", 1), metadata={"a": 1})]
        assert fold_messages(events, [activity({})]) == [activity({})]

    def test_a_delta_without_an_activity_is_ignored(self) -> None:
        assert fold_messages([activity_delta(add("/x", 1), "u")], [USER]) == [USER]
        assert fold_messages([activity_delta(add("/x", 1))]) == []

    def test_an_activity_without_content_has_empty_content(self) -> None:
        bare = {"id": "a", "role": "activity", "activityType": "plan"}
        assert fold_messages([activity_delta(add("/x", 1))], [bare]) == [activity({"x": 1})]

    def test_streamed_text_and_reasoning_leave_an_activity_alone(self) -> None:
        events = [
            text("START", "a", metadata={"k": 1}),
            text("CONTENT", "a", "x"),
            text("END", "a", metadata={"k": 1}),
            reasoning("START", "a", metadata={"k": 1}),
            reasoning("CONTENT", "a", delta="x"),
            reasoning("END", "a", metadata={"k": 1}),
        ]
        assert fold_messages(events, [activity({"n": 1})]) == [activity({"n": 1})]


class TestSnapshots:
    def test_messages_are_replaced_removed_and_added(self) -> None:
        before = [USER, assistant("gone"), assistant("m", content="old")]
        events = [snapshot(assistant("m", content="new"), assistant("n"), USER)]
        assert fold_messages(events, before) == [
            USER,
            assistant("m", content="new"),
            assistant("n"),
        ]

    def test_activities_and_reasoning_stay_if_the_snapshot_has_none(self) -> None:
        thought = {"id": "z", "role": "reasoning", "content": "hm"}
        before = [activity({}), thought, assistant("gone")]
        assert fold_messages([snapshot(USER)], before) == [activity({}), thought, USER]
        other = activity({}, "other")
        assert fold_messages([snapshot(other)], before) == [thought, other]
        other_thought = {**thought, "id": "other"}
        assert fold_messages([snapshot(other_thought)], before) == [activity({}), other_thought]

    def test_streamed_text_goes_on_in_the_message_of_the_snapshot(self) -> None:
        events = [
            text("START"),
            text("CONTENT", delta="a"),
            reasoning("START"),
            reasoning("CONTENT", delta="hm"),
            tool("START", toolCallName="f"),
            tool("ARGS", delta="{"),
            snapshot(assistant("m", call(arguments="[1"), content="A")),
            text("CONTENT", delta="b"),
            reasoning("CONTENT", delta="!"),
            tool("ARGS", delta="]"),
        ]
        assert fold_messages(events) == [
            assistant("m", call(arguments="[1]"), content="Ab"),
            {"id": "z", "role": "reasoning", "content": "hm!"},
        ]

    def test_a_run_brings_the_messages_of_its_input_that_are_not_there(self) -> None:
        started = {"type": "RUN_STARTED", "input": {"messages": [{**USER, "content": "?"}]}}
        assert fold_messages([started], [USER]) == [USER]
        assert fold_messages([started, started]) == [{**USER, "content": "?"}]
        assert fold_messages([{"type": "RUN_STARTED"}]) == []
        twice = {"type": "RUN_STARTED", "input": {"messages": [USER, {**USER, "content": "?"}]}}
        assert fold_messages([twice]) == [USER]

    def test_a_null_owner_reads_as_none(self) -> None:
        null = {**USER, "subagentRunId": None}
        started = {"type": "RUN_STARTED", "input": {"messages": [null]}}
        assert fold_messages([snapshot(null)]) == fold_messages([started]) == [USER]
        assert fold_messages([], [null]) == [USER]

    def test_a_message_without_an_id_is_left_out(self) -> None:
        started = {"type": "RUN_STARTED", "input": {"messages": ["?", {"id": 1}, USER]}}
        assert fold_messages([started]) == [USER]
        assert fold_messages([{"type": "RUN_STARTED", "input": {"messages": 7}}]) == []


def test_values_that_were_given_or_read_do_not_change() -> None:
    messages = [assistant("m", call(), metadata={"a": 1}), activity({"n": []})]
    events = [
        text("CONTENT", delta="x", metadata={"b": {"c": 1}}),
        tool("ARGS", delta="{"),
        activity_delta(add("/n/-", {"k": 1})),
        activity_delta(add("/n/0/l", 2)),
        snapshot(assistant("m", content="y"), USER),
        text("CONTENT", delta="z", metadata={"b": 2}),
        text("CONTENT", "u", "!"),
    ]
    before = copy.deepcopy((messages, events))
    folder = MessageFolder(messages)
    seen = [folder.messages]
    kept = copy.deepcopy(seen)
    for event in events:
        folder.feed(event)
        seen.append(folder.messages)
        kept.append(copy.deepcopy(seen[-1]))
    assert (messages, events) == before
    assert seen == kept


def test_an_event_of_another_kind_has_no_effect() -> None:
    assert fold_messages([{"type": "STATE_DELTA"}, {"type": "FROM_THE_FUTURE"}], [USER]) == [USER]
