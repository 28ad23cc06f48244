"""Run: the state machine of an agent's run, driven by hand."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ag_ui.core import RunAgentInput
from support.owner import history_of, threads_of

from sansio_copilot import (
    AgentContext,
    Limits,
    LocalProtocolError,
    MemoryStore,
    Request,
    Run,
    RunState,
    StoreUnavailable,
    agui_agent,
)
from sansio_copilot.actions import Pause, PullEvent, RunAction, RunOver, StoreCall
from sansio_copilot.runs.audience import Audience
from sansio_copilot.runs.outage import Outage
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.runs.states import CALLS
from sansio_copilot.sse import Parser
from sansio_copilot.stores import Batch
from sansio_copilot.stores.calls import renew
from sansio_copilot.stores.protocol import RunOpened, RunRequest, Signal

STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
TEXT = {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}


def delta(text: str) -> dict[str, Any]:
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": text}


INPUT = {
    "threadId": "t",
    "runId": "r",
    "state": {},
    "messages": [],
    "tools": [],
    "context": [],
    "forwardedProps": {},
}


def agent(input: RunAgentInput, context: AgentContext) -> Iterator[dict[str, Any]]:
    yield {"type": "CUSTOM", "name": input.run_id, "value": context.agent_id}


class Bench:
    """A run, and the log that it writes."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        opened = self.store.open_run(RunRequest("t", "r", "default"))
        assert isinstance(opened, RunOpened)
        self.opened = opened
        self.context = AgentContext("default", Request("POST", "/"))
        self.run = Run(
            agent,
            RunAgentInput.model_validate(INPUT),
            self.context,
            self.store,
            opened.key,
            RunRecorder(opened.key, None),
        )

    @property
    def state(self) -> RunState:
        return self.run.state

    def perform(self, action: RunAction | None, now: float = 1.0) -> RunAction:
        """Make the store call that ``action`` is, and report its outcome."""
        assert isinstance(action, StoreCall)
        return self.run.stored(action.function(*action.args), now)

    def pulling(self, *events: dict[str, Any]) -> Bench:
        """Start, and store ``events``."""
        assert self.run.start(1.0) == PullEvent()
        for event in events:
            assert isinstance(self.perform(self.run.event(event, 1.0)), PullEvent)
        return self

    def storing(self) -> Bench:
        self.pulling()
        action = self.run.event(STARTED, 1.0)
        assert isinstance(action, StoreCall)
        action.function(*action.args)
        return self

    def closing(self) -> Bench:
        self.pulling(STARTED)
        self.run.agent_ended(1.0)
        return self

    def waiting(self) -> Bench:
        self.closing()
        assert isinstance(self.run.store_failed(StoreUnavailable(), 1.0), Pause)
        return self

    def over(self) -> Bench:
        self.closing().run.stored(None, 1.0)
        return self

    def logged(self) -> list[str]:
        """The types of the events in the log, and ``"end"`` if it has ended."""
        batch = self.store.read(self.opened.cursor, 1 << 20)
        assert isinstance(batch, Batch)
        types = [event.data.split('"')[3] for event in Parser().feed(batch.data)]
        return [*types, "end"] if batch.ended else types


def test_a_run_says_which_loop_its_agent_needs() -> None:
    bench = Bench()
    assert bench.run.loop is None
    bench.run.agent = agui_agent(lambda input: iter(()), loop="asyncio")
    assert bench.run.loop == "asyncio"


IN_STATE: dict[RunState, Callable[[], Bench]] = {
    RunState.IDLE: Bench,
    RunState.PULLING: lambda: Bench().pulling(),
    RunState.STORING: lambda: Bench().storing(),
    RunState.CLOSING: lambda: Bench().closing(),
    RunState.WAITING: lambda: Bench().waiting(),
    RunState.OVER: lambda: Bench().over(),
}
PERFORM: dict[str, Callable[[Run], RunAction | None]] = {
    "start": lambda run: run.start(1.0),
    "event": lambda run: run.event(STARTED, 1.0),
    "agent_ended": lambda run: run.agent_ended(1.0),
    "check": lambda run: run.check(),
    "settle": lambda run: run.settle(1.0),
    "flush": lambda run: run.flush(1.0),
    "signalled": lambda run: run.signalled(Signal.STOP, 1.0),
    "resume": lambda run: run.resume(1.0),
    "interrupt": lambda run: run.interrupt(1.0, "bye"),
    "abandon": lambda run: run.abandon(1.0),
    "stored": lambda run: run.stored(Signal.CONTINUE, 1.0),
    "store_failed": lambda run: run.store_failed(OSError("disk"), 1.0),
}


