"""The load generator: a process of its own, the same for every server.

Reads one command per line as JSON, ``{"do": "runs", "port": 4000, ...}``, carries it out, and
prints one line with what it measured. It speaks HTTP/1.1 over epoll by itself, to cost little
beside what it measures, and believes nothing: the framing of each response is parsed, and its body
has to be byte for byte what it must be. The first response of a kind is checked by its meaning
(each event, in order), each other one by comparison with it, after the ids of thread and run, and
those of the events, were taken out.
"""

from __future__ import annotations

import itertools
import json
import re
import select
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Command: TypeAlias = dict[str, Any]
Result: TypeAlias = dict[str, Any]

BASE = "/api/copilotkit"
_EVENT_ID = re.compile(rb"(?m)^id: [0-9]+\.[0-9a-f]+\.c?[0-9]+\n")
_COMMENT = re.compile(rb"(?m)^:.*\n\n")
_STAMP = re.compile(rb'"delta":"([0-9]+) ([0-9]+) "')
_RECEIVE = 1 << 18
_FROM_ONE_ADDRESS = 2500
_PATIENCE = 60.0
"""Seconds of silence after which a server is given up."""

# No two runs of a benchmark may share an id, whichever process asked for them.
_serial = itertools.count(int(time.time() * 1000) % 10**9 * 1000)


class Wrong(Exception):
    """A server answered what it must not."""


class Response:
    """A response: its bytes until it is complete, then its body."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.body_at = 0
        self.length: int | None = None
        self.saw_event = False

    def feed(self, data: bytes) -> bool:
        """Take what arrived; returns whether the response is complete."""
        self.data += data
        if not self.body_at and not self._read_head():
            return False
        if self.length is None:
            return self.data.endswith(b"\r\n0\r\n\r\n")
        return len(self.data) - self.body_at >= self.length

    def first_event(self) -> bool:
        """Return whether the first server-sent event has arrived; True only once."""
        if self.saw_event or not self.body_at or b"\n\n" not in self.data:
            return False
        self.saw_event = True
        return True

    def body(self) -> bytes:
        """The body, its framing checked and taken off."""
        if self.length is not None:
            if len(self.data) != self.body_at + self.length:
                raise Wrong("there is more behind the response")
            return bytes(self.data[self.body_at :])
        pieces, rest = self.unchunk(self.body_at)
        if rest != len(self.data) or pieces[-1] != b"":
            raise Wrong("there is more behind the last chunk")
        return b"".join(pieces)

    def unchunk(self, position: int) -> tuple[list[bytes], int]:
        """The chunks from ``position`` on that are whole, and where the next one begins."""
        data, pieces = self.data, []
        while (line_end := data.find(b"\r\n", position)) >= 0:
            begin = line_end + 2
            end = begin + int(data[position:line_end], 16)
            if end + 2 > len(data):
                break
            if data[end : end + 2] != b"\r\n":
                raise Wrong(f"a chunk is not as long as it says: {bytes(data[position:][:99])!r}")
            pieces.append(bytes(data[begin:end]))
            position = end + 2
        return pieces, position

    def _read_head(self) -> bool:
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.body_at = end + 4
        lines = bytes(self.data[:end]).lower().split(b"\r\n")
        if lines[0].split(b" ")[1] != b"200":
            raise Wrong(bytes(self.data[:500]).decode("latin-1"))
        for line in lines[1:]:
            if line.startswith(b"content-length:"):
                self.length = int(line[15:])
        if self.length is None and b"transfer-encoding: chunked" not in lines:
            raise Wrong("neither a length nor chunks")
        return True


class Connection:
    """A connection of the load generator, and the response that it waits for."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=_PATIENCE, source_address=(source, 0)
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.response = Response()
        self.began = 0.0
        self.run_id = b""

    def ask(self, request: bytes) -> None:
        """Send a request, all of which fits into the socket's buffer."""
        self.response = Response()
        self.began = time.perf_counter()
        if self.socket.send(request) != len(request):
            raise Wrong("the server does not read")


