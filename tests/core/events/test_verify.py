"""Each rule of the order of events, and the reference's message when it is broken."""

from __future__ import annotations

from typing import Any

import pytest

from sansio_copilot.events import EventError, Verifier, verify_events

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
ERROR = {"type": "RUN_ERROR", "message": "no"}
RAW = {"type": "RAW", "event": 1}
PARENT = "(the parent agent)"


def text(what: Any, message_id: Any = "m", **fields: Any) -> Any:
    delta = {"delta": "x"} if what == "CONTENT" else {}
    return {"type": f"TEXT_MESSAGE_{what}", "messageId": message_id, **delta, **fields}


def tool(what: Any, call_id: Any = "c", **fields: Any) -> Any:
    more = {"START": {"toolCallName": "f"}, "ARGS": {"delta": "{"}}.get(what, {})
    return {"type": f"TOOL_CALL_{what}", "toolCallId": call_id, **more, **fields}


def result(message_id: Any, **fields: Any) -> Any:
    return tool("RESULT", messageId=message_id, content="", **fields)


def step(what: Any, name: Any = "plan", **fields: Any) -> Any:
    return {"type": f"STEP_{what}", "stepName": name, **fields}


def reasoning(what: Any, message_id: Any = "z", **fields: Any) -> Any:
    delta = {"delta": "x"} if what == "MESSAGE_CONTENT" else {}
    return {"type": f"REASONING_{what}", "messageId": message_id, **delta, **fields}


def encrypted(subtype: Any, entity_id: Any, **fields: Any) -> Any:
    return {
        "type": "REASONING_ENCRYPTED_VALUE",
        "subtype": subtype,
        "entityId": entity_id,
        "encryptedValue": "e",
        **fields,
    }


def activity(what: Any, message_id: Any = "a", **fields: Any) -> Any:
    more: dict[str, Any] = {"content": {}} if what == "SNAPSHOT" else {"patch": []}
    more["activityType"] = "plan"
    return {"type": f"ACTIVITY_{what}", "messageId": message_id, **more, **fields}


def subagent(what: Any, **fields: Any) -> Any:
    more = {"STARTED": {"name": "n"}, "ERROR": {"message": "no"}}.get(what, {})
    return {"type": f"SUBAGENT_{what}", "subagentRunId": "s1", **more, **fields}


def history(*messages: Any) -> Any:
    return {"type": "MESSAGES_SNAPSHOT", "messages": list(messages)}


def echo(*messages: Any) -> Any:
    return {**STARTED, "input": {"messages": list(messages)}}


S1, S2 = {"subagentRunId": "s1"}, {"subagentRunId": "s2"}


def accepts(*events: Any) -> None:
    verifier = Verifier()
    for event in events:
        verifier.feed(event)


def refuses_last(message: Any, *events: Any) -> None:
    verifier = Verifier()
    for event in events[:-1]:
        verifier.feed(event)
    with pytest.raises(EventError) as caught:
        verifier.feed(events[-1])
    assert str(caught.value) == message


