"""All event machines at once, event by event, beside models that know nothing but lists."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.model_events import (
    conversation_after,
    is_running,
    kept_deltas,
    last_run,
    may_follow,
    open_ids,
    open_steps,
    state_after,
)

from sansio_copilot.events import (
    ChunkExpander,
    Compactor,
    EventError,
    Finalizer,
    MessageFolder,
    StateFolder,
    Verifier,
    compact_events,
    finalize_events,
    fold_messages,
    fold_state,
    normalize_event,
    verify_events,
)
from sansio_copilot.runs.delta_shortcut import DELTAS

Event = dict[str, Any]

MESSAGES, CALLS = st.sampled_from(["m1", "m2"]), st.sampled_from(["c1", "c2"])
STEPS, TEXTS = st.sampled_from(["p", "q"]), st.sampled_from(["", "a", "b😀", "\ud800"])
TAGS = st.sampled_from([{}, {}, {}, {"subagentRunId": "s1"}])
# The events of each type have the fields that matter for its order, and metadata.
METADATA: st.SearchStrategy[Event] = st.just({}) | st.builds(
    lambda key, value: {"metadata": {key: value}}, st.sampled_from("kl"), st.integers(0, 2)
)
PATCHES = st.lists(
    st.sampled_from(
        [
            {"op": "add", "path": "/list", "value": []},
            {"op": "add", "path": "/list/-", "value": {"k": 1}},
            {"op": "replace", "path": "/list/0/k", "value": 2},
            {"op": "remove", "path": "/list/0"},
            {"op": "copy", "from": "/list", "path": "/copy"},
            {"op": "add", "path": "/no/such/place", "value": 1},
        ]
    ),
    min_size=1,
    max_size=2,
)
PARENTS = st.sampled_from([{}, {"parentMessageId": "m1"}, {"parentMessageId": "m9"}])
WHICH = st.integers(0, 9)
# These events leave a chunked message open. SUBAGENT_STARTED is one of them, because its
# subagentRunId names the subagent that begins, and not the sender.
ENDS_NO_CHUNKS = ("ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA", "SUBAGENT_STARTED")


class EventMachine(RuleBasedStateMachine):
    """The machines say of a stream what the models say, whatever the stream is."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.kept = copy.deepcopy(self.events)
        self.expander, self.verifier = ChunkExpander(), Verifier()
        self.folder, self.state, self.finalizer = MessageFolder(), StateFolder(), Finalizer()
        self.compactor = Compactor()
        # The lanes are what the expander has opened and not ended: lane -> (kind, id).
        self.lanes: dict[str | None, tuple[str, str]] = {}
        self.broken = False

    def say(self, type_: str, *fields: Event) -> None:
        said: Event = {"type": type_}
        for more in fields:
            said.update(more)
        event = normalize_event(said)
        assert event is not None
        if self.broken:
            return
        try:
            expanded = self.expander.feed(event)
        except EventError:
            # The stream is over, and is not what a model has anything to say of.
            self.broken = True
            return
        self.check_expanded(event, list(expanded))
        for one in expanded:
            self.take(one)

    def check_expanded(self, event: Event, expanded: list[Event]) -> None:
        """The expanded events are in order by themselves, and nothing is lost."""
        is_chunk = event["type"].endswith("_CHUNK")
        if not is_chunk:
            assert expanded.pop() is event
        deltas = []
        for one in expanded:
            kind, _, what = one["type"].rpartition("_")
            lane = one.get("subagentRunId")
            entity = (kind, one["toolCallId"] if kind == "TOOL_CALL" else one["messageId"])
            if what == "START":
                assert lane not in self.lanes
                self.lanes[lane] = entity
            elif what == "END":
                assert self.lanes.pop(lane) == entity
            else:
                assert self.lanes[lane] == entity
                deltas.append(one["delta"])
        tag = event.get("subagentRunId")
        if event["type"] in ("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"):
            assert self.lanes == {}
        elif not is_chunk and event["type"] not in ENDS_NO_CHUNKS:
            assert tag not in self.lanes
        if is_chunk:
            assert deltas == ([event["delta"]] if "delta" in event else deltas and [""])

    def take(self, event: Event) -> None:
        allowed = may_follow(self.events, event)
        try:
            self.verifier.feed(event)
        except EventError:
            assert not allowed, f"{event} was refused"
            return
        assert allowed, f"{event} was let through"
        if event["type"] == "RUN_STARTED":
            self.finalizer = Finalizer()
        self.events.append(event)
        self.kept.append(copy.deepcopy(event))
        for feed in (self.folder.feed, self.state.feed, self.compactor.feed):
            feed(event)
        self.finalizer.observe(event)

    # Runs

    @precondition(lambda self: not is_running(self.events))
    @rule()
    def start_run(self) -> None:
        self.say("RUN_STARTED", {"threadId": "t", "runId": "r"})

    @rule(which=WHICH)
    def end_run(self, which: int) -> None:
        """Now and then at a wrong moment, as a rule with all that is open ended before."""
        if which > 1:
            for closer in self.verifier.closers():
                self.say(closer["type"], closer)
        self.say("RUN_ERROR" if which == 2 else "RUN_FINISHED", {"message": "m"})

    # Events of streams

    @rule(
        what=st.sampled_from(["START", "CONTENT", "END"]),
        message_id=MESSAGES,
        delta=TEXTS,
        tag=TAGS,
        metadata=METADATA,
    )
    def text(self, what: str, message_id: str, delta: str, tag: Event, metadata: Event) -> None:
        fields = {"messageId": message_id, **({"delta": delta} if what == "CONTENT" else {})}
        self.say(f"TEXT_MESSAGE_{what}", fields, tag, metadata)

    @rule(
        what=st.sampled_from(["START", "ARGS", "END"]),
        call_id=CALLS,
        delta=TEXTS,
        parent=PARENTS,
        tag=TAGS,
        metadata=METADATA,
    )
    def call(
        self, what: str, call_id: str, delta: str, parent: Event, tag: Event, metadata: Event
    ) -> None:
        fields: Event = {"toolCallId": call_id}
        if what == "START":
            fields.update(toolCallName="f", **parent)
        elif what == "ARGS":
            fields["delta"] = delta
        self.say(f"TOOL_CALL_{what}", fields, tag, metadata)

    @precondition(lambda self: is_running(self.events))
    @rule(which=WHICH, delta=TEXTS, metadata=METADATA, ends=st.booleans())
    def go_on(self, which: int, delta: str, metadata: Event, ends: bool) -> None:
        self.go_on_with_what_is_open(which, delta, metadata, ends=ends)

    def go_on_with_what_is_open(
        self, which: int, delta: str, metadata: Event, *, ends: bool
    ) -> None:
        """The stream has few errors, so that it gets far."""
        kinds = {"TEXT_MESSAGE": ("messageId", "CONTENT"), "TOOL_CALL": ("toolCallId", "ARGS")}
        ready = [(kind, id_) for kind in kinds for id_ in open_ids(self.events, kind)]
        if ready:
            kind, entity_id = ready[which % len(ready)]
            field, goes_on = kinds[kind]
            content = {} if ends else {"delta": delta}
            what = "END" if ends else goes_on
            self.say(f"{kind}_{what}", {field: entity_id}, content, metadata)

    @precondition(lambda self: is_running(self.events))
    @rule(which=WHICH, delta=TEXTS, metadata=METADATA, further=st.lists(TEXTS, max_size=2))
    def go_on_by_the_shortcut(
        self, which: int, delta: str, metadata: Event, further: list[str]
    ) -> None:
        """A further delta is the same as one that is fed, while nothing else comes in between."""
        before = len(self.events)
        self.go_on_with_what_is_open(which, delta, metadata, ends=False)
        last = self.events[-1]
        # A delta that was refused leaves an older event the last one, which has been looked at.
        if len(self.events) > before and last["type"] in DELTAS:
            takers = [machine.continuation(last) for machine in (self.folder, self.compactor)]
            plain = {key: value for key, value in last.items() if key != "metadata"}
            for more in further:
                for take in takers:
                    assert take is not None
                    take(more)
                self.events.append({**plain, "delta": more})
                self.kept.append({**plain, "delta": more})

    @rule(
        kind=st.sampled_from(["TEXT_MESSAGE", "TOOL_CALL", "REASONING_MESSAGE"]),
        named=st.booleans(),
        which=st.sampled_from("12"),
        delta=st.just({}) | st.builds(lambda delta: {"delta": delta}, TEXTS),
        tag=TAGS,
        metadata=METADATA,
    )
    def chunk(
        self, kind: str, named: bool, which: str, delta: Event, tag: Event, metadata: Event
    ) -> None:
        fields: Event = {"toolCallName": "g"} if kind == "TOOL_CALL" else {}
        if named:
            field = "toolCallId" if kind == "TOOL_CALL" else "messageId"
            fields[field] = {"TEXT_MESSAGE": "k", "TOOL_CALL": "d"}.get(kind, "z") + which
        elif all(open_kind != kind for open_kind, _ in self.lanes.values()):
            return
        self.say(f"{kind}_CHUNK", fields, delta, tag, metadata)

    # Events that come whole

    @rule(call_id=CALLS, result=st.sampled_from(["r1", "r2"]), tag=TAGS)
    def result(self, call_id: str, result: str, tag: Event) -> None:
        if all(e.get("messageId") != result for e in self.events):
            fields = {"toolCallId": call_id, "messageId": result, "content": "ok"}
            self.say("TOOL_CALL_RESULT", fields, tag)

    @rule(snapshot=st.sampled_from([{"list": [{}]}, {}, None, 1]), metadata=METADATA)
    def set_state(self, snapshot: Any, metadata: Event) -> None:
        self.say("STATE_SNAPSHOT", {"snapshot": snapshot}, metadata)

    @rule(delta=PATCHES, metadata=METADATA)
    def change_state(self, delta: Any, metadata: Event) -> None:
        self.say("STATE_DELTA", {"delta": delta}, metadata)

    @rule(kind=st.sampled_from("xy"), replace=st.sampled_from([{}, {"replace": False}]), tag=TAGS)
    def show_activity(self, kind: str, replace: Event, tag: Event) -> None:
        fields = {"messageId": "a1", "activityType": kind, "content": {"list": []}}
        self.say("ACTIVITY_SNAPSHOT", fields, replace, tag)

    @rule(kind=st.sampled_from("xy"), patch=PATCHES, metadata=METADATA)
    def change_activity(self, kind: str, patch: Any, metadata: Event) -> None:
        fields = {"messageId": "a1", "activityType": kind, "patch": patch}
        self.say("ACTIVITY_DELTA", fields, metadata)

    @rule(what=st.sampled_from(["STARTED", "FINISHED"]), name=STEPS, tag=TAGS)
    def step(self, what: str, name: str, tag: Event) -> None:
        self.say(f"STEP_{what}", {"stepName": name}, tag)

    @rule(what=st.sampled_from(["STARTED", "STARTED", "FINISHED", "ERROR"]))
    def subagent(self, what: str) -> None:
        self.say(f"SUBAGENT_{what}", {"subagentRunId": "s1", "name": "n", "message": "m"})

    @rule(value=st.integers(0, 3))
    def custom(self, value: int) -> None:
        self.say("CUSTOM", {"name": "n", "value": value})

    # Invariants

    @invariant()
    def the_conversation_is_the_models(self) -> None:
        assert self.folder.messages == conversation_after(self.events)

    @invariant()
    def the_state_is_the_models(self) -> None:
        assert self.state.state == self.compactor.state == state_after(self.events)

    @invariant()
    def what_is_open_can_be_closed(self) -> None:
        if is_running(self.events):
            verify_events([*self.events, *self.verifier.closers(), {"type": "RUN_FINISHED"}])
            assert len(self.verifier.closers()) >= len(open_steps(self.events))

    @invariant()
    def no_machine_changes_what_it_is_given(self) -> None:
        assert self.events == self.kept

    def teardown(self) -> None:
        self.finalizing_ends_what_is_open()
        self.compacting_changes_nothing_that_can_be_seen()

    def finalizing_ends_what_is_open(self) -> None:
        run = last_run(self.events)
        closing = self.finalizer.finalize()
        assert closing == finalize_events(run)
        verify_events([*self.events, *closing])
        assert bool(closing) == (is_running(self.events) or not self.events)
        ended = [event["messageId"] for event in closing if event["type"] == "TEXT_MESSAGE_END"]
        assert ended == open_ids(self.events, "TEXT_MESSAGE")
        assert finalize_events([*run, *closing]) == []

    def compacting_changes_nothing_that_can_be_seen(self) -> None:
        once = self.compactor.finish()
        assert once == compact_events(self.events)
        kept = [event for event in once if event["type"] == "STATE_DELTA"]
        assert (kept, self.compactor.skipped) == kept_deltas(self.events)
        assert fold_state(once) == state_after(self.events)
        assert fold_messages(once) == conversation_after(self.events)
        twice = compact_events(once)
        assert compact_events(twice) == twice
        if not is_running(self.events) and not open_ids(self.events, "TEXT_MESSAGE"):
            verify_events(once)
        # The snapshot of the state that kept deltas begin with may be added.
        assert len(once) <= len(self.events) + bool(kept)


TestEventMachine = EventMachine.TestCase
TestEventMachine.settings = settings(max_examples=60, stateful_step_count=40)
