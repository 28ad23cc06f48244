"""The state machine of one request, driven by hand: what it asks for, in which order, and when."""

from __future__ import annotations

import functools
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import attrs
import pytest
from support.histories import fill
from support.owner import threads_of

from sansio_copilot import (
    BodyRefused,
    BodyTimeout,
    BodyTooLarge,
    CopilotRuntime,
    CorsPolicy,
    Exchange,
    ExchangeState,
    HookContext,
    Hooks,
    Limits,
    LocalProtocolError,
    MemoryStore,
    Reject,
    Request,
    Response,
    Run,
    RunRefused,
    StoreUnavailable,
)
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    ReadBody,
    RunOver,
    SendBytes,
    SendHead,
    StartRun,
    StoreCall,
    WaitForFrames,
)
from sansio_copilot.exchange.machine import TRANSITIONS
from sansio_copilot.exchange.pipeline import Pipeline
from sansio_copilot.exchange.stream import whole_of
from sansio_copilot.http.long_answers import LONG
from sansio_copilot.sse import HEARTBEAT, frame_data
from sansio_copilot.stores.protocol import (
    Batch,
    Orphan,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    ThreadBusy,
)
from sansio_copilot.testing import run_input

BASE = "/api/copilotkit"
NOW = 1_700_000_000.0
S = ExchangeState
SECRET = "password=hunter2"


def agent(input: Any, context: Any) -> Iterator[dict[str, Any]]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def runtime(agents: Any = None, **options: Any) -> CopilotRuntime:
    return CopilotRuntime({"default": agent} if agents is None else agents, **options)


BODY = json.dumps(run_input("t1")).encode()


def run_request(method: str = "POST", what: str = "run", body: bytes | None = None) -> Request:
    return Request(method, f"{BASE}/agent/default/{what}", "", {}, body)


def get(path: str) -> Request:
    return Request("GET", BASE + path)


class Driver:
    """A binding by hand: it performs actions, and writes down every transition."""

    def __init__(self, runtime: CopilotRuntime, request: Request, body: bytes = BODY) -> None:
        self.runtime = runtime
        self.exchange = Exchange(runtime, request, NOW)
        self.body = body
        self.asked: list[Action] = []
        self.transitions: list[tuple[ExchangeState, type[Action], ExchangeState]] = []
        self.failed: list[Action] = []
        self.started: list[Run] = []
        self._homes: list[Iterator[None]] = []
        self._ask(self.exchange.start)

    @property
    def action(self) -> Action:
        return self.asked[-1]

    @property
    def state(self) -> ExchangeState:
        return self.exchange.state

    @property
    def over(self) -> bool:
        return isinstance(self.action, (Finish, Abandon))

    @property
    def names(self) -> list[str]:
        return [type(action).__name__ for action in self.asked]

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def head(self) -> SendHead:
        (head,) = (action for action in self.asked if isinstance(action, SendHead))
        return head

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.head.headers)

    @property
    def sent(self) -> bytes:
        return b"".join(action.data for action in self.asked if isinstance(action, SendBytes))

    @property
    def calls(self) -> list[str]:
        """The store's methods that were called, in order."""
        return [a.function.__name__ for a in self.asked if isinstance(a, StoreCall)]

    def step(self) -> None:
        """Perform the action and report the outcome."""
        try:
            outcome = self._perform(self.action)
        except Exception as error:
            self.fail(error)
        else:
            self._ask(lambda: self.exchange.done(outcome))

    def fail(self, error: Exception) -> None:
        self.failed.append(self.action)
        self._ask(lambda: self.exchange.failed(error))

    def hang_up(self) -> None:
        """The client goes. An action that must be seen through stays the one to perform."""
        self._ask(self.exchange.client_gone)

    def until(self, state: ExchangeState) -> Driver:
        while self.state is not state:
            assert not self.over, f"never came to {state.name}: {self.names}"
            self.step()
        return self

    def finish(self) -> Driver:
        for _ in range(100):
            if self.over:
                return self
            self.step()
        raise AssertionError(f"it does not end: {self.names}")

    def _ask(self, call: Callable[[], Action | None]) -> None:
        before = self.exchange.state
        action = call()
        if action is not None:
            self.asked.append(action)
            self.transitions.append((before, type(action), self.exchange.state))

    def _perform(self, action: Action) -> Any:
        match action:
            case ReadBody(limit=limit):
                if len(self.body) > limit:
                    raise BodyTooLarge("too large")
                return self.body
            case Call(function=function, args=args):
                return function(*args)
            case StartRun(run=run):
                self.started.append(run)
                self._homes.append(steps_of(run))
            case WaitForFrames():
                # The first wait is in vain; then the run goes on, one event for each.
                waits = sum(isinstance(asked, WaitForFrames) for asked in self.asked)
                if waits == 1:
                    return False
                for home in self._homes:
                    next(home, None)
                return True
        return None


def steps_of(run: Run) -> Iterator[None]:
    """Take a run to its end, as its home would, with a pause behind each event."""
    events = iter(run.events())
    action = run.start(0.0)
    while not isinstance(action, RunOver):
        if isinstance(action, Call):
            action = run.stored(action.function(*action.args), NOW)
            yield
        else:
            event = next(events, None)
            action = run.agent_ended(NOW) if event is None else run.event(event, NOW)