class TestStates:
    def test_every_call_and_every_state_is_tried(self) -> None:
        assert PERFORM.keys() == CALLS.keys()
        assert IN_STATE.keys() == set(RunState)

    @pytest.mark.parametrize("state", RunState)
    def test_each_state_can_be_reached(self, state: RunState) -> None:
        assert IN_STATE[state]().state is state

    @pytest.mark.parametrize(
        ("call", "state"),
        [(call, state) for call in CALLS for state in RunState if state in CALLS[call]],
    )
    def test_an_allowed_call_gives_the_next_action(self, call: str, state: RunState) -> None:
        bench = IN_STATE[state]()
        action = PERFORM[call](bench.run)
        if action is None:
            assert call in ("check", "signalled", "flush", "interrupt", "abandon")
            assert bench.state is state
            return
        following = {PullEvent: {RunState.PULLING}, RunOver: {RunState.OVER}}.get(
            type(action), {RunState.STORING, RunState.CLOSING}
        )
        assert bench.state in following

    @pytest.mark.parametrize(
        ("call", "state"),
        [(call, state) for call in CALLS for state in RunState if state not in CALLS[call]],
    )
    def test_any_other_call_is_refused_and_changes_nothing(
        self, call: str, state: RunState
    ) -> None:
        bench = IN_STATE[state]()
        log = bench.logged()
        with pytest.raises(LocalProtocolError) as caught:
            PERFORM[call](bench.run)
        assert str(caught.value) == f"Run.{call} is not allowed in state {state.name}"
        assert bench.state is state
        assert bench.logged() == log

    def test_a_run_that_is_over_allows_nothing_but_a_check_in_vain(self) -> None:
        assert {call for call, states in CALLS.items() if RunState.OVER in states} == {
            "abandon",
            "check",
            "flush",
            "interrupt",
            "signalled",
        }
        assert Bench().over().run.check() is None
        assert Bench().over().run.flush(1.0) is None
        assert Bench().over().run.interrupt(1.0, "bye") is None


class TestEvents:
    def test_the_agent_gets_its_input_and_context(self) -> None:
        [event] = Bench().run.events()
        assert event == {"type": "CUSTOM", "name": "r", "value": "default"}

    def test_each_event_is_appended_and_the_next_is_pulled(self) -> None:
        bench = Bench().pulling()
        action = bench.run.event(STARTED, 1.0)
        assert isinstance(action, StoreCall)
        assert action.function == bench.store.append
        assert action.args[0] == bench.opened.key
        assert action.blocking is False
        assert bench.perform(action) == PullEvent()
        assert bench.logged() == ["RUN_STARTED"]

    def test_a_run_that_waits_for_its_agent_does_not_keep_what_it_has_stored(self) -> None:
        bench = Bench().pulling()
        action = bench.run.event(STARTED, 1.0)
        assert bench.run in gc.get_referrers(action)
        bench.perform(action)
        assert bench.run not in gc.get_referrers(action)

    def test_a_store_that_blocks_is_called_in_a_thread(self) -> None:
        class Disk(MemoryStore):
            blocking = True

        assert renew(Disk(), Bench().opened.key).blocking is True

    def test_an_event_that_is_dropped_costs_no_call(self, caplog: pytest.LogCaptureFixture) -> None:
        bench = Bench().pulling()
        assert bench.run.event({"type": "UNKNOWN"}, 1.0) == PullEvent()
        assert bench.logged() == []
        assert len(caplog.messages) == 1

    def test_the_terminal_event_brings_the_result(self) -> None:
        bench = Bench().pulling(STARTED)
        action = bench.run.event(FINISHED, 5.0)
        assert isinstance(action, StoreCall)
        result = action.args[3]
        assert result.ended_at == 5.0
        # The agent may have more to say, and is asked for it.
        assert bench.perform(action) == PullEvent(bench.run.limits.cleanup_seconds)

    def test_an_event_that_breaks_a_rule_ends_the_run(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench().pulling(STARTED)
        action = bench.run.event(STARTED, 1.0)
        assert bench.state is RunState.CLOSING
        assert bench.context.stop_requested is True
        assert bench.perform(action) == RunOver("cancel")
        assert bench.logged() == ["RUN_STARTED", "RUN_ERROR", "end"]
        [message] = caplog.messages
        assert message.startswith("agent 'default' broke a rule of AG-UI, its run ends: ")

    def test_events_before_the_broken_rule_are_logged(self) -> None:
        bench = Bench().pulling(STARTED)
        chunk = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "Hi"}
        bench.perform(bench.run.event(chunk, 1.0))
        bench.perform(bench.run.event(STARTED, 1.0))
        assert bench.logged()[-3:] == ["TEXT_MESSAGE_END", "RUN_ERROR", "end"]


