"""What the core costs, without a socket: `make bench`.

Each figure is the best of several rounds, in microseconds, because noise only ever adds. Timings
decide no test; they are here to be compared before and after a change of a hot path.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

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


def recording() -> Callable[[], object]:
    """Verify, encode and fold each event."""
    recorder = RunRecorder(RunKey("t", 1, "r"), run_input("t"))
    for event in START:
        recorder.record(event, 0.0)
    return lambda: [recorder.record(event, 0.0) for event in DELTAS]


def storing() -> Callable[[], object]:
    """The same, and append each frame to the log."""
    store = MemoryStore()
    opened = store.open_run(RunRequest("t", "r", "a"))
    assert isinstance(opened, RunOpened)
    recorder = RunRecorder(opened.key, run_input("t"))
    for event in START:
        store.append(opened.key, recorder.record(event, 0.0))
    return lambda: [store.append(opened.key, recorder.record(event, 0.0)) for event in DELTAS]


def exchanging(method: str, path: str) -> Callable[[], Callable[[], object]]:
    """One whole exchange that needs nothing from outside."""
    runtime = CopilotRuntime({"default": lambda input, context: iter(())})
    request = Request(method, path, headers={"origin": "https://app.example.com"})

    def one() -> None:
        exchange = runtime.exchange(request, 0.0)
        action = exchange.start()
        while not isinstance(action, Finish):
            action = exchange.done()

    return lambda: lambda: [one() for _ in range(1000)]


def running(deltas: int, runs: int) -> Callable[[], Callable[[], object]]:
    """Whole runs, each on a thread of its own, driven without a network."""
    events = [*START, *DELTAS[:deltas], *END]

    def make() -> Callable[[], object]:
        client = Client(CopilotRuntime({"default": lambda input, context: iter(events)}))
        path = "/api/copilotkit/agent/default/run"
        return lambda: [client.post(path, json=run_input(f"t{number}")) for number in range(runs)]

    return make


def replaying() -> Callable[[], object]:
    """Connect to a thread of 1,000 runs of ten deltas."""
    events = [*START, *DELTAS[:10], *END]
    store = MemoryStore(max_runs_per_thread=0)
    client = Client(CopilotRuntime({"default": lambda input, context: iter(events)}, store=store))
    for number in range(1000):
        body = run_input("t", f"r{number}")
        client.post("/api/copilotkit/agent/default/run", json=body)
    return lambda: client.post("/api/copilotkit/agent/default/connect", json=run_input("t"))


def main() -> None:
    """Print the table."""
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for what, microseconds in (
        ("event: verify, encode, fold", best(recording, EVENTS)),
        ("event: the same, and append", best(storing, EVENTS)),
        ("exchange: GET /info", best(exchanging("GET", "/api/copilotkit/info"), 1000)),
        ("exchange: 404", best(exchanging("GET", "/nope"), 1000)),
        ("exchange: preflight", best(exchanging("OPTIONS", "/api/copilotkit/info"), 1000)),
        ("run of 10 deltas", best(running(10, 200), 200)),
        ("run of 1,000 deltas", best(running(1000, 5), 5)),
        ("connect to 1,000 runs of 10 deltas", best(replaying, 1)),
    ):
        print(f"{what:40} {microseconds:12.2f} us")


if __name__ == "__main__":
    import logging

    logging.disable(logging.WARNING)
    main()