def drive(run: Run) -> None:
    """Take a run to its end at once."""
    for _ in steps_of(run):
        pass


def detailed(action: Action) -> str:
    """The class of an action, and for a call or for bytes what they are."""
    words = [type(action).__name__]
    match action:
        case Call(name=name):
            words.append(name)
        case SendBytes(data=data) if data == HEARTBEAT:
            words.append("heartbeat")
        case SendBytes(data=data):
            words += [json.loads(each)["type"] for each in frame_data(data)]
    return " ".join(words)


def fail(*args: Any) -> Any:
    raise RuntimeError(SECRET)


def nothing(context: Any) -> None:
    return None


ALL_HOOKS = Hooks(nothing, nothing, nothing, nothing)


class OrphanedStore(MemoryStore):
    """A store in which the owner of the live run has died, as a shared store finds out."""

    orphan = Orphan(
        RunKey("t1", 1, "dead"), "default", b'data: {"type":"RUN_STARTED","runId":"dead"}\n\n'
    )

    def __init__(self, *, unread: bytes = b"", **options: Any) -> None:
        super().__init__(**options)
        self.unread = unread
        self.adopted: list[bytes] = []

    def open_run(self, request: RunRequest) -> Any:
        return super().open_run(request) if self.adopted else self.orphan

    def request_stop(self, thread_id: str, run_id: str | None, owner: str | None = None) -> Any:
        return super().request_stop(thread_id, run_id, owner) if self.adopted else self.orphan

    def read(self, cursor: Any, max_bytes: int) -> Batch:
        unread, self.unread = self.unread, b""
        if unread or not self.adopted:
            return Batch(unread, cursor, ended=False, orphan=self.orphan)
        return Batch(b"", cursor, ended=True)

    def close_run(self, key: RunKey, at: int, frames: bytes, result: RunResult | None) -> None:
        if key == self.orphan.key:
            assert at == len(self.orphan.frames)
            self.adopted.append(frames)
        super().close_run(key, at, frames, result)


def long_history() -> MemoryStore:
    """A store with a thread whose history is sent in pieces."""
    store = MemoryStore()
    texts = ["x" * LONG, "y" * LONG]
    fill(store, "t2", texts, [{"id": text} for text in texts], texts)
    return store


class RestartingStore(MemoryStore):
    """A store that is unavailable for the first calls of each method.

    :param times: how many calls fail.
    """

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = {"open_run": times, "open_cursor": times, "read": times}

    def fail(self, method: str) -> None:
        self.left[method] -= 1
        if self.left[method] >= 0:
            raise StoreUnavailable(SECRET)

    def open_run(self, request: RunRequest) -> Any:
        self.fail("open_run")
        return super().open_run(request)

    def open_cursor(self, thread_id: str, after: str | None, owner: str | None = None) -> Any:
        self.fail("open_cursor")
        return super().open_cursor(thread_id, after, owner)

    def read(self, cursor: Any, max_bytes: int) -> Any:
        self.fail("read")
        return super().read(cursor, max_bytes)


# --- One request after the other ---------------------------------------------------------------


def test_a_run_asks_for_these_actions_from_the_first_to_the_last() -> None:
    driver = Driver(runtime(hooks=ALL_HOOKS), run_request()).finish()
    assert [detailed(action) for action in driver.asked] == [
        "Call hook on_request",
        "ReadBody",
        "Call hook on_before_handler",
        "StoreCall store method open_run",
        "Call hook on_response",
        "StartRun",
        "SendHead",
        "StoreCall store method read",
        "WaitForFrames",
        "SendBytes heartbeat",
        "StoreCall store method read",
        "WaitForFrames",
        "StoreCall store method read",
        "SendBytes RUN_STARTED",
        "WaitForFrames",
        "StoreCall store method read",
        "SendBytes RUN_FINISHED",
        "WaitForFrames",
        "StoreCall store method read",
        "Finish",
    ]
    assert driver.state is S.FINISHED


def test_no_function_is_called_without_hooks() -> None:
    driver = Driver(runtime(), run_request()).finish()
    assert driver.names[:5] == ["ReadBody", "StoreCall", "StartRun", "SendHead", "StoreCall"]


def test_a_whole_response_is_one_head_and_one_piece() -> None:
    driver = Driver(runtime(), get("/info")).finish()
    assert driver.names == ["SendHead", "SendBytes", "Finish"]
    assert driver.status == 200
    assert driver.headers["content-length"] == str(len(driver.sent))
    assert json.loads(driver.sent)["mode"] == "sse"


def test_a_body_that_was_read_already_is_not_asked_for() -> None:
    driver = Driver(runtime(), run_request(body=BODY)).finish()
    assert driver.names[:2] == ["StoreCall", "StartRun"]
    assert Driver(runtime(), run_request(what="suggest", body=BODY)).names == ["StartRun"]


@pytest.mark.parametrize("path", ["/threads", "/info", "/threads/t1/messages", "/nope"])
def test_a_get_has_no_body_to_read(path: str) -> None:
    assert "ReadBody" not in Driver(runtime(), get(path)).finish().names