class TestBatches:
    """Events that come in quick succession are appended together, if the binding wants that."""

    def batching(self) -> Bench:
        bench = Bench()
        bench.run.batch_seconds = 0.5
        return bench.pulling(STARTED)

    def test_an_event_that_comes_soon_waits_for_others(self) -> None:
        bench = self.batching()
        assert bench.run.event(TEXT, 1.4) == PullEvent(flush=0.5)
        assert bench.run.event(delta("a"), 1.4) == PullEvent()
        assert bench.logged() == ["RUN_STARTED"]

    def test_an_event_that_comes_later_is_appended_with_those_that_wait(self) -> None:
        bench = self.batching()
        bench.run.event(TEXT, 1.4)
        assert bench.perform(bench.run.event(delta("a"), 1.5), 1.5) == PullEvent()
        assert bench.logged() == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
        assert bench.run.event(delta("b"), 1.9) == PullEvent(flush=0.5)

    def test_events_wait_until_they_are_flushed(self) -> None:
        bench = self.batching()
        assert bench.run.flush(1.0) is None
        bench.run.event(TEXT, 1.4)
        assert bench.perform(bench.run.flush(1.5)) == PullEvent()
        assert bench.logged() == ["RUN_STARTED", "TEXT_MESSAGE_START"]

    def test_events_wait_until_there_are_many(self) -> None:
        bench = self.batching()
        bench.run.event(TEXT, 1.0)
        bench.perform(bench.run.event(delta("a" * 64 * 1024), 1.0))
        assert bench.logged() == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]

    def test_neither_the_terminal_event_nor_those_behind_it_wait(self) -> None:
        bench = self.batching()
        bench.run.event({"type": "CUSTOM", "name": "n", "value": 1}, 1.0)
        assert bench.run.event(FINISHED, 1.0) == PullEvent(flush=0.0)
        assert bench.perform(bench.run.flush(1.0)) == PullEvent(bench.run.limits.cleanup_seconds)
        assert bench.logged() == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]
        bench.perform(bench.run.event(STARTED, 1.0))
        assert bench.logged()[-1] == "RUN_STARTED"

    def test_the_terminal_event_is_appended_by_the_close_if_the_agent_ends_at_once(self) -> None:
        bench = self.batching()
        bench.run.event({"type": "CUSTOM", "name": "n", "value": 1}, 1.0)
        bench.run.event(FINISHED, 1.0)
        closing = bench.run.agent_ended(1.0)
        assert isinstance(closing, StoreCall)
        assert closing.name == "store method close_run"
        assert bench.perform(closing) == RunOver("done")
        assert bench.logged() == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED", "end"]

    def test_events_behind_the_terminal_event_are_appended_with_it(self) -> None:
        bench = self.batching()
        bench.run.event(FINISHED, 1.0)
        assert bench.run.event(STARTED, 1.0) == PullEvent()
        bench.perform(bench.run.flush(1.0))
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "RUN_STARTED"]
        assert history_of(bench.store, "t").frames == b""

    def test_an_event_that_is_first_and_last_does_not_wait(self) -> None:
        bench = Bench()
        bench.run.batch_seconds = 0.5
        bench.pulling()
        bench.perform(bench.run.event({"type": "RUN_ERROR", "message": "no"}, 1.0))
        assert bench.logged() == ["RUN_STARTED", "RUN_ERROR"]

    @pytest.mark.parametrize("end", ["agent_ended", "interrupt"])
    def test_events_wait_until_the_run_ends(self, end: str) -> None:
        bench = self.batching()
        bench.run.event(TEXT, 1.0)
        bench.perform(PERFORM[end](bench.run))
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR", "end"]
        assert bench.logged() == types

    def test_a_broken_rule_does_not_lose_events_that_wait(self) -> None:
        bench = self.batching()
        bench.run.event(TEXT, 1.0)
        bench.perform(bench.run.event(STARTED, 1.0))
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR", "end"]
        assert bench.logged() == types

    def test_a_check_does_not_lose_events_that_wait(self) -> None:
        bench = self.batching()
        bench.run.event(TEXT, 1.0)
        check = bench.run.check()
        assert bench.run.flush(1.0) is None
        bench.perform(bench.perform(check))
        assert bench.logged() == ["RUN_STARTED", "TEXT_MESSAGE_START"]

    def test_a_stop_does_not_lose_events_that_wait(self) -> None:
        bench = self.batching()
        bench.run.event(TEXT, 1.0)
        bench.store.request_stop("t", None)
        bench.perform(bench.perform(bench.run.check()))
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_FINISHED", "end"]
        assert bench.logged() == types

    def test_a_store_that_fails_does_not_lose_events_that_wait(self) -> None:
        bench = self.batching()
        bench.run.event(TEXT, 1.0)
        bench.run.event(delta("a"), 1.5)
        bench.perform(bench.run.store_failed(OSError("disk"), 1.5))
        assert bench.logged()[:3] == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
        assert bench.logged()[-2:] == ["RUN_ERROR", "end"]