class Crowd:
    """Connections that are waited for together."""

    def __init__(self, port: int, count: int) -> None:
        self._epoll = select.epoll()
        # An address has 28,000 ports to connect from, and each is unusable for a minute afterwards.
        self.all = [
            Connection(port, f"127.0.0.{1 + number // _FROM_ONE_ADDRESS}")
            for number in range(count)
        ]
        self._by_file = {one.socket.fileno(): one for one in self.all}
        for file in self._by_file:
            self._epoll.register(file, select.EPOLLIN)

    def arrivals(self, until: float = float("inf")) -> Iterator[tuple[Connection, bool]]:
        """Each connection that something arrived on, and whether its response is complete."""
        while (left := until - time.perf_counter()) > 0:
            ready = self._epoll.poll(min(left, _PATIENCE))
            if not ready and left > _PATIENCE:
                raise Wrong(f"nothing arrived for {_PATIENCE} seconds")
            for file, _ in ready:
                connection = self._by_file[file]
                data = connection.socket.recv(_RECEIVE)
                if not data:
                    raise Wrong("the server closed a connection")
                yield connection, connection.response.feed(data)

    def close(self) -> None:
        """Hang up."""
        self._epoll.close()
        for connection in self.all:
            connection.socket.close()


# --- Requests, and what they must be answered with -----------------------------------------------


def post(path: str, body: bytes) -> bytes:
    """A request, as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def input_of(thread_id: str, run_id: str, props: Any) -> bytes:
    """A RunAgentInput as CopilotKit's client sends it, for one message."""
    message = {"id": f"{run_id}-u", "role": "user", "content": "What does it cost?"}
    run_input = {
        "threadId": thread_id,
        "runId": run_id,
        "state": {},
        "messages": [message],
        "tools": [],
        "context": [],
        "forwardedProps": props,
    }
    return json.dumps(run_input).encode()


def run_request(thread_id: str, run_id: str, props: Any) -> bytes:
    """A run of the scripted agent."""
    return post(f"{BASE}/agent/default/run", input_of(thread_id, run_id, props))


def fresh_ids() -> tuple[str, str]:
    """Return ids of a thread and a run that nobody has seen; their length is always the same."""
    number = next(_serial)
    return f"thread-{number:015d}", f"run-{number:015d}"