def test_the_body_of_a_request_that_is_refused_for_its_method_is_not_read() -> None:
    driver = Driver(runtime(), Request("POST", f"{BASE}/info")).finish()
    assert driver.names == ["SendHead", "SendBytes", "Finish"]
    assert (driver.status, driver.headers["allow"]) == (405, "GET")


def test_the_limit_of_the_body_is_the_runtimes() -> None:
    driver = Driver(runtime(limits=Limits(body_bytes=10)), run_request())
    assert driver.action == ReadBody(10)


def test_a_body_that_there_is_no_room_for_is_to_be_sent_again() -> None:
    driver = Driver(runtime(), run_request())
    assert isinstance(driver.action, ReadBody)
    head = driver.exchange.failed(BodyRefused())
    assert isinstance(head, SendHead)
    assert head.status == 503
    assert dict(head.headers)["retry-after"] == "1"
    assert dict(head.headers)["access-control-allow-origin"] == "*"


def test_a_stream_does_not_keep_the_body_of_its_request() -> None:
    gone = []

    class Body(bytes):
        """A body that says when it is gone."""

        def __del__(self) -> None:
            gone.append(len(self))

    def watch(context: HookContext) -> Request:
        return context.request.with_body(Body(context.request.body or b""))

    driver = Driver(runtime(hooks=Hooks(on_before_handler=watch)), run_request())
    driver.until(ExchangeState.SENDING_HEAD)
    [run] = driver.started
    assert run.context.request.body is None
    assert gone
    assert driver.finish().status == 200


def test_store_calls_say_whether_they_block() -> None:
    class OnDisk(MemoryStore):
        blocking = True

    driver = Driver(runtime(store=OnDisk()), get("/threads"))
    assert isinstance(driver.action, StoreCall)
    assert driver.action.blocking is True
    driver = Driver(runtime(), get("/threads"))
    assert isinstance(driver.action, StoreCall)
    assert driver.action.blocking is False


# --- Content-Length, HEAD and responses without content ----------------------------------------


def test_head_gets_the_head_of_get_and_no_byte_more() -> None:
    whole = Driver(runtime(), Request("GET", f"{BASE}/nope")).finish()
    head = Driver(runtime(), Request("HEAD", f"{BASE}/nope")).finish()
    assert head.head == whole.head
    assert head.names == ["SendHead", "Finish"]


def test_a_response_of_no_exchange_has_content_where_that_of_an_exchange_has() -> None:
    refused = Response(400, {"x": "1", "content-length": "9"}, b"no")
    head = SendHead(400, (("x", "1"), ("content-length", "2")))
    assert whole_of(refused, "GET") == (head, b"no")
    assert whole_of(refused, "HEAD") == (head, b"")
    empty = Response(304, {"content-length": "9"}, b"no")
    assert whole_of(empty, "GET") == (SendHead(304, ()), b"")


def test_a_stream_has_no_content_length() -> None:
    driver = Driver(runtime(), run_request()).finish()
    assert "content-length" not in driver.headers
    assert driver.headers["content-type"] == "text/event-stream"
    assert driver.headers["cache-control"] == "no-cache, no-transform"
    assert driver.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_that_can_have_no_content_has_none(status: int) -> None:
    given = Response(status, {"content-length": "5"}, "hello")
    driver = Driver(runtime(hooks=Hooks(on_response=lambda context: given)), get("/info")).finish()
    assert driver.names == ["Call", "SendHead", "Finish"]
    assert driver.head == SendHead(
        status, (("access-control-allow-origin", "*"),) if driver.status else ()
    )


def test_an_empty_body_has_the_length_0() -> None:
    hooks = Hooks(on_response=lambda context: Response(201))
    driver = Driver(runtime(hooks=hooks), get("/info")).finish()
    assert driver.names == ["Call", "SendHead", "Finish"]
    assert driver.headers["content-length"] == "0"


def test_a_content_length_that_a_hook_got_wrong_is_put_right() -> None:
    hooks = Hooks(on_response=lambda context: Response(200, {"Content-Length": "99"}, "hello"))
    driver = Driver(runtime(hooks=hooks), get("/info")).finish()
    assert [value for name, value in driver.head.headers if name == "content-length"] == ["5"]


def test_the_method_on_the_wire_decides_whether_there_is_a_body() -> None:
    """An envelope that asks for HEAD came in a POST; a hook may make a GET of a HEAD."""
    envelope = {"method": "resource/request", "params": {"path": "/threads", "httpMethod": "HEAD"}}
    request = Request("POST", BASE, "", {"content-type": "application/json"})
    single = runtime(mode="single-route")
    posted = Driver(single, request, json.dumps(envelope).encode()).finish()
    assert posted.status == 405
    assert posted.headers["content-length"] == str(len(posted.sent)) != "0"

    hooks = Hooks(on_request=lambda context: attrs.evolve(context.request, method="GET"))
    head = Driver(runtime(hooks=hooks), Request("HEAD", f"{BASE}/info")).finish()
    assert (head.status, head.sent) == (200, b"")


