"""Several servers over one store that answers late: anything may happen at any moment.

Servers die or only seem dead, clients hang up and come back, the store fails. What is looked at is
the oldest of promises: of each run there is one order of events, and whoever reads it, from
wherever, gets a part of it without a gap.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.late_world import OVER, Client, World, check_well_formed
from support.model_store import split_frames

from sansio_copilot import MemoryStore
from sansio_copilot.stores.protocol import RunKey, RunResult, Signal, news_in


@attrs.define(eq=False)
class WrittenDown(MemoryStore):
    """
    :ivar raw: all frames that each run was ever given, in order.
    :ivar compacted: those that each left, the last that it said.
    """

    raw: dict[str, list[bytes]] = attrs.field(factory=lambda: defaultdict(list), init=False)
    compacted: dict[str, list[bytes]] = attrs.field(factory=dict, init=False)
    closed: set[str] = attrs.field(factory=set, init=False)

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Signal:
        signal = super().append(key, at, frames, result)
        if signal is not Signal.SEALED:
            self._write_down(key, at, frames, result)
        return signal

    def close_run(self, key: RunKey, at: int, frames: bytes, result: RunResult | None) -> None:
        if self.renew(key) is not Signal.SEALED:
            self._write_down(key, at, frames, result)
            self.closed.add(key.token)
        super().close_run(key, at, frames, result)

    def _write_down(self, key: RunKey, at: int, frames: bytes, result: RunResult | None) -> None:
        raw = self.raw[key.token]
        raw += split_frames(news_in(key, at, frames, len(b"".join(raw))) or b"")
        self.compacted[key.token] = split_frames(result.frames) if result is not None else []


def place(frame: bytes) -> tuple[str, bool, int]:
    """The run of a frame, whether it is a compacted one, and which it is."""
    event_id = frame.partition(b"\n")[0].removeprefix(b"id: ").decode()
    token, _, position = event_id.rpartition(".")
    return token, position.startswith("c"), int(position.removeprefix("c"))


HOSTS = st.sampled_from(["one", "two"])
WHICH = st.integers(0, 20)
HOW = st.sampled_from(["ends", "silent", "fails"])
CHOICES = st.binary(min_size=1, max_size=12)
METHODS = st.sampled_from(["append", "read", "open_run", "close_run", "open_cursor", "renew"])


class LateMachine(RuleBasedStateMachine):
    """No reader is told a gap or a lie, whatever happens to servers, clients and the store."""

    @initialize(
        policy=st.sampled_from(["reject", "supersede"]), resumable=st.sampled_from([0, 4, 4])
    )
    def make(self, policy: Any, resumable: int) -> None:
        self.log = WrittenDown(on_concurrent_run=policy, resumable_runs=resumable)
        self.world = World(inner=self.log)
        self.run_ids = (f"r{number}" for number in itertools.count())
        self.after: dict[Client, bytes] = {}
        self.dead: set[Client] = set()
        self.failed = False

    def go(self, choices: bytes) -> None:
        self.world.choices = itertools.cycle(choices)
        self.world.go(len(choices) * 5)

    @property
    def alive(self) -> list[Client]:
        return [client for client in self.world.clients if client not in self.dead]

    # Clients

    @rule(host=HOSTS, deltas=st.integers(0, 4), how=HOW, choices=CHOICES)
    def start_run(self, host: str, deltas: int, how: str, choices: bytes) -> None:
        self.world.run(next(self.run_ids), host, deltas=deltas, **{how: True})
        self.go(choices)

    @rule(host=HOSTS, which=WHICH, cut=st.none() | WHICH, choices=CHOICES)
    def connect(self, host: str, which: int, cut: int | None, choices: bytes) -> None:
        """Anew, or behind any frame that anybody has received."""
        streams = [frames for c in self.world.clients if (frames := split_frames(c.stream))]
        if cut is None or not streams:
            self.world.connect(host)
        else:
            seen = streams[which % len(streams)]
            frame = seen[cut % len(seen)]
            event_id = frame.partition(b"\n")[0].removeprefix(b"id: ").decode()
            self.after[self.world.connect(host, after=event_id)] = frame
        self.go(choices)

    @rule(host=HOSTS)
    def stop(self, host: str) -> None:
        self.world.stop(host)

    @rule(host=HOSTS, seldom=st.integers(0, 5))
    def clear(self, host: str, seldom: int) -> None:
        if not seldom:
            self.world.post("threads/clear", None, host)

    @rule(which=WHICH)
    def hang_up(self, which: int) -> None:
        if self.alive:
            client = self.alive[which % len(self.alive)]
            client.hang_up()

    # Time, and what goes wrong

    @rule(choices=CHOICES)
    def time_passes(self, choices: bytes) -> None:
        self.go(choices)

    @rule(choices=CHOICES)
    def much_time_passes(self, choices: bytes) -> None:
        for client in self.alive:
            client.timed_out = client.waiting
        self.go(choices * 3)

    @rule(host=HOSTS, leases=st.booleans())
    def die(self, host: str, leases: bool) -> None:
        self.world.die(host)
        self.dead |= {
            c for c in self.world.clients if c.host == host and c.exchange.state not in OVER
        }
        if leases:
            self.world.store.expire_leases()

    @rule(host=HOSTS, choices=CHOICES)
    def seem_dead(self, host: str, choices: bytes) -> None:
        """A host pauses until its leases run out; then it goes on as if nothing had been."""
        self.world.paused = host
        self.world.store.expire_leases()
        self.go(choices)
        self.world.paused = ""

    @rule(method=METHODS, choices=CHOICES)
    def the_store_fails(self, method: str, choices: bytes) -> None:
        self.world.store.failing = {method}
        self.failed = True
        self.go(choices)
        self.world.store.failing = set()

    @rule(
        method=st.sampled_from(["append", "close_run", "renew"]),
        way=st.sampled_from(["unavailable", "losing"]),
        choices=CHOICES,
    )
    def the_store_is_unavailable(self, method: str, way: str, choices: bytes) -> None:
        """No run ends of that, and nothing is lost or doubled."""
        setattr(self.world.store, way, {method})
        self.go(choices)
        setattr(self.world.store, way, set())

    # Invariants

    @invariant()
    def every_reader_has_a_part_of_the_one_order(self) -> None:
        for client in self.world.clients if hasattr(self, "world") else ():
            if client.status == 200 and client.stream.startswith(b"id: "):
                self.check_reader(client)

    def check_reader(self, client: Client) -> None:
        frames = split_frames(client.stream)
        first = True
        seqs = []
        for (token, compacted), group in itertools.groupby(frames, lambda frame: place(frame)[:2]):
            part = list(group)
            order = (self.log.compacted if compacted else self.log.raw)[token]
            begin = place(part[0])[2]
            # Frames of a sealed or superseded run's earlier result are those that it left then.
            assert part == order[begin : begin + len(part)]
            if begin:
                # A reader that begins in the middle has come back, and begins behind what it saw.
                assert first
                assert place(self.after[client]) == (token, compacted, begin - 1)
            is_last = part[-1] is frames[-1]
            if not is_last or client.answered:
                assert begin + len(part) == len(order)
            seqs.append(int(token.partition(".")[0]))
            first = False
        assert seqs == sorted(set(seqs))
        assert not client.answered or b"".join(frames) == client.stream

    @invariant()
    def no_answer_is_a_surprise(self) -> None:
        for client in self.world.clients if hasattr(self, "world") else ():
            assert client.status in ((0, 200, 204, 409, 500) if self.failed else (0, 200, 204, 409))

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.choices = iter(b"")
        world.settle()
        # A run that died, or could not be closed, is found by the next request for its thread.
        world.store.expire_leases()
        world.connect("three")
        world.settle()
        assert world.store.open_runs == []
        assert self.log.request_stop("t", None) is False
        for client in self.alive:
            assert client.gone or client.exchange.state in OVER
        self.every_reader_has_a_part_of_the_one_order()
        for token, frames in self.log.raw.items():
            if token in self.log.closed and frames:
                check_well_formed(b"".join(frames))
        last = world.run("last", "three")
        world.settle()
        assert last.status == 200
        check_well_formed(last.stream)


TestLateMachine = LateMachine.TestCase
TestLateMachine.settings = settings(max_examples=60, stateful_step_count=30)