class TestEndThatIsClosed:
    """The terminal event is appended by the call that closes the log, which fails."""

    def closing(self) -> tuple[Bench, RunAction]:
        bench = Bench()
        bench.run.batch_seconds = 0.5
        bench.pulling(STARTED)
        bench.run.event(FINISHED, 1.0)
        bench.run.agent_ended(1.0)
        return bench, bench.run.store_failed(OSError("disk"), 1.0)

    def test_the_terminal_event_is_appended_alone_for_its_readers(self) -> None:
        bench, appending = self.closing()
        assert bench.state is RunState.STORING
        assert bench.perform(bench.perform(appending)) == RunOver("done")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]

    def test_readers_have_the_terminal_event_though_the_log_is_not_closed(self) -> None:
        bench, appending = self.closing()
        assert isinstance(appending, StoreCall)
        closing = bench.run.stored(appending.function(*appending.args), 1.0)
        assert isinstance(closing, StoreCall)
        assert closing.name == "store method close_run"
        assert bench.run.store_failed(OSError("disk"), 1.0) == RunOver("done")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED"]

    def test_a_store_that_takes_nothing_is_given_up(self) -> None:
        bench, _ = self.closing()
        closing = bench.run.store_failed(OSError("disk"), 1.0)
        assert isinstance(closing, StoreCall)
        assert closing.name == "store method close_run"
        assert bench.run.store_failed(OSError("disk"), 1.0) == RunOver("done")
        assert bench.logged() == ["RUN_STARTED"]

    def test_a_store_that_is_away_meanwhile_is_waited_for(self) -> None:
        bench, _ = self.closing()
        bench.run.limits = Limits(outage_seconds=10)
        assert isinstance(bench.run.store_failed(StoreUnavailable(), 1.0), Pause)
        assert bench.state is RunState.WAITING
        assert bench.perform(bench.perform(bench.run.resume(2.0))) == RunOver("done")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]

    def test_a_close_that_had_its_effect_is_ours(self) -> None:
        bench, _ = self.closing()
        assert bench.run.stored(Signal.SEALED, 1.0) == RunOver("done")
        assert bench.run.course.is_sealed is False


class TestEnd:
    def test_an_agent_that_finished_leaves_history(self) -> None:
        bench = Bench().pulling(STARTED, FINISHED)
        assert bench.perform(bench.run.agent_ended(1.0)) == RunOver("done")
        assert bench.state is RunState.OVER
        assert bench.context.stop_requested is False
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]
        assert history_of(bench.store, "t").frames.count(b"data:") == 2

    def test_an_agent_that_just_ends_gets_a_terminal_event(self) -> None:
        bench = Bench().pulling(STARTED, TEXT)
        assert bench.perform(bench.run.agent_ended(1.0)) == RunOver("done")
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR", "end"]
        assert bench.logged() == types

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (ValueError("no luck"), "no luck"),
            (ValueError(), "ValueError"),
            (ValueError(""), "ValueError"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
        ],
    )
    def test_an_agent_that_fails_says_why(
        self, error: BaseException, message: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench().pulling(STARTED)
        action = bench.run.agent_ended(1.0, error)
        assert isinstance(action, StoreCall)
        assert b'"message":"%s"' % message.encode() in action.args[2]
        assert bench.perform(action) == RunOver("done")
        [record] = caplog.records
        assert record.getMessage() == "agent 'default' failed"
        assert record.exc_info is not None
        assert record.exc_info[1] is error

    def test_an_agent_that_fails_before_its_first_event_leaves_nothing(self) -> None:
        bench = Bench().pulling()
        bench.perform(bench.run.agent_ended(1.0, ValueError("no luck")))
        assert bench.logged() == ["RUN_ERROR", "end"]
        assert threads_of(bench.store) == []

    def test_a_shutdown_ends_a_run_from_outside(self) -> None:
        bench = Bench().pulling(STARTED, TEXT)
        action = bench.run.interrupt(1.0, "The server is shutting down")
        assert bench.context.stop_requested is True
        assert isinstance(action, StoreCall)
        assert b'"message":"The server is shutting down"' in action.args[2]
        assert bench.perform(action) == RunOver("cancel")
        assert bench.logged()[-2:] == ["RUN_ERROR", "end"]

    def test_a_shutdown_before_the_first_event_leaves_the_question(self) -> None:
        bench = Bench().pulling()
        bench.perform(bench.run.interrupt(1.0, "The server is shutting down"))
        assert bench.logged() == ["RUN_STARTED", "RUN_ERROR", "end"]
        assert len(threads_of(bench.store)) == 1

    def test_a_shutdown_waits_for_a_store_call_in_progress(self) -> None:
        bench = Bench().pulling()
        action = bench.run.event(STARTED, 1.0)
        assert bench.run.interrupt(1.0, "bye") is None
        closing = bench.perform(action)
        assert bench.state is RunState.CLOSING
        assert bench.perform(closing) == RunOver("cancel")
        assert bench.logged() == ["RUN_STARTED", "RUN_ERROR", "end"]

    def test_a_shutdown_ends_no_run_that_has_its_end(self) -> None:
        bench = Bench().pulling(STARTED, FINISHED)
        assert bench.perform(bench.run.interrupt(1.0, "bye")) == RunOver("cancel")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]


