"""What the core costs, without a socket: section ``core`` of run.py, or by itself.

Each figure is the best of several rounds, in microseconds, because noise only ever adds. Timings
decide no test; they are here to be compared before and after a change of a hot path.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence

from ag_ui.core import TextMessageContentEvent

from sansio_copilot import CopilotRuntime, MemoryStore, Request
from sansio_copilot.actions import Finish
from sansio_copilot.recorder import RunRecorder
from sansio_copilot.testing import Client, run_input
from sansio_copilot.threads import RunKey, RunOpened, RunRequest

ROUNDS = 5
EVENTS = 20_000
START = [
    {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
]
DELTAS = [
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": f"token {number}"}
    for number in range(EVENTS)
]
END = [
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
]


def best(make: Callable[[], Callable[[], object]], count: int) -> float:
    """Microseconds for each of ``count`` things that the function ``make`` returns does."""
    seconds = []
    for _ in range(ROUNDS):
        work = make()
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds) / count * 1e6


def recording(deltas: Sequence[object]) -> Callable[[], Callable[[], object]]:
    """Verify, encode and fold each event."""

    def make() -> Callable[[], object]:
        recorder = RunRecorder(RunKey("t", 1, "r"), run_input("t"))
        for event in START:
            recorder.record(event, 0.0)
        return lambda: [recorder.record(event, 0.0) for event in deltas]

    return make


def storing(deltas: Sequence[object]) -> Callable[[], Callable[[], object]]:
    """The same, and append each frame to the log."""

    def make() -> Callable[[], object]:
        store = MemoryStore()
        opened = store.open_run(RunRequest("t", "r", "a"))
        assert isinstance(opened, RunOpened)
        key = opened.key
        recorder = RunRecorder(key, run_input("t"))
        for event in START:
            store.append(key, recorder.record(event, 0.0))
        return lambda: [store.append(key, recorder.record(event, 0.0)) for event in deltas]

    return make


def exchanging(method: str, path: str) -> Callable[[], Callable[[], object]]:
    """One whole exchange that needs nothing from outside."""
    runtime = CopilotRuntime({"default": lambda input, context: iter(())})
    request = Request(method, path, headers={"origin": "https://app.example.com"})

    def one() -> None:
        exchange = runtime.exchange(request, 0.0)
        action = exchange.start()
        while not isinstance(action, Finish):
            action = exchange.done()

    def many() -> None:
        for _ in range(1000):
            one()

    return lambda: many


def running(deltas: int, runs: int) -> Callable[[], Callable[[], object]]:
    """Whole runs, each on a thread of its own, driven without a network."""
    events = [*START, *DELTAS[:deltas], *END]

    def make() -> Callable[[], object]:
        client = Client(CopilotRuntime({"default": lambda input, context: iter(events)}))
        path = "/api/copilotkit/agent/default/run"
        return lambda: [client.post(path, json=run_input(f"t{number}")) for number in range(runs)]

    return make


def threads(runs: int) -> Client:
    """A client whose runtime has a thread of so many runs of ten deltas."""
    events = [*START, *DELTAS[:10], *END]
    store = MemoryStore(max_runs_per_thread=0)
    client = Client(CopilotRuntime({"default": lambda input, context: iter(events)}, store=store))
    for number in range(runs):
        body = run_input("t", f"r{number}")
        client.post("/api/copilotkit/agent/default/run", json=body)
    return client


def replaying(client: Client) -> Callable[[], Callable[[], object]]:
    """Connect to that thread."""
    path = "/api/copilotkit/agent/default/connect"
    return lambda: lambda: client.post(path, json=run_input("t"))


def measure() -> Iterator[tuple[str, float]]:
    """Each thing that is measured, and how many microseconds it takes."""
    yield "event: verify, encode, fold", best(recording(DELTAS), EVENTS)
    yield "event: the same, and append", best(storing(DELTAS), EVENTS)
    models = [TextMessageContentEvent.model_validate(event) for event in DELTAS]
    yield "event: the same, of a model", best(storing(models), EVENTS)
    yield "exchange: GET /info", best(exchanging("GET", "/api/copilotkit/info"), 1000)
    yield "exchange: 404", best(exchanging("GET", "/nope"), 1000)
    yield "exchange: preflight", best(exchanging("OPTIONS", "/api/copilotkit/info"), 1000)
    yield "run of 10 deltas", best(running(10, 200), 200)
    yield "run of 1,000 deltas", best(running(1000, 5), 5)
    client = threads(1000)
    whole = best(replaying(client), 1)
    yield "connect to 1,000 runs of 10 deltas", whole
    yield "event: replayed (5,000 of them at once)", whole / 5000


def main() -> None:
    """Print the table."""
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for what, microseconds in measure():
        print(f"{what:40} {microseconds:12.2f} us")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
