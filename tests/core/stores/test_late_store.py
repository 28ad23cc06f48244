"""Exchanges and runs over a store that answers late, in any order that hypothesis chooses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.late_store import Gate
from support.late_world import NOW, OVER, Client, World, check_well_formed, history, types_of

from sansio_copilot import ExchangeState, Hooks, Request, RunState
from sansio_copilot.events import fold_messages
from sansio_copilot.sse import Parser
from sansio_copilot.stores.protocol import RunKey

CHOICES = st.binary(max_size=150)
MOMENT = st.integers(0, 60)
MOMENTS = st.lists(MOMENT, max_size=4)
in_any_order = settings(max_examples=60)


def events_of(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in Parser().feed(stream)]


class TestReaders:
    @in_any_order
    @given(CHOICES, MOMENTS, st.booleans(), st.integers(0, 20))
    def test_all_readers_of_a_run_get_the_same_bytes(
        self, choices: bytes, moments: list[int], fails: bool, deltas: int
    ) -> None:
        world = World(choices)
        own = world.run(deltas=deltas, fails=fails)
        others = []
        for moment in moments:
            world.go(moment)
            others.append(world.connect())
        world.settle()
        check_well_formed(own.stream)
        assert own.types[-1] == ("RUN_ERROR" if fails else "RUN_FINISHED")
        assert own.types.count("TEXT_MESSAGE_CONTENT") == deltas
        for other in others:
            # A client that came before the run saw an empty thread; one that came later saw a
            # replay.
            assert other.answered
            assert other.stream in (b"", own.stream, history(world))
        assert world.store.open_runs == []

    @in_any_order
    @given(CHOICES, MOMENT, st.integers(0, 10))
    def test_a_reader_that_was_cut_off_misses_nothing(
        self, choices: bytes, moment: int, position: int
    ) -> None:
        world = World(choices)
        own = world.run(deltas=5)
        world.go(moment)
        token = RunKey("t", 1, "r").token
        resumed = world.connect(after=f"{token}.{position}")
        world.settle()
        _, seen, rest = own.stream.partition(b"id: %s.%d\n" % (token.encode(), position))
        rest = rest.partition(b"\n\n")[2]
        everything = (b"", own.stream, history(world))
        assert resumed.stream in ((rest, *everything) if seen else everything)

    @in_any_order
    @given(CHOICES, MOMENTS)
    def test_a_reader_that_hangs_up_takes_nobody_along(
        self, choices: bytes, moments: list[int]
    ) -> None:
        world = World(choices)
        own = world.run(deltas=8)
        while own.run is None:
            assert world.step()
        stays, leaves = world.connect(), [world.connect() for _ in moments]
        for moment, client in zip(moments, leaves, strict=True):
            world.go(moment)
            client.hang_up()
        world.settle()
        check_well_formed(own.stream)
        assert stays.stream in (own.stream, history(world))
        for client in leaves:
            assert own.stream.startswith(client.stream) or history(world).startswith(client.stream)


class TestStopping:
    @in_any_order
    @given(CHOICES, MOMENT, st.booleans(), st.booleans())
    def test_a_stop_ends_the_run(
        self, choices: bytes, moment: int, silent: bool, twice: bool
    ) -> None:
        world = World(choices)
        own = world.run(deltas=3, silent=silent)
        follower = world.connect()
        world.go(moment)
        stops = [world.stop() for _ in range(1 + twice)]
        world.settle()
        stopped = [stop.json()["stopped"] for stop in stops]
        assert sum(stopped) <= 1
        if not any(stopped):
            # The stop came too early, or too late.
            assert own.answered != silent
            world.stop()
            world.settle()
        assert own.answered
        check_well_formed(own.stream)
        assert own.types[-1] == "RUN_FINISHED"
        assert follower.stream in (b"", own.stream, history(world))
        assert world.store.open_runs == []

    @pytest.mark.parametrize("moment", range(45))
    def test_a_stop_ends_the_run_while_the_owner_is_told_to_continue(self, moment: int) -> None:
        world = World()
        own = world.run(deltas=1, silent=True)
        world.go(moment)
        # The stop happens while whatever the owner's host was about to hear is on its way.
        world.paused = "one"
        stop = world.stop()
        world.settle()
        world.paused = ""
        world.settle()
        assert own.answered == stop.json()["stopped"]


class TestHangingUp:
    @in_any_order
    @given(CHOICES, MOMENT, st.booleans(), st.booleans())
    def test_only_a_run_that_was_started_goes_on(
        self, choices: bytes, moment: int, silent: bool, hooked: bool
    ) -> None:
        async def on_response(context: Any) -> None:
            await Gate("a hook")

        world = World(choices, hooks=Hooks(on_response=on_response) if hooked else None)
        own = world.run(deltas=2, silent=silent)
        world.go(moment)
        own.hang_up()
        world.settle()
        assert own.exchange.state in (*OVER, ExchangeState.IDLE)
        if own.run is None:
            assert world.store.open_runs == []
            assert history(world) == b""
        elif silent:
            assert world.store.open_runs == [own.run.key]
        else:
            assert world.store.open_runs == []
            assert types_of(history(world))[-1] == "RUN_FINISHED"

    @in_any_order
    @given(CHOICES, MOMENTS)
    def test_the_thread_is_free_again(self, choices: bytes, moments: list[int]) -> None:
        world = World(choices)
        for number, moment in enumerate(moments):
            client = world.run(f"r{number}")
            world.go(moment)
            client.hang_up()
        world.settle()
        last = world.run("last")
        world.settle()
        assert last.status == 200
        check_well_formed(last.stream)


class TestOrphans:
    @in_any_order
    @given(
        CHOICES,
        MOMENT,
        st.sampled_from(["run", "stop", "connect", "all"]),
        st.booleans(),
        st.booleans(),
    )
    def test_an_orphan_is_ended_by_the_request_that_finds_it(
        self, choices: bytes, moment: int, finder: str, silent: bool, followed: bool
    ) -> None:
        world = World(choices)
        own = world.run(host="one", deltas=3, silent=silent)
        followers = [world.connect("two"), world.connect("three")] if followed else []
        world.go(moment)
        followers += [world.connect("two"), world.connect("three")] if followed else []
        world.die("one")
        world.store.expire_leases()
        orphans = world.store.open_runs
        finders = {
            "run": lambda: [world.run("next", host="two")],
            "stop": lambda: [world.stop(host="two")],
            "connect": lambda: [world.connect(host="two")],
            "all": lambda: [world.run("next", host="two"), world.stop("three"), world.connect()],
        }[finder]()
        world.settle()
        assert world.store.open_runs == []
        assert all(client.answered for client in (*followers, *finders))
        raws = {client.stream for client in followers if b".0\n" in client.stream}
        first = f"id: {RunKey('t', 1, 'r').token}.0\n".encode()
        for raw in raws:
            if raw.startswith(first):
                # Everybody else's is the same, and what the dead host's own client got begins it.
                check_well_formed(raw)
                assert raw.startswith(own.stream)
        assert len({raw for raw in raws if raw.startswith(first)}) <= 1
        if finder == "stop" and orphans and not followed:
            assert finders[0].json()["stopped"] is True
            assert types_of(history(world))[-1] in ("RUN_FINISHED", "RUN_ERROR")
        if finder == "run":
            assert finders[0].status == 200
            check_well_formed(finders[0].stream)

    @in_any_order
    @given(CHOICES, MOMENT, MOMENT, st.sampled_from(["run", "stop", "connect"]), st.booleans())
    def test_an_owner_that_was_only_thought_dead_does_no_harm(
        self, choices: bytes, moment: int, pause: int, finder: str, silent: bool
    ) -> None:
        world = World(choices)
        own = world.run(deltas=5, silent=silent)
        follower = world.connect()
        world.go(moment)
        world.paused = "one"
        world.store.expire_leases()
        found = {
            "run": lambda: world.run("next", host="two"),
            "stop": lambda: world.stop(),
            "connect": lambda: world.connect(),
        }[finder]()
        world.go(pause)
        world.paused = ""
        world.settle()
        world.stop()
        world.settle()
        assert world.store.open_runs == []
        if own.status == 200:
            check_well_formed(own.stream)
            # A follower whose cursor comes late may see the next run, as it goes or compacted.
            seen = (b"", own.stream, found.stream)
            assert follower.stream in seen or follower.stream in history(world)
        assert found.answered
        if own.run is not None and not silent:
            assert own.run.state is RunState.OVER

    @pytest.mark.untraced
    @pytest.mark.parametrize("finder", ["stop", "run", "connect"])
    @pytest.mark.parametrize("moment", range(4, 30, 2))
    def test_an_owner_that_was_found_dead_writes_nothing_more(
        self, moment: int, finder: str
    ) -> None:
        for pause in range(14):
            world = World()
            own = world.run(deltas=2)
            world.go(moment)
            world.paused = "one"
            world.store.expire_leases()
            found: Client = getattr(world, finder)(host="two")
            world.go(pause)
            world.paused = "two"
            world.go(20)
            world.paused = ""
            world.settle()
            assert own.answered
            assert found.answered
            check_well_formed(own.stream)
            assert world.store.open_runs == []


class TestTwoRuns:
    @in_any_order
    @given(CHOICES, MOMENT)
    def test_a_busy_thread_takes_exactly_one(self, choices: bytes, moment: int) -> None:
        world = World(choices)
        clients = [world.run("x", silent=True)]
        world.go(moment)
        clients.append(world.run("y", host="two", silent=True))
        world.settle()
        assert sorted(client.status for client in clients) == [200, 409]
        [winner] = [client for client in clients if client.status == 200]
        assert winner.run is not None
        assert world.store.open_runs == [winner.run.key]
        world.stop()
        world.settle()
        check_well_formed(winner.stream)

    @in_any_order
    @given(CHOICES, MOMENT)
    def test_a_later_run_supersedes(self, choices: bytes, moment: int) -> None:
        world = World(choices, "supersede")
        clients = [world.run("x", silent=True)]
        world.go(moment)
        clients.append(world.run("y", host="two", silent=True))
        world.settle()
        assert [client.status for client in clients] == [200, 200]
        [loser] = [client for client in clients if client.answered]
        [winner] = [client for client in clients if not client.answered]
        check_well_formed(loser.stream)
        assert loser.types[-1] == "RUN_FINISHED"
        # The run is kept as a stopped one, so that its question and partial answer are not lost.
        assert fold_messages(events_of(history(world))) == fold_messages(events_of(loser.stream))
        assert types_of(history(world))[-1] == "RUN_FINISHED"
        world.stop()
        world.settle()
        check_well_formed(winner.stream)
        assert loser.run is not None
        assert winner.run is not None
        keys = sorted([loser.run.key, winner.run.key], key=lambda key: key.seq)
        assert keys[1] == winner.run.key
        events = events_of(history(world))
        started = [event["runId"] for event in events if event["type"] == "RUN_STARTED"]
        assert started == [key.run_id for key in keys]
        assert world.store.open_runs == []

    @in_any_order
    @given(CHOICES, st.sampled_from(["reject", "supersede"]))
    def test_a_follow_up_of_the_terminal_event_is_never_refused(
        self, choices: bytes, policy: str
    ) -> None:
        world = World(choices, policy)
        first = world.run("x")
        while b"RUN_FINISHED" not in first.body:
            assert world.step()
        second = world.run("y", host="two")
        world.settle()
        assert second.status == 200
        assert first.types[-1] == second.types[-1] == "RUN_FINISHED"
        assert types_of(history(world)).count("RUN_FINISHED") == 2


class TestFailures:
    @in_any_order
    @given(CHOICES, MOMENT)
    def test_an_append_that_fails_ends_the_run_well_formed(
        self, choices: bytes, moment: int
    ) -> None:
        world = World(choices)
        own = world.run(deltas=4)
        world.go(moment)
        world.store.failing = {"append"}
        world.settle()
        assert own.answered
        check_well_formed(own.stream)
        assert world.store.open_runs == []

    @pytest.mark.parametrize("method", ["open_run", "open_cursor", "request_stop"])
    def test_a_call_that_fails_before_the_head_is_a_500(self, method: str) -> None:
        world = World()
        world.store.failing = {method}
        calls = {"open_run": "run", "open_cursor": "connect", "request_stop": "stop"}
        client: Client = getattr(world, calls[method])()
        world.settle()
        assert client.status == 500
        assert client.json() == {"error": "internal_error"}

    def test_a_read_that_fails_breaks_the_response_off(self) -> None:
        world = World()
        client = world.run(silent=True)
        world.store.failing = {"read"}
        world.settle()
        assert client.exchange.state is ExchangeState.ABANDONED
        assert len(world.store.open_runs) == 1


def test_the_rest_of_the_protocol_answers_late_too() -> None:
    world = World()
    world.run()
    world.settle()

    def get(path: str, method: str = "GET") -> Client:
        client = Client(world, Request(method, f"/api/copilotkit/{path}"), "one")
        client.exchange = world.runtime.exchange(client.request, NOW)
        client.task = world.spawn("one", client.serve())
        world.settle()
        return client

    assert [thread["id"] for thread in get("threads").json()["threads"]] == ["t"]
    assert len(get("threads/t/messages").json()["messages"]) == 1
    assert get("threads/clear", "POST").status == 204
    assert get("threads").json()["threads"] == []