class TestRuns:
    def test_a_run_starts_and_ends(self) -> None:
        accepts(STARTED, FINISHED)
        accepts(STARTED, ERROR)
        accepts(ERROR)
        accepts()

    def test_a_stream_may_hold_several_runs(self) -> None:
        accepts(STARTED, FINISHED, STARTED, ERROR, STARTED, FINISHED, ERROR, STARTED)

    def test_no_event_comes_before_the_start(self) -> None:
        refuses_last("First event must be 'RUN_STARTED'", RAW)
        refuses_last("First event must be 'RUN_STARTED'", FINISHED)

    def test_runs_do_not_overlap(self) -> None:
        refuses_last(
            "Cannot send 'RUN_STARTED' while a run is still active. The previous run must be "
            "finished with 'RUN_FINISHED' before starting a new run.",
            STARTED,
            STARTED,
        )

    def test_only_an_error_or_a_new_run_comes_after_the_end(self) -> None:
        refuses_last(
            "Cannot send event type 'RAW': The run has already finished with 'RUN_FINISHED'. Start "
            "a new run with 'RUN_STARTED'.",
            STARTED,
            FINISHED,
            RAW,
        )

    def test_only_a_new_run_comes_after_an_error(self) -> None:
        for events in ([ERROR], [STARTED, FINISHED, ERROR]):
            refuses_last(
                "Cannot send event type 'RUN_ERROR': The run has already errored with 'RUN_ERROR'. "
                "No further events can be sent.",
                *events,
                ERROR,
            )

    @pytest.mark.parametrize(
        ("event", "noun", "names"),
        [
            (text("START"), "text messages", "m"),
            (tool("START"), "tool calls", "c"),
            (step("STARTED"), "steps", "plan"),
            (step("STARTED", **S1), "steps", "plan (subagent 's1')"),
            (subagent("STARTED"), "subagents", "s1"),
        ],
    )
    def test_a_run_does_not_finish_while_an_entity_is_open(
        self, event: Any, noun: Any, names: Any
    ) -> None:
        refuses_last(
            f"Cannot send 'RUN_FINISHED' while {noun} are still active: {names}",
            STARTED,
            event,
            FINISHED,
        )
        accepts(STARTED, event, ERROR)

    def test_open_entities_are_listed_in_order(self) -> None:
        refuses_last(
            "Cannot send 'RUN_FINISHED' while text messages are still active: b, a",
            STARTED,
            text("START", "b"),
            text("START", "a"),
            FINISHED,
        )

    def test_a_new_run_starts_afresh(self) -> None:
        accepts(STARTED, text("START"), step("STARTED"), ERROR, STARTED, text("START", **S1))

    def test_an_unknown_type_is_no_concern(self) -> None:
        accepts(STARTED, {"type": "FROM_THE_FUTURE"})


class TestMessagesAndToolCalls:
    def test_a_message_has_start_content_and_end(self) -> None:
        accepts(STARTED, text("START"), text("CONTENT"), text("END"), FINISHED)
        accepts(STARTED, tool("START"), tool("ARGS"), tool("END"), result("r"), FINISHED)
        accepts(STARTED, text("START"), text("END"), text("START"), text("END"), FINISHED)

    @pytest.mark.parametrize(
        ("event", "message"),
        [
            (
                text("CONTENT"),
                (
                    "Cannot send 'TEXT_MESSAGE_CONTENT' event: No active text message found with "
                    "ID 'm'. Start a text message with 'TEXT_MESSAGE_START' first."
                ),
            ),
            (
                text("END"),
                (
                    "Cannot send 'TEXT_MESSAGE_END' event: No active text message found with ID "
                    "'m'. A 'TEXT_MESSAGE_START' event must be sent first."
                ),
            ),
            (
                tool("ARGS"),
                (
                    "Cannot send 'TOOL_CALL_ARGS' event: No active tool call found with ID 'c'. "
                    "Start a tool call with 'TOOL_CALL_START' first."
                ),
            ),
            (
                tool("END"),
                (
                    "Cannot send 'TOOL_CALL_END' event: No active tool call found with ID 'c'. "
                    "A 'TOOL_CALL_START' event must be sent first."
                ),
            ),
        ],
    )
    def test_no_event_continues_a_message_that_is_not_open(self, event: Any, message: Any) -> None:
        refuses_last(message, STARTED, event)
        refuses_last(message, STARTED, text("START"), text("END"), event)

    def test_no_entity_opens_twice(self) -> None:
        refuses_last(
            "Cannot send 'TEXT_MESSAGE_START' event: A text message with ID 'm' is already in "
            "progress. Complete it with 'TEXT_MESSAGE_END' first.",
            STARTED,
            text("START"),
            text("START"),
        )
        refuses_last(
            "Cannot send 'TOOL_CALL_START' event: A tool call with ID 'c' is already in progress. "
            "Complete it with 'TOOL_CALL_END' first.",
            STARTED,
            tool("START"),
            tool("START"),
        )