def test_a_run_started_by_a_head_request_has_no_body_either() -> None:
    def as_post(context: HookContext) -> Request:
        return attrs.evolve(context.request, method="POST", body=BODY)

    driver = Driver(runtime(hooks=Hooks(on_request=as_post)), run_request("HEAD")).finish()
    assert driver.names == ["Call", "StoreCall", "StartRun", "SendHead", "Finish"]


# --- Calls that a state does not allow ---------------------------------------------------------

CALLS: dict[str, Callable[[Exchange], Any]] = {
    "start": lambda exchange: exchange.start(),
    "done": lambda exchange: exchange.done(None),
    "failed": lambda exchange: exchange.failed(RuntimeError("x")),
    "client_gone": lambda exchange: exchange.client_gone(),
}


def allowed(call: str, state: ExchangeState) -> bool:
    if call == "start":
        return state is S.IDLE
    return state not in (S.IDLE, S.FINISHED, S.ABANDONED)


def exchange_in(state: ExchangeState) -> Exchange:
    if state is S.IDLE:
        return Exchange(runtime(), run_request(), NOW)
    driver = Driver(runtime(hooks=ALL_HOOKS, store=RestartingStore(1)), run_request())
    if state is S.ABANDONED:
        driver.hang_up()
    return driver.until(state).exchange


@pytest.mark.parametrize("state", S, ids=lambda state: state.name)
@pytest.mark.parametrize("call", CALLS)
def test_each_state_allows_its_calls(call: str, state: ExchangeState) -> None:
    exchange = exchange_in(state)
    if allowed(call, state):
        CALLS[call](exchange)
        return
    with pytest.raises(LocalProtocolError) as raised:
        CALLS[call](exchange)
    assert str(raised.value) == f"{call} is not allowed in state {state.name}"
    assert exchange.state is state, "the call changed nothing"


def test_a_refused_call_does_no_harm() -> None:
    driver = Driver(runtime(), get("/info"))
    with pytest.raises(LocalProtocolError, match="start is not allowed in state SENDING_HEAD"):
        driver.exchange.start()
    assert driver.finish().state is S.FINISHED


def test_an_action_that_the_table_does_not_have_is_a_bug_of_the_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reply(*args: object) -> Iterator[Any]:
        yield WaitForFrames(MemoryStore(), None, 1)

    monkeypatch.setattr(Pipeline, "reply", reply)
    exchange = Exchange(runtime(), get("/info"), NOW)
    with pytest.raises(AssertionError, match="cannot follow IDLE"):
        exchange.start()


# --- The table is what happens -----------------------------------------------------------------

ENVELOPE = json.dumps({"method": "info"}).encode()
POSTED_JSON = Request("POST", BASE, "", {"content-type": "application/json"})


def failing_at(hook: str) -> Hooks:
    return attrs.evolve(ALL_HOOKS, **{hook: fail})


def scenarios() -> Iterator[tuple[str, Callable[[], Driver]]]:
    """Requests that together take every way through the machine when nothing goes wrong."""
    yield "info", lambda: Driver(runtime(), get("/info"))
    yield "info with hooks", lambda: Driver(runtime(hooks=ALL_HOOKS), get("/info"))
    yield (
        "agents function",
        lambda: Driver(runtime(lambda request: {"default": agent}), get("/info")),
    )
    yield "no content", lambda: Driver(runtime(), get("/inspector-metadata"))
    yield "not found", lambda: Driver(runtime(), get("/nope"))
    yield "preflight", lambda: Driver(runtime(), Request("OPTIONS", f"{BASE}/info"))
    yield "threads", lambda: Driver(runtime(), get("/threads"))
    yield "envelope", lambda: Driver(runtime(mode="single-route"), POSTED_JSON, ENVELOPE)
    yield "stray envelope", lambda: Driver(runtime(), POSTED_JSON, ENVELOPE)
    yield "run", lambda: Driver(runtime(), run_request())
    yield "run with hooks", lambda: Driver(runtime(hooks=ALL_HOOKS), run_request())
    yield "run read already", lambda: Driver(runtime(), run_request(body=BODY))
    yield "no input", lambda: Driver(runtime(), run_request(), b"{")
    yield "too large", lambda: Driver(runtime(limits=Limits(body_bytes=1)), run_request())
    yield "suggest", lambda: Driver(runtime(), run_request(what="suggest"))
    yield (
        "suggest with hooks",
        lambda: Driver(runtime(hooks=ALL_HOOKS), run_request(what="suggest")),
    )
    yield (
        "suggest read already",
        lambda: Driver(runtime(), run_request(what="suggest", body=BODY)),
    )
    yield (
        "a store that restarts",
        lambda: Driver(runtime(store=RestartingStore(2)), run_request()),
    )
    yield (
        "a store that restarts, with hooks",
        lambda: Driver(runtime(store=RestartingStore(1), hooks=ALL_HOOKS), run_request()),
    )
    yield "connect to nothing", lambda: Driver(runtime(), run_request(what="connect"))
    yield "stop", lambda: Driver(runtime(), run_request(what="stop/t1"), b"")
    yield (
        "run in small pieces",
        lambda: Driver(runtime(limits=Limits(read_bytes=50)), run_request()),
    )
    yield "run after an orphan", lambda: Driver(runtime(store=OrphanedStore()), run_request())
    yield (
        "stop of an orphan",
        lambda: Driver(runtime(store=OrphanedStore()), run_request(what="stop/t1"), b""),
    )
    for unread in (b"", b"data: 1\n\n"):
        yield (
            f"connect to an orphan with {len(unread)} bytes",
            lambda unread=unread: Driver(  # type: ignore[misc]
                runtime(store=OrphanedStore(unread=unread)), run_request(what="connect")
            ),
        )
    for hook in ("on_request", "on_before_handler", "on_response"):
        yield (
            f"{hook} fails",
            lambda hook=hook: Driver(runtime(hooks=failing_at(hook)), run_request()),  # type: ignore[misc]
        )
    for what in ("events", "messages", "state"):
        yield (
            f"{what} of a long history",
            lambda what=what: Driver(  # type: ignore[misc]
                runtime(store=long_history(), limits=Limits(read_bytes=LONG)),
                get(f"/threads/t2/{what}"),
            ),
        )
    yield (
        "stream replaced",
        lambda: Driver(
            runtime(hooks=Hooks(on_response=lambda context: Response(503))), run_request()
        ),
    )


