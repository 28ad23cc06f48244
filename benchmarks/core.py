"""The costs of the core, and of a connection, without a socket: section ``core`` of run.py.

Or by itself. Each figure is the best of several rounds, in microseconds of processor time, because
noise only ever adds. Timings decide no test; they are here to be compared before and after a change
of a hot path.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

from ag_ui.core import TextMessageContentEvent

from copilot_bindings.http1.connection import HTTPConnection
from copilot_bindings.http1.wants import Receive
from copilot_bindings.serving.body_limits import Bodies
from copilot_bindings.serving.context import CallContext
from sansio_copilot import CopilotRuntime, MemoryStore, Request, json_codec
from sansio_copilot.actions import Finish
from sansio_copilot.endpoints.run_input import parse_input
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.stores.protocol import RunKey, RunOpened, RunRequest
from sansio_copilot.testing import Client, run_input

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
BROWSER = [
    "Host: 127.0.0.1:4000",
    "Connection: keep-alive",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: */*",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: http://localhost:3000/",
    "Origin: http://localhost:3000",
    "Sec-Fetch-Dest: empty",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Site: cross-site",
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
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
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
        stored = 0

        def append(event: object) -> None:
            nonlocal stored
            frames = recorder.record(event, 0.0)
            store.append(key, stored, frames)
            stored += len(frames)

        for event in START:
            append(event)
        return lambda: [append(event) for event in deltas]

    return make


def exchanging(method: str, path: str) -> Callable[[], Callable[[], object]]:
    """A whole exchange that needs nothing from outside."""
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


def connected(data: bytes) -> Callable[[], Callable[[], object]]:
    """A request that arrives on a connection in one piece, and the bytes of the response to it."""
    runtime = CopilotRuntime({"default": lambda input, context: iter(())})
    calls = SimpleNamespace(begin=lambda call, *where, own: call.function(*call.args))
    host = SimpleNamespace(
        runtime=runtime,
        bodies=Bodies(runtime.limits),
        calls=calls,
        context=CallContext.of_now(),
        home=None,
        closing=False,
        start_run=None,
    )

    def many() -> None:
        http = HTTPConnection(host)  # type: ignore[arg-type]
        http.start()
        for _ in range(1000):
            http.feed(data)
            want = http.done()
            while not isinstance(want, Receive):
                http.data_to_send()
                want = http.done()

    return lambda: many


def request(method: str, path: str, *fields: str, body: bytes = b"") -> bytes:
    """Return a request with the fields that a browser sends."""
    rows = [f"{method} {path} HTTP/1.1", *BROWSER, *fields]
    if body:
        rows += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*rows, "", ""]).encode() + body


def conversation(turns: int) -> bytes:
    """The body of a run, after so many turns that each called a tool."""
    messages: list[dict[str, object]] = []
    for turn in range(turns):
        call = {"id": f"c{turn}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages += [
            {"id": f"u{turn}", "role": "user", "content": "What is the weather in Paris?"},
            {"id": f"a{turn}", "role": "assistant", "content": "", "toolCalls": [call]},
            {"id": f"t{turn}", "role": "tool", "toolCallId": f"c{turn}", "content": "Sunny."},
        ]
    return json.dumps({**run_input("t"), "messages": messages}).encode()


def parsing(body: bytes) -> Callable[[], Callable[[], object]]:
    """The body of a run becomes what its agent gets."""
    return lambda: lambda: [parse_input(json_codec.decode(body)) for _ in range(200)]


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
    info = "/api/copilotkit/info"
    yield "connection: GET /info", best(connected(request("GET", info)), 1000)
    yield "connection: 404", best(connected(request("GET", "/nope")), 1000)
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    yield "connection: preflight", best(connected(request("OPTIONS", info, *asked)), 1000)
    stop = request("POST", "/api/copilotkit/agent/default/stop/t", body=conversation(1))
    yield "connection: POST that stops nothing", best(connected(stop), 1000)
    yield "input of a run: no messages", best(parsing(conversation(0)), 200)
    yield "input of a run: 20 turns", best(parsing(conversation(20)), 200)
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