class TestOwners:
    """An entity belongs to who opened it, a subagent or the parent agent."""

    @pytest.mark.parametrize(
        ("noun", "entity", "opening", "later"),
        [
            ("message", "m", text("START"), text("CONTENT")),
            ("message", "m", text("START"), text("END")),
            ("tool call", "c", tool("START"), tool("ARGS")),
            ("tool call", "c", tool("START"), tool("END")),
            ("reasoning message", "z", reasoning("START"), reasoning("MESSAGE_START")),
            ("reasoning message", "z", reasoning("MESSAGE_START"), reasoning("MESSAGE_CONTENT")),
            ("reasoning message", "z", reasoning("MESSAGE_START"), reasoning("MESSAGE_END")),
            ("reasoning message", "z", reasoning("START"), reasoning("END")),
            ("activity", "a", activity("SNAPSHOT"), activity("DELTA")),
            ("tool call", "c", tool("START"), encrypted("tool-call", "c")),
            ("message", "m", text("START"), encrypted("message", "m")),
            ("message", "z", reasoning("START"), encrypted("message", "z")),
            ("reasoning message", "z", reasoning("START"), encrypted("other", "z")),
        ],
    )
    def test_a_continuation_must_not_disagree(
        self, noun: Any, entity: Any, opening: Any, later: Any
    ) -> None:
        for owner, tags in ((PARENT, {}), ("s1", S1)):
            refuses_last(
                f"Cannot send '{later['type']}': subagentRunId 's2' does not match the {noun} "
                f"'{entity}' opener's subagent '{owner}'.",
                STARTED,
                {**opening, **tags},
                {**later, **S2},
            )
        accepts(STARTED, {**opening, **S1}, {**later, **S1})
        accepts(STARTED, {**opening, **S1}, later)

    @pytest.mark.parametrize(
        ("noun", "entity", "opening", "closing"),
        [
            ("message", "m", text("START"), text("END")),
            ("tool call", "c", tool("START"), tool("END")),
        ],
    )
    def test_an_owner_outlives_the_end(
        self, noun: Any, entity: Any, opening: Any, closing: Any
    ) -> None:
        opened = [STARTED, {**opening, **S1}, closing]
        refuses_last(
            f"Cannot send '{opening['type']}': subagentRunId 's2' does not match the {noun} "
            f"'{entity}' opener's subagent 's1'.",
            *opened,
            {**opening, **S2},
        )
        refuses_last(
            f"Cannot send '{closing['type']}': subagentRunId 's2' does not match the {noun} "
            f"'{entity}' opener's subagent 's1'.",
            *opened,
            opening,
            {**closing, **S2},
        )

    def test_an_id_is_unique_only_within_its_kind(self) -> None:
        accepts(
            STARTED,
            text("START", "x", **S1),
            tool("START", "x", **S2),
            text("END", "x", **S1),
            encrypted("message", "x", **S1),
            encrypted("tool-call", "x", **S2),
        )

    def test_an_entity_that_is_not_recorded_belongs_to_nobody(self) -> None:
        accepts(STARTED, activity("DELTA", **S1), encrypted("other", "q", **S1))

    def test_a_tool_call_belongs_to_the_message_that_carries_it(self) -> None:
        opened = [STARTED, text("START", **S1)]
        refuses_last(
            "Cannot send 'TOOL_CALL_START': subagentRunId 's2' does not match its parent message "
            "'m' owner 's1'. A tool call belongs to the message that carries it.",
            *opened,
            tool("START", parentMessageId="m", **S2),
        )
        refuses_last(
            "Cannot send 'TOOL_CALL_ARGS': subagentRunId 's2' does not match the tool call 'c' "
            "opener's subagent 's1'.",
            *opened,
            tool("START", parentMessageId="m"),
            tool("ARGS", **S2),
        )
        accepts(*opened, tool("START", parentMessageId="m", **S1))
        accepts(*opened, tool("START", parentMessageId="unheard of", **S2))

    def test_a_tool_call_does_not_move_to_the_message_of_another_owner(self) -> None:
        refuses_last(
            "Cannot send 'TOOL_CALL_START': tool call 'c' is owned by 's1' but its parent message "
            f"'o' is owned by '{PARENT}'. A tool call belongs to the message that carries it.",
            STARTED,
            text("START", "o"),
            tool("START", **S1),
            tool("END"),
            tool("START", parentMessageId="o"),
        )

    def test_a_result_makes_a_message_that_its_sender_owns(self) -> None:
        for sent, owner in (({}, PARENT), (S1, "s1")):
            refuses_last(
                "Cannot send 'TEXT_MESSAGE_START': subagentRunId 's2' does not match the message "
                f"'r' opener's subagent '{owner}'.",
                STARTED,
                result("r", **S2),
                result("r", **sent),
                text("START", "r", **S2),
            )

    def test_only_a_replacing_snapshot_takes_an_activity_over(self) -> None:
        opened = [STARTED, activity("SNAPSHOT", **S1)]
        accepts(*opened, activity("SNAPSHOT", **S2), activity("DELTA", **S2))
        accepts(*opened, activity("SNAPSHOT", replace=False, **S2), activity("DELTA", **S1))
        accepts(STARTED, activity("SNAPSHOT", replace=False, **S2), activity("DELTA", **S2))

    def test_a_messages_snapshot_says_who_owns_what(self) -> None:
        snapshot = history(
            {"id": "m", "role": "assistant", "toolCalls": [{"id": "c"}, "?"], **S1},
            {"id": "z", "role": "reasoning", **S1},
            {"id": "a", "role": "activity", **S1},
        )
        opened = [STARTED, text("START"), text("END"), snapshot]
        accepts(*opened, text("START", **S1), tool("START", **S1))
        for noun, entity, event in (
            ("message", "m", text("START", **S2)),
            ("tool call", "c", tool("START", **S2)),
            ("reasoning message", "z", reasoning("START", **S2)),
            ("activity", "a", activity("DELTA", **S2)),
        ):
            refuses_last(
                f"Cannot send '{event['type']}': subagentRunId 's2' does not match the {noun} "
                f"'{entity}' opener's subagent 's1'.",
                *opened,
                event,
            )

    def test_the_input_of_a_run_says_who_owns_what_if_nobody_else_has(self) -> None:
        started = echo(
            {"id": "m", "role": "user", "toolCalls": [{"id": "c"}], **S1},
            {"id": "m", "role": "user", "toolCalls": [{"id": "c"}], **S2},
            {"role": "without id"},
        )
        accepts(started, text("START", **S1), tool("START", **S1))
        accepts({**STARTED, "input": None})
        accepts({**STARTED, "input": {"messages": "?"}})