def neutral(body: bytes, thread_id: bytes, run_id: bytes) -> bytes:
    """A stream without what differs between two runs that do the same."""
    if body.startswith(b"id: "):
        body = _EVENT_ID.sub(b"", body)
    return body.replace(run_id, b"{run}").replace(thread_id, b"{thread}")


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream that consists of nothing else."""
    frames = _EVENT_ID.sub(b"", body).split(b"\n\n")
    if frames.pop() != b"" or not all(frame.startswith(b"data: {") for frame in frames):
        raise Wrong(f"not a stream of events: {body[:500]!r}")
    return [json.loads(frame[6:]) for frame in frames]


def check_meaning(body: bytes, thread_id: str, run_id: str, deltas: list[str]) -> None:
    """A run, whole and in order.

    :raises Wrong: if it is anything else.
    """
    run = {"threadId": thread_id, "runId": run_id}
    message_id = f"{run_id}-m"
    expected: list[dict[str, Any]] = [
        {"type": "RUN_STARTED", **run},
        {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"},
        *(
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}
            for delta in deltas
        ),
        {"type": "TEXT_MESSAGE_END", "messageId": message_id},
        {"type": "RUN_FINISHED", **run},
    ]
    events = events_of(body)
    if events and events[0].pop("input", {"threadId": thread_id})["threadId"] != thread_id:
        raise Wrong("the run has another one's input")
    if events != expected:
        raise Wrong(f"other events than expected: {body[:2000]!r}")


def tokens(count: int) -> list[str]:
    """Return the deltas of the scripted agent."""
    return [f"token {number} " for number in range(count)]


class Checker:
    """Checks runs of one kind: the first by its meaning, the others by their bytes."""

    def __init__(self, deltas: list[str]) -> None:
        self._deltas = deltas
        self.known = b""

    def check(self, body: bytes, thread_id: str, run_id: str) -> None:
        """Check one.

        :raises Wrong: if it is not what it must be.
        """
        found = neutral(body, thread_id.encode(), run_id.encode())
        if found != self.known:
            check_meaning(body, thread_id, run_id, self._deltas)
            if self.known:
                raise Wrong("the same events, written differently")
            self.known = found


def spread(values: list[float]) -> Result:
    """Median and 99th percentile, in milliseconds if given seconds."""
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered) * 1e3,
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
    }


# --- Commands -----------------------------------------------------------------------------------


def info(command: Command) -> Result:
    """GET /info over and over on each of so many connections."""
    request = f"GET {BASE}/info HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n\r\n".encode()
    crowd = Crowd(command["port"], command["connections"])
    known = b""
    count = size = 0
    begun = time.perf_counter()
    until = begun + command["seconds"]
    for connection in crowd.all:
        connection.ask(request)
    for connection, complete in crowd.arrivals(until):
        if complete:
            body = connection.response.body()
            if not known:
                if list(json.loads(body)["agents"]) != ["default"]:
                    raise Wrong(f"no agents: {body!r}")
                known = body
            if body != known:
                raise Wrong(f"another answer than before: {body!r}")
            count += 1
            size = len(connection.response.data)
            connection.ask(request)
    elapsed = time.perf_counter() - begun
    crowd.close()
    return {"count": count, "seconds": elapsed, "size": size}


def runs(command: Command) -> Result:
    """Runs, each on a thread of its own, one after the other on each of so many connections.

    For ``seconds``, or until there were ``count``.
    """
    props, deltas = command["props"], command["props"].get("deltas", 0)
    path = command.get("path")
    fixed = command.get("ids")
    checker = Checker(tokens(deltas))
    crowd = Crowd(command["port"], command["connections"])
    ids: dict[Connection, tuple[str, str]] = {}
    first: list[float] = []
    whole: list[float] = []
    wanted = command.get("count", sys.maxsize)
    asked = 0

    def ask(connection: Connection) -> None:
        nonlocal asked
        asked += 1
        ids[connection] = tuple(fixed) if fixed else fresh_ids()
        request = run_request(*ids[connection], props)
        if path:
            request = request.replace(f"{BASE}/agent/default/run".encode(), path.encode(), 1)
        connection.ask(request)

    begun = time.perf_counter()
    until = begun + command.get("seconds", float("inf"))
    in_time = 0
    for connection in crowd.all[:wanted]:
        ask(connection)
    for connection, complete in crowd.arrivals():
        now = time.perf_counter()
        if connection.response.first_event():
            first.append(now - connection.began)
        if complete:
            whole.append(now - connection.began)
            checker.check(connection.response.body(), *ids.pop(connection))
            in_time += now <= until
            if now < until and asked < wanted:
                ask(connection)
            elif not ids:
                break
    elapsed = time.perf_counter() - begun
    crowd.close()
    return {
        "count": len(whole),
        "rate": in_time / min(elapsed, command.get("seconds", float("inf"))),
        "seconds": elapsed,
        "first": spread(first),
        "whole": spread(whole),
    }


def record(command: Command) -> Result:
    """Make a run, and write the bytes of its response to a file."""
    crowd = Crowd(command["port"], 1)
    ids = fresh_ids()
    crowd.all[0].ask(run_request(*ids, command["props"]))
    next(complete for _, complete in crowd.arrivals() if complete)
    with open(command["file"], "wb") as file:
        file.write(crowd.all[0].response.data)
    body = crowd.all[0].response.body()
    crowd.close()
    return {"ids": ids, "size": len(body)}


class _Paced:
    """A stream of stamped deltas, checked while it arrives."""

    def __init__(self) -> None:
        self.ids = fresh_ids()
        self.times: list[int] = []
        self._position = 0
        self._rest = b""

    def take(self, response: Response, now: int) -> Iterator[float]:
        """The delays of what has arrived, in seconds."""
        if not response.body_at:
            return
        pieces, self._position = response.unchunk(self._position or response.body_at)
        text = self._rest + b"".join(pieces)
        end = text.rfind(b"\n\n") + 1
        self._rest = text[end:]
        for number, stamp in _STAMP.findall(text[:end]):
            if int(number) != len(self.times):
                raise Wrong(f"delta {int(number)}, expected {len(self.times)}")
            self.times.append(now)
            yield (now - int(stamp)) / 1e9

    def check(self, response: Response, count: int) -> None:
        """Check the whole."""
        body = response.body()
        deltas = [f"{int(number)} {int(stamp)} " for number, stamp in _STAMP.findall(body)]
        if not len(deltas) == len(self.times) == count:
            raise Wrong(f"{len(deltas)} deltas, expected {count}")
        check_meaning(body, *self.ids, deltas)

    @property
    def rate(self) -> float:
        """Events a second from the first to the last."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0]) * 1e9