SCENARIOS = dict(scenarios())

Fault = Literal["none", "fails", "client goes", "client goes, then it fails"]
FAULTS: tuple[Fault, ...] = ("fails", "client goes", "client goes, then it fails")


def outcomes(scenario: str) -> Iterator[tuple[int, Fault, Driver]]:
    """The scenario undisturbed, then once for each fault in each of its actions."""
    driver = SCENARIOS[scenario]().finish()
    yield 0, "none", driver
    for position, fault in itertools.product(range(len(driver.asked) - 1), FAULTS):
        disturbed = SCENARIOS[scenario]()
        for _ in range(position):
            disturbed.step()
        if fault != "fails":
            disturbed.hang_up()
        if fault != "client goes" and not disturbed.over:
            disturbed.fail(RuntimeError(SECRET))
        yield position, fault, disturbed.finish()


@functools.cache
def outcomes_of(scenario: str) -> list[tuple[int, Fault, Driver]]:
    """The outcomes, made once for all that look at them."""
    return list(outcomes(scenario))


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_action_follows_the_table(scenario: str) -> None:
    for position, fault, driver in outcomes_of(scenario):
        for before, action, after in driver.transitions:
            # After the client has gone, actions that nobody is to see any more are passed over.
            if fault in ("none", "fails"):
                assert TRANSITIONS[before][action] is after, (position, fault)
        assert driver.state in (S.FINISHED, S.ABANDONED)
        assert TRANSITIONS[driver.state] == {}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_response_is_well_formed_whatever_happens(scenario: str) -> None:
    for position, fault, driver in outcomes_of(scenario):
        where = (position, fault, driver.names)
        heads = [i for i, action in enumerate(driver.asked) if isinstance(action, SendHead)]
        pieces = [i for i, action in enumerate(driver.asked) if isinstance(action, SendBytes)]
        assert len(heads) <= 1, where
        assert not pieces or heads[0] < pieces[0], where
        assert sum(isinstance(action, (Finish, Abandon)) for action in driver.asked) == 1, where
        if driver.state is S.FINISHED:
            assert heads, where
            if "content-length" in driver.headers:
                assert int(driver.headers["content-length"]) == len(driver.sent), where
        if fault.startswith("client goes"):
            assert driver.state is S.ABANDONED, where


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_exception_text_is_sent_whatever_happens(scenario: str) -> None:
    for position, fault, driver in outcomes_of(scenario):
        assert SECRET.encode() not in driver.sent, (position, fault)
        heads = [action for action in driver.asked if isinstance(action, SendHead)]
        if driver.state is S.FINISHED and heads[0].status == 500:
            assert json.loads(driver.sent) == {"error": "internal_error"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_run_is_left_open_that_nobody_drives(scenario: str) -> None:
    for position, fault, driver in outcomes_of(scenario):
        store = driver.runtime.store
        assert isinstance(store, MemoryStore)
        if isinstance(store, OrphanedStore):
            continue
        request = RunRequest("t1", "next", "default")
        live = isinstance(MemoryStore.open_run(store, request), ThreadBusy)
        failed_to_close = any(
            isinstance(action, StoreCall) and action.function.__name__ == "close_run"
            for action in driver.failed
        )
        started = any(run.store is store for run in driver.started)
        assert not live or started or failed_to_close, (position, fault, driver.names)


class Traced(dict[type[Action], ExchangeState]):
    """A row of the table that remembers what was looked up."""

    def __init__(self, row: dict[type[Action], ExchangeState]) -> None:
        super().__init__(row)
        self.used: set[type[Action]] = set()

    def get(self, kind: Any, default: Any = None) -> Any:
        self.used.add(kind)
        return super().get(kind, default)


def test_every_entry_of_the_table_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {state: Traced(row) for state, row in TRANSITIONS.items()}
    monkeypatch.setattr("sansio_copilot.exchange.machine.TRANSITIONS", table)
    for scenario in SCENARIOS:
        for _ in outcomes(scenario):
            pass
    assert {state: row.used for state, row in table.items()} == {
        state: set(row) for state, row in TRANSITIONS.items()
    }


def test_an_action_leads_to_the_state_that_waits_for_its_outcome() -> None:
    """The same one from wherever it comes, but for the store and the head: a request reads the log
    last, and what it waits for before its head is the store."""
    leads_to: dict[type[Action], set[ExchangeState]] = {}
    for row in TRANSITIONS.values():
        for action, state in row.items():
            leads_to.setdefault(action, set()).add(state)
    assert leads_to == {
        ReadBody: {S.READING_BODY},
        Call: {S.CALLING},
        StoreCall: {S.STORING, S.READING_LOG},
        StartRun: {S.STARTING_RUN},
        SendHead: {S.SENDING_HEAD},
        SendBytes: {S.SENDING_BYTES},
        WaitForFrames: {S.WAITING_FOR_FRAMES, S.WAITING_FOR_STORE},
        Finish: {S.FINISHED},
        Abandon: {S.ABANDONED},
    }
    assert set(TRANSITIONS) == set(S)


# --- The client goes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [S.CALLING, S.READING_BODY, S.SENDING_HEAD, S.SENDING_BYTES, S.WAITING_FOR_FRAMES],
    ids=lambda state: state.name,
)
def test_an_action_that_only_the_client_waits_for_is_given_up_at_once(state: ExchangeState) -> None:
    driver = Driver(runtime(hooks=ALL_HOOKS), run_request()).until(state)
    driver.hang_up()
    assert driver.action == Abandon()
    assert driver.state is S.ABANDONED