class TestNulls:
    """A subagent's field is there or it is absent; null is neither."""

    def test_no_tag_is_null(self) -> None:
        for event in (RAW, text("START"), subagent("STARTED")):
            refuses_last(
                f"Cannot send '{event['type']}' with 'subagentRunId: null'. The field is optional "
                "— omit it entirely.",
                STARTED,
                {**event, "subagentRunId": None},
            )

    def test_no_tag_of_a_message_is_null(self) -> None:
        message = {"id": "m", "role": "user", "subagentRunId": None}
        text = (
            "Cannot send a message (id 'm') with 'subagentRunId: null'. The field is optional — "
            "omit it entirely."
        )
        refuses_last(text, STARTED, history(message))
        refuses_last(text, echo(message))

    def test_no_tag_of_an_interrupt_is_null(self) -> None:
        def finished(*interrupts: Any) -> Any:
            return {**FINISHED, "outcome": {"type": "interrupt", "interrupts": list(interrupts)}}

        for interrupt, name in (({"id": "i"}, "i"), ({}, "undefined")):
            refuses_last(
                f"Cannot send 'RUN_FINISHED' with an interrupt (id '{name}') carrying "
                "'subagentRunId: null'. The field is optional — omit it entirely.",
                STARTED,
                finished({**interrupt, "subagentRunId": None}),
            )
        accepts(STARTED, finished({"id": "i"}, None))
        accepts(STARTED, {**FINISHED, "outcome": {"type": "interrupt", "interrupts": None}})
        accepts(STARTED, {**FINISHED, "outcome": {"type": "success"}})

    @pytest.mark.parametrize(
        ("what", "field"),
        [
            ("STARTED", "description"),
            ("STARTED", "parentSubagentRunId"),
            ("STARTED", "parentToolCallId"),
            ("STARTED", "parentMessageId"),
            ("FINISHED", "outcome"),
            ("ERROR", "code"),
        ],
    )
    def test_no_optional_field_of_a_subagents_life_is_null(self, what: Any, field: Any) -> None:
        refuses_last(
            f"Cannot send 'SUBAGENT_{what}' with '{field}: null'. The field is optional — omit it "
            "entirely.",
            STARTED,
            subagent(what, **{field: None}),
        )