def paced(command: Command) -> Result:
    """Streams that yield an event every few milliseconds: how long one takes to get here."""
    pause = command["pause"]
    count = int(command["seconds"] * 1000 / pause)
    props = {"deltas": count, "pause": pause, "stamp": True}
    crowd = Crowd(command["port"], command["streams"])
    streams = {connection: _Paced() for connection in crowd.all}
    delays: list[float] = []
    left = len(crowd.all)
    begun = time.perf_counter()
    for number, connection in enumerate(crowd.all):
        # Spread over half a second, as they would be in life.
        time.sleep(max(0.0, begun + number / len(crowd.all) / 2 - time.perf_counter()))
        connection.ask(run_request(*streams[connection].ids, props))
        for ready, complete in crowd.arrivals(time.perf_counter() + 1e-4):
            delays.extend(streams[ready].take(ready.response, time.monotonic_ns()))
            left -= complete
    arrivals = crowd.arrivals()
    while left:
        connection, complete = next(arrivals)
        delays.extend(streams[connection].take(connection.response, time.monotonic_ns()))
        left -= complete
    elapsed = time.perf_counter() - begun
    for connection, stream in streams.items():
        stream.check(connection.response, count)
    crowd.close()
    return {
        "count": len(delays),
        "seconds": elapsed,
        "rate": sum(stream.rate for stream in streams.values()),
        "nominal": command["streams"] * 1000 / pause,
        "delay": spread(delays),
    }


def fanout(command: Command) -> Result:
    """Make a run with so many connected readers: until the last of them has all its events."""
    deltas, readers = command["deltas"], command["readers"]
    thread_id, run_id = fresh_ids()
    gate = run_id
    crowd = Crowd(command["port"], readers + 2)
    runner, releaser, *others = crowd.all

    def until_begun(waiting: set[Connection]) -> None:
        for connection, _ in crowd.arrivals():
            if connection.response.first_event():
                waiting.discard(connection)
                if not waiting:
                    break

    runner.ask(run_request(thread_id, run_id, {"deltas": deltas, "gate": gate}))
    until_begun({runner})
    connect = post(f"{BASE}/agent/default/connect", input_of(thread_id, f"{run_id}-c", {}))
    for at in range(0, len(others), 100):
        for connection in others[at : at + 100]:
            connection.ask(connect)
        until_begun(set(others[at : at + 100]))
    begun = time.perf_counter()
    releaser.ask(run_request(*fresh_ids(), {"release": gate}))
    left = len(crowd.all)
    for _, complete in crowd.arrivals():
        left -= complete
        if left == 0:
            break
    elapsed = time.perf_counter() - begun
    checker = Checker(tokens(deltas))
    for connection in others:
        checker.check(connection.response.body(), thread_id, run_id)
    checker.check(runner.response.body(), thread_id, run_id)
    crowd.close()
    return {"count": (deltas + 4) * readers, "seconds": elapsed}


def fill(command: Command) -> Result:
    """Make so many runs on one thread, for :func:`connect`."""
    crowd = Crowd(command["port"], 1)
    thread_id, first_run = fresh_ids()
    checker = Checker(tokens(command["deltas"]))
    begun = time.perf_counter()
    for number in range(command["runs"]):
        run_id = f"{first_run}-{number:06d}"
        crowd.all[0].ask(run_request(thread_id, run_id, {"deltas": command["deltas"]}))
        next(complete for _, complete in crowd.arrivals() if complete)
        checker.check(crowd.all[0].response.body(), thread_id, run_id)
    crowd.close()
    return {"thread": thread_id, "run": first_run, "seconds": time.perf_counter() - begun}