@pytest.mark.parametrize(
    "state", [S.STORING, S.STARTING_RUN, S.READING_LOG], ids=lambda state: state.name
)
def test_an_action_that_began_something_is_seen_through(state: ExchangeState) -> None:
    driver = Driver(runtime(hooks=ALL_HOOKS), run_request()).until(state)
    asked = list(driver.asked)
    driver.hang_up()
    assert driver.asked == asked, "the action in progress is still the one to perform"
    assert driver.state is state
    # The second call changes nothing, because the client has gone already.
    driver.hang_up()
    assert driver.finish().action == Abandon()


def test_a_run_that_was_opened_and_not_started_is_closed_again() -> None:
    store = MemoryStore()
    driver = Driver(runtime(store=store), run_request()).until(S.STORING)
    driver.hang_up()
    driver.finish()
    assert driver.calls == ["open_run", "close_run"]
    assert driver.started == []
    assert isinstance(store.open_run(RunRequest("t1", "r2", "default")), RunOpened)
    assert threads_of(store) == []


def test_a_run_whose_response_was_still_with_a_hook_is_closed_again() -> None:
    driver = Driver(runtime(hooks=ALL_HOOKS), run_request()).until(S.STORING)
    driver.step()
    assert driver.state is S.CALLING
    driver.hang_up()
    assert isinstance(driver.action, StoreCall)
    assert driver.finish().calls == ["open_run", "close_run"]


def test_a_run_that_was_started_goes_on() -> None:
    store = MemoryStore()
    driver = Driver(runtime(store=store), run_request()).until(S.WAITING_FOR_FRAMES)
    driver.hang_up()
    assert driver.calls == ["open_run", "read"]
    (run,) = driver.started
    drive(run)
    assert [record.thread_id for record in threads_of(store)] == ["t1"]


@pytest.mark.parametrize(
    "state",
    [S.STARTING_RUN, S.SENDING_HEAD, S.READING_LOG, S.SENDING_BYTES, S.WAITING_FOR_FRAMES],
    ids=lambda state: state.name,
)
def test_a_run_of_suggest_is_stopped(state: ExchangeState) -> None:
    driver = Driver(runtime(), run_request(what="suggest")).until(state)
    driver.hang_up()
    driver.finish()
    assert driver.calls[-1] == "request_stop"
    (run,) = driver.started
    assert run.store.renew(run.key).name == "STOP"  # type: ignore[union-attr]


def test_a_run_of_suggest_is_stopped_when_its_response_breaks_off_too() -> None:
    driver = Driver(runtime(), run_request(what="suggest")).until(S.SENDING_HEAD)
    driver.fail(ConnectionResetError())
    assert driver.finish().calls == ["request_stop"]
    assert driver.state is S.ABANDONED


def test_a_failure_to_clean_up_is_logged_and_hides_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "sansio_copilot")
    driver = Driver(runtime(hooks=failing_at("on_response")), run_request())
    while "close_run" not in driver.calls:
        driver.step()
    driver.fail(OSError("disk full"))
    driver.fail(OSError("disk full"))
    assert driver.finish().status == 500
    assert driver.calls == ["open_run", "close_run", "close_run"]
    run = "RunKey(thread_id='t1', seq=1, run_id='run-1')"
    assert [record.message for record in caplog.records] == [
        f"store method close_run failed to clean up: {run}",
        f"store method close_run failed to clean up: {run}",
        f"POST {BASE}/agent/default/run failed in hook on_response",
    ]


def test_a_store_that_fails_once_to_clean_up_is_asked_again() -> None:
    store = MemoryStore()
    driver = Driver(runtime(hooks=failing_at("on_response"), store=store), run_request())
    while "close_run" not in driver.calls:
        driver.step()
    driver.fail(OSError("connection lost"))
    assert driver.finish().status == 500
    assert store.open_run(RunRequest("t1", "next", "default")) != ThreadBusy("run-1")