class TestPatience:
    """An agent has a moment after its terminal event to go on; then its readers end."""

    def test_patience_begins_with_the_terminal_event_and_ends_with_another(self) -> None:
        bench = Bench().pulling(STARTED)
        assert bench.perform(bench.run.event(FINISHED, 1.0)) == PullEvent(
            bench.run.limits.cleanup_seconds
        )
        assert bench.perform(bench.run.event(STARTED, 1.0)) == PullEvent(None)

    def test_a_run_is_settled_when_patience_ends_and_the_agent_cleans_up(self) -> None:
        bench = Bench().pulling(STARTED, FINISHED)
        assert bench.perform(bench.run.settle(1.0)) == RunOver("drain")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]
        assert bench.context.stop_requested is False


class TestSignals:
    def test_a_check_during_a_store_call_follows_it(self) -> None:
        bench = Bench().pulling()
        action = bench.run.event(STARTED, 1.0)
        assert isinstance(action, StoreCall)
        answer = action.function(*action.args)
        bench.store.request_stop("t", None)
        assert bench.run.check() is None
        # The answer was given before the stop; the check that is due brings it.
        assert bench.perform(bench.run.stored(answer, 1.0)) != PullEvent()
        assert bench.state is RunState.CLOSING

    def test_a_notification_says_all_so_that_the_store_is_not_asked(self) -> None:
        bench = Bench().pulling(STARTED)
        signals: list[Signal] = []
        bench.store.watch_run(bench.opened.key, signals.append)
        bench.store.request_stop("t", None)
        assert signals == [Signal.STOP]
        assert bench.run.signalled(Signal.CONTINUE, 1.0) is None
        assert bench.perform(bench.run.signalled(signals[0], 1.0)) == RunOver("cancel")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]

    @pytest.mark.parametrize("first", [Signal.STOP, Signal.SEALED])
    def test_a_notification_during_a_store_call_follows_it_and_the_last_counts(
        self, first: Signal
    ) -> None:
        bench = Bench().storing()
        assert bench.run.signalled(first, 1.0) is None
        assert bench.run.signalled(Signal.SEALED, 1.0) is None
        assert bench.run.signalled(Signal.STOP, 1.0) is None
        assert bench.run.stored(Signal.CONTINUE, 1.0) == RunOver("drain")

    def test_a_run_that_is_over_has_nothing_to_do(self) -> None:
        assert Bench().over().run.signalled(Signal.STOP, 1.0) is None

    def test_a_check_before_the_start_follows_it(self) -> None:
        bench = Bench()
        bench.store.request_stop("t", None)
        assert bench.run.check() is None
        bench.perform(bench.run.start(1.0))
        assert bench.state is RunState.CLOSING

    def test_a_check_without_a_signal_goes_on(self) -> None:
        bench = Bench().pulling(STARTED)
        action = bench.run.check()
        assert isinstance(action, StoreCall)
        assert action.function == bench.store.renew
        assert bench.perform(action) == PullEvent()

    @pytest.mark.parametrize("through", ["event", "check"])
    def test_a_stop_finishes_the_run(self, through: str) -> None:
        bench = Bench().pulling(STARTED)
        bench.store.request_stop("t", None)
        action = bench.run.event(TEXT, 1.0) if through == "event" else bench.run.check()
        action = bench.perform(action)
        assert bench.state is RunState.CLOSING
        assert bench.context.stop_requested is True
        assert bench.perform(action) == RunOver("cancel")
        text = ["TEXT_MESSAGE_START", "TEXT_MESSAGE_END"] if through == "event" else []
        assert bench.logged() == ["RUN_STARTED", *text, "RUN_FINISHED", "end"]
        assert history_of(bench.store, "t").frames != b""

    def test_a_stop_finishes_a_run_before_its_first_event(self) -> None:
        bench = Bench().pulling()
        bench.store.request_stop("t", None)
        assert bench.perform(bench.perform(bench.run.check())) == RunOver("cancel")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]

    @pytest.mark.parametrize("through", ["event", "check"])
    def test_a_sealed_run_is_drained_and_not_told_to_stop(self, through: str) -> None:
        bench = Bench().pulling(STARTED, FINISHED)
        assert isinstance(bench.store.open_run(RunRequest("t", "next", "default")), RunOpened)
        action = bench.run.event(STARTED, 1.0) if through == "event" else bench.run.check()
        assert bench.perform(action) == RunOver("drain")
        assert bench.state is RunState.OVER
        assert bench.context.stop_requested is False
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]

    def test_a_stop_while_the_agent_cleans_up_adds_nothing(self) -> None:
        bench = Bench().pulling(STARTED, FINISHED)
        bench.store.request_stop("t", None)
        assert bench.perform(bench.perform(bench.run.check())) == RunOver("cancel")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def test_an_error_that_cannot_say_what_it_is_ends_the_run_too() -> None:
    bench = Bench().pulling(STARTED)
    assert bench.perform(bench.run.agent_ended(1.0, Unspeakable())) == RunOver("done")
    assert bench.logged() == ["RUN_STARTED", "RUN_ERROR", "end"]