def connect(command: Command) -> Result:
    """Connect to a thread that :func:`fill` has made, again and again."""
    thread_id, first_run = command["thread"], command["run"]
    request = post(f"{BASE}/agent/default/connect", input_of(thread_id, "run-connect", {}))
    crowd = Crowd(command["port"], 1)
    first: list[float] = []
    whole: list[float] = []
    known = b""
    begun = time.perf_counter()
    while not whole or time.perf_counter() < begun + command["seconds"]:
        connection = crowd.all[0]
        connection.ask(request)
        for _, complete in crowd.arrivals():
            now = time.perf_counter()
            if connection.response.first_event():
                first.append(now - connection.began)
            if complete:
                whole.append(now - connection.began)
                break
        body = connection.response.body()
        # The same each time, the ids of the events included; its meaning is looked at once.
        if body != known:
            if known:
                raise Wrong("another replay than before")
            known = body
            _check_replay(body, thread_id, first_run, command["runs"], command["deltas"])
    crowd.close()
    return {
        "count": len(whole),
        "seconds": time.perf_counter() - begun,
        "first": spread(first),
        "whole": spread(whole),
    }


def _check_replay(body: bytes, thread_id: str, first_run: str, count: int, deltas: int) -> None:
    frames = body.split(b"\n\n")
    size = len(frames) // count
    for number in range(count):
        one = b"\n\n".join([*frames[number * size : (number + 1) * size], b""])
        text = "".join(tokens(deltas))
        check_meaning(one, thread_id, f"{first_run}-{number:06d}", [text])
    if frames[count * size :] != [b""]:
        raise Wrong("there is more than the runs")


def many(command: Command) -> Result:
    """Open so many streams, until each has its first event; :func:`rest_of_many` ends them."""
    crowd = Crowd(command["port"], command["streams"])
    _many[crowd] = {}
    begun = time.perf_counter()
    for at in range(0, len(crowd.all), 100):
        waiting = set(crowd.all[at : at + 100])
        for connection in waiting:
            _many[crowd][connection] = fresh_ids()
            props = {"deltas": SOME, "gate": command["gate"]}
            connection.ask(run_request(*_many[crowd][connection], props))
        for connection, _ in crowd.arrivals():
            if connection.response.first_event():
                waiting.discard(connection)
                if not waiting:
                    break
    return {"count": len(crowd.all), "seconds": time.perf_counter() - begun}


def rest_of_many(command: Command) -> Result:
    """Let all streams of :func:`many` go on, and check each as a whole, to its end."""
    ((crowd, ids),) = _many.items()
    releaser = Crowd(command["port"], 1)
    checker = Checker(tokens(SOME))
    left = len(ids)
    begun = time.perf_counter()
    releaser.all[0].ask(run_request(*fresh_ids(), {"release": command["gate"]}))
    for connection, complete in crowd.arrivals():
        if complete:
            # The streams that were opened first may have heartbeats, because they have waited long
            # enough.
            body = _COMMENT.sub(b"", connection.response.body())
            checker.check(body, *ids[connection])
            left -= 1
            if not left:
                break
    elapsed = time.perf_counter() - begun
    releaser.close()
    crowd.close()
    _many.clear()
    return {"count": len(ids), "seconds": elapsed}


SOME = 3
_many: dict[Crowd, dict[Connection, tuple[str, str]]] = {}
_idle: list[Crowd] = []


def hold(command: Command) -> Result:
    """Open so many streams whose agents wait, and keep them until :func:`release`."""
    crowd = Crowd(command["port"], command["streams"])
    _idle.append(crowd)
    for begin in range(0, len(crowd.all), 100):
        waiting = set(crowd.all[begin : begin + 100])
        for connection in waiting:
            connection.ask(run_request(*fresh_ids(), {"deltas": 1, "wait": True}))
        for connection, _ in crowd.arrivals():
            # The delta is the last that comes.
            if b"token 0" in connection.response.data:
                waiting.discard(connection)
                if not waiting:
                    break
    return {"count": len(crowd.all)}


def release(command: Command) -> Result:
    """Hang up what :func:`hold` has opened."""
    for crowd in _idle:
        crowd.close()
    _idle.clear()
    return {}


COMMANDS: dict[str, Callable[[Command], Result]] = {
    function.__name__: function
    for function in (
        info,
        runs,
        record,
        paced,
        fanout,
        fill,
        connect,
        many,
        rest_of_many,
        hold,
        release,
    )
}


def main() -> None:
    """Obey."""
    for line in sys.stdin:
        command = json.loads(line)
        before = time.process_time()
        try:
            result = COMMANDS[command["do"]](command)
        except (Wrong, OSError) as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        result["client_cpu"] = time.process_time() - before
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