class TestSteps:
    def test_a_step_starts_and_finishes_once(self) -> None:
        accepts(STARTED, step("STARTED"), step("FINISHED"), step("STARTED"), step("FINISHED"))
        refuses_last(
            "Step \"plan\" is already active for 'STEP_STARTED'",
            STARTED,
            step("STARTED"),
            step("STARTED"),
        )
        refuses_last(
            "Step \"plan\" is already active for 'STEP_STARTED' in subagent 's1'",
            STARTED,
            step("STARTED", **S1),
            step("STARTED", **S1),
        )
        refuses_last(
            "Cannot send 'STEP_FINISHED' for step \"plan\" that was not started",
            STARTED,
            step("STARTED", "other"),
            step("FINISHED"),
        )

    def test_a_subagent_and_its_parent_may_have_steps_of_the_same_name(self) -> None:
        accepts(
            STARTED,
            step("STARTED"),
            step("STARTED", **S1),
            step("FINISHED", **S1),
            step("FINISHED"),
            FINISHED,
        )

    @pytest.mark.parametrize(
        ("started", "finished", "wrong", "right"),
        [
            (S1, {}, "the parent agent", "subagent 's1'"),
            ({}, S1, "subagent 's1'", "the parent agent"),
            (S1, S2, "subagent 's2'", "subagent 's1'"),
        ],
    )
    def test_a_step_is_finished_by_the_agent_that_started_it(
        self, started: Any, finished: Any, wrong: Any, right: Any
    ) -> None:
        refuses_last(
            f"Cannot send 'STEP_FINISHED' for step \"plan\" attributed to {wrong}: that step is "
            f"open under {right}. A step must be finished by whoever started it.",
            STARTED,
            step("STARTED", **started),
            step("FINISHED", **finished),
        )


class TestSubagents:
    def test_a_subagent_starts_and_ends(self) -> None:
        accepts(STARTED, subagent("STARTED"), subagent("FINISHED"), FINISHED)
        accepts(STARTED, subagent("STARTED"), subagent("ERROR"), FINISHED)

    def test_a_child_names_a_parent_that_was_started(self) -> None:
        child = subagent("STARTED", parentSubagentRunId="s1", **S2)
        accepts(STARTED, subagent("STARTED"), child)
        accepts(STARTED, subagent("STARTED"), subagent("FINISHED"), child)
        refuses_last(
            "Cannot send 'SUBAGENT_STARTED': parentSubagentRunId 's1' has not been started in this "
            "run.",
            STARTED,
            child,
        )

    def test_an_id_is_of_one_invocation(self) -> None:
        refuses_last(
            "Cannot send 'SUBAGENT_STARTED': subagent 's1' is already active. Finish it with "
            "'SUBAGENT_FINISHED' first.",
            STARTED,
            subagent("STARTED"),
            subagent("STARTED"),
        )
        refuses_last(
            "Cannot send 'SUBAGENT_STARTED': subagent 's1' has already finished in this run. "
            "Subagent IDs are per-invocation and cannot be reused.",
            STARTED,
            subagent("STARTED"),
            subagent("ERROR"),
            subagent("STARTED"),
        )

    @pytest.mark.parametrize("what", ["FINISHED", "ERROR"])
    def test_only_an_active_subagent_ends(self, what: Any) -> None:
        refuses_last(
            f"Cannot send 'SUBAGENT_{what}': no active subagent found with ID 's1'. A "
            "'SUBAGENT_STARTED' event must be sent first.",
            STARTED,
            subagent(what),
        )

    @pytest.mark.parametrize(
        ("what", "field"),
        [
            ("STARTED", "subagentRunId"),
            ("STARTED", "name"),
            ("FINISHED", "subagentRunId"),
            ("ERROR", "subagentRunId"),
            ("ERROR", "message"),
        ],
    )
    def test_a_subagent_has_required_fields(self, what: Any, field: Any) -> None:
        event = subagent(what)
        del event[field]
        refuses_last(f"Cannot send 'SUBAGENT_{what}' without a '{field}'.", STARTED, event)

    @pytest.mark.parametrize(
        ("outcome", "quoted"),
        [
            ({"type": "no"}, "no"),
            ({"type": None}, "null"),
            ({"type": 5}, "5"),
            ({"type": True}, "true"),
            ({"type": {}}, "[object Object]"),
            ({}, "undefined"),
            ("", "undefined"),
            (False, "undefined"),
        ],
    )
    def test_an_outcome_is_success_or_suspended(self, outcome: Any, quoted: Any) -> None:
        refuses_last(
            f"Cannot send 'SUBAGENT_FINISHED' with outcome type '{quoted}'. The outcome is either "
            '{ type: "success" } or { type: "suspended" }.',
            STARTED,
            subagent("FINISHED", outcome=outcome),
        )

    def test_the_ids_of_interrupts_are_strings(self) -> None:
        def ended(ids: Any) -> Any:
            outcome = {"type": "suspended", "interruptIds": ids}
            return [STARTED, subagent("STARTED"), subagent("FINISHED", outcome=outcome)]

        accepts(*ended(["i"]))
        refuses_last(
            "Cannot send 'SUBAGENT_FINISHED' with 'outcome.interruptIds: null'. The field is "
            "optional — omit it entirely.",
            *ended(None),
        )
        refuses_last(
            "Cannot send 'SUBAGENT_FINISHED' with a non-string entry in 'outcome.interruptIds'. "
            "Interrupt ids are strings.",
            *ended(["i", 1]),
        )