class TestStoreFailures:
    def test_an_append_that_failed_is_made_good_by_the_close(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.event(TEXT, 1.0)
        error = OSError("disk full")
        action = bench.run.store_failed(error, 2.0)
        assert bench.context.stop_requested is True
        assert isinstance(action, StoreCall)
        assert b"disk full" not in action.args[2]
        assert bench.perform(action) == RunOver("cancel")
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR", "end"]
        assert bench.logged() == types
        [record] = caplog.records
        assert record.getMessage() == "store method append failed in run 'r'"
        assert record.exc_info is not None
        assert record.exc_info[1] is error

    def test_a_failed_first_append_is_made_good_by_the_close(self) -> None:
        bench = Bench().pulling()
        bench.run.event(STARTED, 1.0)
        bench.perform(bench.run.store_failed(OSError(), 2.0))
        assert bench.logged() == ["RUN_STARTED", "RUN_ERROR", "end"]

    def test_a_failed_renewal_repeats_nothing(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.check()
        assert bench.perform(bench.run.store_failed(OSError(), 2.0)) == RunOver("cancel")
        assert bench.logged() == ["RUN_STARTED", "RUN_ERROR", "end"]

    @pytest.mark.parametrize("fate", ["done", "cancel"])
    def test_a_failed_close_is_the_end_all_the_same(
        self, fate: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.ERROR, "sansio_copilot")
        bench = Bench().pulling(STARTED)
        if fate == "done":
            closing = bench.run.agent_ended(1.0)
            # The log is emptied, because it has a warning about the missing terminal event.
            caplog.clear()
        else:
            closing = bench.run.interrupt(1.0, "bye") or PullEvent()
        assert bench.run.store_failed(OSError(), 2.0) == closing
        assert bench.run.store_failed(OSError(), 3.0) == RunOver(fate)  # type: ignore[arg-type]
        assert bench.state is RunState.OVER
        assert caplog.messages == [
            "store method close_run failed in run 'r'",
            "store method close_run failed in run 'r'",
            "run 'r' could not be closed: thread 't' stays busy, and its readers wait, until the "
            "run's lease runs out",
        ]

    def test_a_close_that_returns_something_else_than_it_may_is_a_failed_close(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench().pulling(STARTED)
        closing = bench.run.agent_ended(1.0)
        assert bench.run.stored(0, 2.0) == closing
        assert bench.run.stored(None, 2.0) == RunOver("done")
        said = "store method close_run returned int, expected bool or None"
        assert said in caplog.text

    def test_a_store_that_fails_once_closes_the_run_at_the_second_try(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.agent_ended(1.0)
        assert bench.perform(bench.run.store_failed(OSError(), 2.0)) == RunOver("done")
        assert bench.logged() == ["RUN_STARTED", "RUN_ERROR", "end"]

    def test_a_close_that_follows_a_failed_append_may_fail_once(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.event(TEXT, 1.0)
        bench.run.store_failed(OSError(), 2.0)
        assert bench.perform(bench.run.store_failed(OSError(), 2.0)) == RunOver("cancel")
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR", "end"]
        assert bench.logged() == types


class TestOutages:
    """A store that is unavailable is asked again, and the agent goes on meanwhile."""

    def test_the_agent_goes_on_and_its_frames_are_held(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.event(TEXT, 1.0)
        assert bench.run.store_failed(StoreUnavailable("no route"), 1.0) == PullEvent(flush=0.05)
        assert bench.run.event(delta("a"), 1.0) == PullEvent(flush=0.1)
        assert bench.logged() == ["RUN_STARTED"]
        assert bench.perform(bench.run.flush(1.1)) == PullEvent()
        assert bench.logged() == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
        assert isinstance(bench.perform(bench.run.event(delta("b"), 1.2)), PullEvent)

    def test_an_outage_is_told_from_its_beginning_to_its_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench().pulling(STARTED)
        caplog.set_level(logging.DEBUG)
        bench.run.event(TEXT, 1.0)
        bench.run.store_failed(StoreUnavailable("no route"), 1.0)
        bench.run.flush(1.05)
        bench.run.store_failed(StoreUnavailable("no route"), 1.05)
        bench.perform(bench.run.flush(1.15))
        bench.perform(bench.run.event(delta("a"), 1.2))
        run = bench.run.key.run_id
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("WARNING", f"the thread store is unavailable, run {run!r} waits for it: no route"),
            ("DEBUG", f"run {run!r} asks the thread store again in 0.05 s"),
            ("DEBUG", f"run {run!r} asks the thread store again in 0.10 s"),
            ("INFO", f"the thread store answers again, run {run!r} goes on"),
        ]

    def test_an_append_whose_answer_was_lost_is_not_doubled(self) -> None:
        bench = Bench().pulling(STARTED)
        action = bench.run.event(TEXT, 1.0)
        assert isinstance(action, StoreCall)
        action.function(*action.args)
        bench.run.store_failed(StoreUnavailable(), 1.0)
        bench.run.event(delta("a"), 1.0)
        bench.perform(bench.run.flush(1.1))
        assert bench.logged() == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]

    def test_an_append_that_failed_for_good_is_not_doubled(self) -> None:
        bench = Bench().pulling(STARTED)
        action = bench.run.event(TEXT, 1.0)
        assert isinstance(action, StoreCall)
        action.function(*action.args)
        bench.perform(bench.run.store_failed(OSError(), 1.0))
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR", "end"]
        assert bench.logged() == types

    def test_a_call_that_was_given_up_has_taken_its_time(self) -> None:
        class GivenUp(TimeoutError, StoreUnavailable):
            pass

        bench = Bench().pulling(STARTED)
        bench.run.limits = Limits(outage_seconds=10, store_seconds=10)
        bench.run.event(TEXT, 1.0)
        bench.run.store_failed(GivenUp(), 11.0)
        assert bench.state is RunState.CLOSING

    def test_a_clock_that_is_put_back_makes_an_outage_no_longer(self) -> None:
        outage = Outage.begun(StoreUnavailable(), 10_000.0, Limits(outage_seconds=10))
        assert outage.next_pause(10_004.0) is not None
        assert outage.next_pause(6_404.0) is not None
        assert outage.next_pause(6_409.0) is not None
        assert outage.next_pause(6_410.0) is None

    def test_a_clock_that_is_put_back_at_the_end_makes_an_outage_no_longer(self) -> None:
        outage = Outage.begun(StoreUnavailable(), 10_000.0, Limits(outage_seconds=10))
        assert outage.next_pause(10_000.0, 10_001.0) is not None
        assert outage.next_pause(6_400.5, 10_001.0) is not None
        assert outage.next_pause(6_401.4, 10_001.0) is None

    def test_the_pauses_grow_up_to_a_second_and_end_with_the_run(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.limits = Limits(outage_seconds=10)
        bench.run.event(TEXT, 1.0)
        now, pauses = 1.0, []
        action = bench.run.store_failed(StoreUnavailable(), now)
        while isinstance(action, PullEvent):
            assert action.flush is not None
            pauses.append(action.flush)
            now += action.flush
            assert isinstance(bench.run.flush(now), StoreCall)
            action = bench.run.store_failed(StoreUnavailable(), now)
        assert pauses[:6] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
        assert set(pauses[6:]) == {1.0}
        assert 9 < sum(pauses) <= 10
        # The run has given up, and tries to say so.
        assert bench.state is RunState.CLOSING
        assert bench.perform(action) == RunOver("cancel")
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR", "end"]
        assert bench.logged() == types

    def test_an_agent_that_has_yielded_too_much_waits(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.limits = Limits(outage_bytes=100)
        bench.run.event(TEXT, 1.0)
        assert isinstance(bench.run.store_failed(StoreUnavailable(), 1.0), PullEvent)
        assert bench.run.event(delta("a" * 100), 1.0) == Pause(0.1)
        assert bench.state is RunState.WAITING
        assert bench.run.flush(1.0) is None
        bench.run.resume(1.1)
        assert bench.run.store_failed(StoreUnavailable(), 1.1) == Pause(0.1)
        assert bench.perform(bench.run.resume(1.2)) == PullEvent()
        assert bench.logged() == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]

    def test_a_renewal_is_made_again_too(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.check()
        assert bench.run.store_failed(StoreUnavailable(), 1.0) == PullEvent(flush=0.05)
        assert bench.perform(bench.run.flush(1.1)) == PullEvent()
        assert bench.run.flush(1.2) is None

    def test_a_close_waits_for_the_store(self) -> None:
        bench = Bench().pulling(STARTED, FINISHED)
        bench.run.agent_ended(1.0)
        assert bench.run.store_failed(StoreUnavailable(), 1.0) == Pause(0.05)
        assert bench.perform(bench.run.resume(1.1)) == RunOver("done")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]

    def test_a_close_is_given_up_at_last(self, caplog: pytest.LogCaptureFixture) -> None:
        bench = Bench().pulling(STARTED, FINISHED)
        bench.run.agent_ended(1.0)
        now, action = 1.0, bench.run.store_failed(StoreUnavailable("no route"), 1.0)
        while isinstance(action, Pause):
            now += action.seconds
            bench.run.resume(now)
            action = bench.run.store_failed(StoreUnavailable(), now)
        assert isinstance(action, StoreCall), "once more, at once, as for any other error"
        assert bench.run.store_failed(StoreUnavailable(), now) == RunOver("done")
        assert caplog.messages[0] == (
            "the thread store is unavailable, run 'r' waits for it: no route"
        )
        assert "could not be closed" in caplog.messages[-1]

    def test_a_server_that_ends_does_not_wait_for_long(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.event(TEXT, 1.0)
        bench.run.store_failed(StoreUnavailable(), 1.0)
        assert isinstance(bench.run.interrupt(5.0, "bye"), StoreCall)
        now, action = 5.0, bench.run.store_failed(StoreUnavailable(), 5.0)
        while isinstance(action, Pause):
            now += action.seconds
            bench.run.resume(now)
            action = bench.run.store_failed(StoreUnavailable(), now)
        assert now <= 6.0

    @pytest.mark.parametrize("told", ["interrupt", "signalled"])
    def test_a_call_during_an_outage_takes_effect(self, told: str) -> None:
        bench = Bench().storing()
        assert PERFORM[told](bench.run) is None
        action = bench.run.store_failed(StoreUnavailable(), 1.0)
        assert bench.state is RunState.CLOSING
        assert bench.perform(action) == RunOver("cancel")
        assert bench.logged()[0] == "RUN_STARTED"

    def test_the_patience_with_an_agent_goes_on(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.event(FINISHED, 1.0)
        action = bench.run.store_failed(StoreUnavailable(), 1.0)
        assert action == PullEvent(bench.run.limits.cleanup_seconds, flush=0.05)
        assert bench.perform(bench.run.settle(1.1)) == RunOver("drain")
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]


class TestAbandoned:
    def test_an_abandoned_run_is_stopped_as_by_a_client(self) -> None:
        bench = Bench().pulling(STARTED)
        bench.run.audience = Audience()
        assert bench.perform(bench.run.abandon(2.0)) == RunOver("cancel")
        assert bench.context.stop_requested
        assert bench.logged() == ["RUN_STARTED", "RUN_FINISHED", "end"]

    def test_a_store_call_is_waited_for(self) -> None:
        bench = Bench().storing()
        bench.run.audience = Audience()
        assert bench.run.abandon(2.0) is None
        action = bench.run.stored(Signal.CONTINUE, 2.0)
        assert bench.state is RunState.CLOSING
        assert bench.perform(action) == RunOver("cancel")

    def test_a_reader_who_has_come_meanwhile_counts(self) -> None:
        bench = Bench().storing()
        bench.run.audience = Audience()
        assert bench.run.abandon(2.0) is None
        bench.run.audience.join(bench)
        assert bench.run.stored(Signal.CONTINUE, 2.0) == PullEvent()

    def test_a_run_is_not_stopped_while_somebody_follows(self) -> None:
        bench = Bench().pulling(STARTED)
        assert bench.run.abandon(2.0) is None, "nobody is counted"
        bench.run.audience = Audience()
        bench.run.audience.join(bench)
        assert bench.run.abandon(2.0) is None
        assert bench.state is RunState.PULLING


# --- What the log has of it -----------------------------------------------------------------------


class TestLines:
    """Each run has two lines at INFO, by which an operator follows it."""

    @pytest.fixture(autouse=True)
    def _level(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sansio_copilot.runs.course")

    def lines(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.name == "sansio_copilot.runs.course" and record.levelno == logging.INFO
        ]

    def test_a_run_that_finishes_is_logged_with_its_seconds_and_events(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench()
        bench.run.start(1.0)
        bench.perform(bench.run.event(STARTED, 1.5), 1.5)
        bench.perform(bench.run.event(FINISHED, 2.0), 2.0)
        bench.perform(bench.run.agent_ended(2.5), 2.5)
        assert self.lines(caplog) == [
            "run started: agent 'default', thread 't', run 'r'",
            "run finished: agent 'default', thread 't', run 'r', 1.500 s, 2 events",
        ]

    def test_a_run_that_fails_is_logged_as_failed(self, caplog: pytest.LogCaptureFixture) -> None:
        bench = Bench()
        bench.run.start(1.0)
        bench.perform(bench.run.event(STARTED, 1.0))
        bench.perform(bench.run.agent_ended(2.0, ValueError("no")), 2.0)
        assert self.lines(caplog)[1].startswith("run failed: ")

    def test_a_run_that_is_stopped_is_logged_as_stopped(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench()
        bench.run.start(1.0)
        bench.perform(bench.run.event(STARTED, 1.0))
        bench.store.request_stop("t", None)
        bench.perform(bench.run.signalled(Signal.STOP, 2.0), 2.0)
        assert self.lines(caplog)[1].startswith("run stopped: ")

    def test_a_finished_run_that_another_one_seals_is_logged_as_finished(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench()
        bench.run.start(1.0)
        bench.perform(bench.run.event(STARTED, 1.0))
        bench.perform(bench.run.event(FINISHED, 1.0))
        bench.store.open_run(RunRequest("t", "next", "default"))
        bench.run.signalled(Signal.SEALED, 2.0)
        assert self.lines(caplog)[1].startswith("run finished: ")

    def test_a_run_that_another_process_ends_is_logged_as_sealed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench()
        bench.run.start(1.0)
        bench.perform(bench.run.event(STARTED, 1.0))
        bench.run.signalled(Signal.SEALED, 2.0)
        assert self.lines(caplog)[1].startswith("run sealed: ")