def test_an_orphan_is_finalized_though_the_reader_who_found_it_has_gone() -> None:
    store = OrphanedStore()
    driver = Driver(runtime(store=store), run_request(what="connect")).until(S.READING_LOG)
    driver.hang_up()
    driver.finish()
    assert driver.action == Abandon()
    assert driver.calls[:3] == ["open_cursor", "read", "close_run"]
    assert b'"RUN_ERROR"' in store.adopted[0]


# --- Failures ----------------------------------------------------------------------------------


def test_a_body_that_is_too_large_gets_413() -> None:
    driver = Driver(runtime(limits=Limits(body_bytes=10)), run_request()).finish()
    assert driver.status == 413
    assert json.loads(driver.sent) == {
        "error": "Payload too large",
        "message": "The request body is longer than 10 bytes",
    }


def test_a_body_that_is_too_slow_gets_408_that_a_page_may_read() -> None:
    driver = Driver(runtime(cors=True), run_request()).until(S.READING_BODY)
    driver.fail(BodyTimeout())
    assert driver.finish().status == 408
    assert driver.headers["access-control-allow-origin"] == "*"
    assert json.loads(driver.sent)["error"] == "Request timeout"


def test_a_body_that_cannot_be_read_gets_500() -> None:
    driver = Driver(runtime(), run_request()).until(S.READING_BODY)
    driver.fail(ConnectionResetError(SECRET))
    assert driver.finish().status == 500


@pytest.mark.parametrize("hook", ["on_request", "on_before_handler", "on_response"])
def test_a_hook_that_raises_gets_500(hook: str) -> None:
    driver = Driver(runtime(hooks=failing_at(hook)), run_request()).finish()
    assert driver.status == 500
    assert driver.sent == b'{"error":"internal_error"}'
    assert driver.started == []


def test_a_store_that_raises_before_the_head_gets_500() -> None:
    driver = Driver(runtime(), run_request()).until(S.STORING)
    driver.fail(OSError(SECRET))
    assert driver.finish().status == 500
    assert driver.state is S.FINISHED


def test_a_store_that_raises_behind_the_head_breaks_the_response_off() -> None:
    driver = Driver(runtime(), run_request()).until(S.READING_LOG)
    driver.fail(OSError(SECRET))
    assert driver.action == Abandon()
    assert driver.status == 200
    assert driver.sent == b""


def test_a_run_that_finds_no_home_is_closed_and_gets_500() -> None:
    driver = Driver(runtime(), run_request()).until(S.STARTING_RUN)
    driver.fail(RuntimeError("the server is shutting down"))
    assert driver.calls == ["open_run", "close_run"]
    assert driver.finish().status == 500


def test_an_exception_that_ends_iterations_is_an_error_like_any_other() -> None:
    driver = Driver(runtime(hooks=ALL_HOOKS), get("/info")).until(S.CALLING)
    driver.fail(StopIteration())
    assert driver.finish().status == 500


def test_a_failure_is_logged_with_the_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "sansio_copilot")
    Driver(runtime(hooks=failing_at("on_request")), get("/info")).finish()
    (record,) = caplog.records
    assert record.message == f"GET {BASE}/info failed in hook on_request"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == SECRET


def test_a_response_that_breaks_off_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "sansio_copilot")
    Driver(runtime(), get("/info")).until(S.SENDING_BYTES).fail(ConnectionResetError())
    assert [record.message for record in caplog.records] == ["the response broke off"]