class TestReasoning:
    """Spans and the messages in them; the rules of client 1.0.0."""

    def test_a_reasoning_and_its_message_may_have_one_id(self) -> None:
        accepts(
            STARTED,
            reasoning("START"),
            reasoning("MESSAGE_START"),
            reasoning("MESSAGE_CONTENT"),
            reasoning("MESSAGE_END"),
            reasoning("MESSAGE_START"),
            reasoning("MESSAGE_END"),
            reasoning("END"),
            FINISHED,
        )

    @pytest.mark.parametrize(
        ("events", "reason"),
        [
            (
                [reasoning("START"), reasoning("START")],
                "A reasoning span with ID 'z' is already in progress. Complete it with "
                "'REASONING_END' first.",
            ),
            (
                [reasoning("MESSAGE_START"), reasoning("MESSAGE_START")],
                "A reasoning message with ID 'z' is already in progress. Complete it with "
                "'REASONING_MESSAGE_END' first.",
            ),
            (
                [reasoning("START"), reasoning("MESSAGE_CONTENT")],
                "No active reasoning message found with ID 'z'. Start a reasoning message with "
                "'REASONING_MESSAGE_START' first.",
            ),
            (
                [reasoning("START"), reasoning("MESSAGE_END")],
                "No active reasoning message found with ID 'z'. Start a reasoning message with "
                "'REASONING_MESSAGE_START' first.",
            ),
            (
                [reasoning("MESSAGE_START"), reasoning("END")],
                "No active reasoning span found with ID 'z'. A 'REASONING_START' event must be "
                "sent first.",
            ),
        ],
    )
    def test_reasoning_events_out_of_order_are_refused(self, events: Any, reason: Any) -> None:
        refuses_last(f"Cannot send '{events[-1]['type']}' event: {reason}", STARTED, *events)

    @pytest.mark.parametrize(
        ("opening", "noun", "end"),
        [
            (reasoning("START"), "spans", "REASONING_END"),
            (reasoning("MESSAGE_START"), "messages", "REASONING_MESSAGE_END"),
        ],
    )
    def test_no_run_finishes_while_reasoning_is_open(
        self, opening: Any, noun: Any, end: Any
    ) -> None:
        refuses_last(
            f"Cannot send 'RUN_FINISHED' while reasoning {noun} are still active: z",
            STARTED,
            opening,
            FINISHED,
        )
        accepts(
            STARTED, opening, ERROR, STARTED, opening, {"type": end, "messageId": "z"}, FINISHED
        )
        verifier = Verifier()
        for event in (STARTED, opening):
            verifier.feed(event)
        assert verifier.closers() == [{"type": end, "messageId": "z"}]


def test_a_list_is_checked_for_shape_too() -> None:
    with pytest.raises(EventError, match="TEXT_MESSAGE_START needs 'messageId' to be a string"):
        verify_events([STARTED, {"type": "TEXT_MESSAGE_START"}])