def test_a_log_that_the_store_has_let_go_of_breaks_the_response_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client must not take a part of the response for the whole, although nobody has failed."""
    store = MemoryStore()
    server = runtime(store=store, limits=Limits(read_bytes=100))
    Driver(server, run_request()).finish()
    connect = Request("POST", f"{BASE}/agent/default/connect", body=run_request().body)
    driver = Driver(server, connect).until(S.SENDING_BYTES)
    store.delete_thread("t1")
    caplog.clear()
    caplog.set_level(logging.INFO, "sansio_copilot")
    driver.finish()
    assert driver.exchange.state is S.ABANDONED
    assert len(driver.sent) == 100
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert record.getMessage() == (
        f"POST {BASE}/agent/default/connect was broken off: what was to be sent has been evicted "
        "or deleted"
    )


# --- CORS that fails ---------------------------------------------------------------------------


def test_a_cors_policy_that_fails_lets_nobody_in() -> None:
    policy = CorsPolicy(origin=fail)
    request = Request("GET", f"{BASE}/info", "", {"origin": "https://app.example.com"})
    driver = Driver(runtime(cors=policy), request).finish()
    assert driver.status == 200
    assert "access-control-allow-origin" not in driver.headers
    assert driver.headers["vary"] == "Origin"


def test_a_preflight_that_a_policy_fails_on_gets_500() -> None:
    request = Request("OPTIONS", f"{BASE}/info", "", {"origin": "https://app.example.com"})
    driver = Driver(runtime(cors=CorsPolicy(origin=fail)), request).finish()
    assert (driver.status, driver.sent) == (500, b'{"error":"internal_error"}')
    assert "access-control-allow-origin" not in driver.headers
    assert driver.headers["vary"] == (
        "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
    )


# --- Following the log -------------------------------------------------------------------------


def test_silence_is_filled_with_heartbeats() -> None:
    limits = Limits(heartbeat_seconds=7)
    driver = Driver(runtime(limits=limits), run_request()).until(S.WAITING_FOR_FRAMES)
    assert isinstance(driver.action, WaitForFrames)
    assert driver.action.timeout == 7
    driver.step()
    assert driver.action == SendBytes(HEARTBEAT)  # type: ignore[comparison-overlap]
    assert HEARTBEAT.startswith(b":")


def test_the_log_is_read_in_pieces_of_the_limit() -> None:
    driver = Driver(runtime(limits=Limits(read_bytes=64)), run_request()).until(S.SENDING_HEAD)
    drive(driver.started[0])
    driver.finish()
    pieces = [action.data for action in driver.asked if isinstance(action, SendBytes)]
    assert [len(piece) for piece in pieces[:-1]] == [64] * (len(pieces) - 1)
    assert b"".join(pieces).count(b"\n\n") == 2
    assert "WaitForFrames" not in driver.names, "behind a full piece there may be more"


def test_frames_that_came_during_a_send_are_sent_without_waiting() -> None:
    driver = Driver(runtime(), run_request()).until(S.SENDING_HEAD)
    drive(driver.started[0])
    assert driver.finish().names[-4:] == ["SendHead", "StoreCall", "SendBytes", "Finish"]


def test_a_thread_that_nobody_knows_is_an_empty_stream() -> None:
    driver = Driver(runtime(), run_request(what="connect")).finish()
    assert driver.names[-3:] == ["SendHead", "StoreCall", "Finish"]
    assert (driver.status, driver.sent) == (200, b"")


@pytest.mark.parametrize("what", ["run", "stop/t1"])
def test_an_orphan_in_the_way_is_finalized_first(what: str) -> None:
    store = OrphanedStore()
    body = BODY if what == "run" else b""
    driver = Driver(runtime(store=store), run_request(what=what), body).finish()
    assert driver.status == 200
    assert driver.calls[1] == "close_run"
    assert b"The server that ran the agent has died" in store.adopted[0]


def test_an_orphan_that_was_asked_to_stop_ends_as_if_stopped() -> None:
    store = OrphanedStore()
    store.orphan = attrs.evolve(store.orphan, stop_requested=True)
    Driver(runtime(store=store), run_request()).finish()
    assert b'"RUN_FINISHED"' in store.adopted[0]


# --- Paths -------------------------------------------------------------------------------------


def test_a_path_is_resolved_before_anybody_decides_by_it() -> None:
    seen: list[str] = []

    def on_request(context: Any) -> None:
        seen.extend((context.path, context.request.path))
        raise Reject(Response(403))

    request = Request("GET", f"{BASE}/open/../info")
    Driver(runtime(hooks=Hooks(on_request=on_request)), request).finish()
    assert seen == [f"{BASE}/info"] * 2


def test_a_server_that_has_no_home_for_a_run_is_told_from_a_failure() -> None:
    made = runtime()
    exchange = made.exchange(run_request(body=BODY), NOW)
    action = exchange.start()
    while not isinstance(action, StartRun):
        assert isinstance(action, Call)
        action = exchange.done(action.function(*action.args))
    discard = exchange.failed(RunRefused("The server is shutting down"))
    assert isinstance(discard, StoreCall)
    discard.function(*discard.args)
    head = exchange.done()
    assert isinstance(head, SendHead)
    assert (head.status, dict(head.headers)["retry-after"]) == (503, "1")
    content = exchange.done()
    assert isinstance(content, SendBytes)
    assert json.loads(content.data)["message"] == "The server is shutting down"
    # The thread is free again.
    assert isinstance(made.store.open_run(RunRequest("t1", "next", "default")), RunOpened)


# --- The log of responses -------------------------------------------------------------------------


class TestAccessLog:
    """A line for each response, once an application wants such lines."""

    @pytest.fixture
    def lines(self, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
        caplog.set_level(logging.INFO, "sansio_copilot.access")
        return lambda: [
            record.getMessage()
            for record in caplog.records
            if record.name == "sansio_copilot.access"
        ]

    def test_a_response_has_a_line_when_it_is_over(
        self, lines: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
    ) -> None:
        exchange = CopilotRuntime({}).exchange(Request.from_target("GET", "/no?a=b", ()), 5.0)
        exchange.start()
        exchange.done()
        assert lines() == []
        exchange.done()
        assert lines() == ["GET /no 404"]
        assert caplog.records[-1].started_at == 5.0  # type: ignore[attr-defined]

    def test_the_line_of_a_response_that_breaks_off_says_so(
        self, lines: Callable[[], list[str]]
    ) -> None:
        exchange = CopilotRuntime({}).exchange(Request.from_target("GET", "/no", ()), 5.0)
        exchange.start()
        exchange.client_gone()
        assert lines() == ["GET /no 404, broken off"]

    def test_the_access_log_is_off_by_default(self) -> None:
        assert not logging.getLogger("sansio_copilot.access").isEnabledFor(logging.INFO)
