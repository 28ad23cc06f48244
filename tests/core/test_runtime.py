"""CopilotRuntime: what it takes, and what it makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sansio_copilot import (
    CopilotRuntime,
    CorsPolicy,
    Exchange,
    ExchangeState,
    ForwardHeaders,
    Hooks,
    Limits,
    MemoryStore,
    Request,
    Response,
)
from sansio_copilot.actions import Call
from sansio_copilot.http.refusals import NOT_STARTED
from sansio_copilot.stores.optional_methods import lease_of
from sansio_copilot.testing import Client


def agent(input: Any, context: Any) -> Iterator[Any]:
    return iter(())


def test_a_runtime_has_its_defaults_if_only_agents_are_given() -> None:
    runtime = CopilotRuntime({"default": agent})
    assert runtime.agents == {"default": agent}
    assert runtime.base_path == "/api/copilotkit"
    assert runtime.mode == "multi-route"
    assert runtime.cors == CorsPolicy()
    assert runtime.hooks == Hooks()
    assert isinstance(runtime.store, MemoryStore)
    assert runtime.transcription is None
    assert runtime.forward_headers == ForwardHeaders()
    assert runtime.limits == Limits()


def test_each_runtime_has_a_store_of_its_own() -> None:
    assert CopilotRuntime({}).store is not CopilotRuntime({}).store


def test_the_arguments_of_a_runtime_are_used() -> None:
    policy, hooks, store = CorsPolicy(origin="https://a.example"), Hooks(), MemoryStore()
    forward, limits = ForwardHeaders(deny=["x-a"]), Limits(body_bytes=5)
    runtime = CopilotRuntime(
        {}, cors=policy, hooks=hooks, store=store, forward_headers=forward, limits=limits
    )
    assert runtime.cors is policy
    assert runtime.hooks is hooks
    assert runtime.store is store
    assert runtime.forward_headers is forward
    assert runtime.limits is limits
    assert CopilotRuntime({}, cors=False).cors is None


class Refused(Exception):
    """A start that fails."""


def test_a_client_of_a_test_starts_and_closes_the_runtime() -> None:
    done: list[str] = []

    async def start() -> None:
        done.append("start")

    client = Client(CopilotRuntime({}, on_start=start, on_close=lambda: done.append("close")))
    assert done == ["start"]
    client.close()
    assert done == ["start", "close"]


def test_a_client_of_a_test_closes_a_runtime_that_did_not_start() -> None:
    done: list[str] = []

    def start() -> None:
        raise Refused

    with pytest.raises(Refused):
        Client(CopilotRuntime({}, on_start=start, on_close=lambda: done.append("close")))
    assert done == ["close"]


def test_the_agents_are_those_of_the_moment() -> None:
    agents = {"a": agent}
    runtime = CopilotRuntime(agents)
    agents["b"] = agent
    assert list(runtime.agents) == ["a"]  # type: ignore[arg-type]


def store_with(**members: Any) -> MemoryStore:
    """A store with members that MemoryStore lacks."""

    class Odd(MemoryStore):
        pass

    store = Odd()
    for name, member in members.items():
        setattr(store, name, member)
    return store


def test_a_store_may_have_the_optional_methods_and_none_of_them_is_needed() -> None:
    for store in (
        store_with(),
        store_with(open=lambda: None, close=lambda: None, check=lambda: None, lease=15),
        store_with(open=None, close=None, check=None, lease=None),
    ):
        client = Client(CopilotRuntime({}, store=store))
        assert client.get("/api/copilotkit/info").status == 200
        client.close()
    assert lease_of(store_with(lease=15)) == 15
    assert lease_of(store_with(lease=None)) is lease_of(store_with()) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agents": [agent]}, "agents is a mapping from id to agent or a function of the request"),
        ({"agents": None}, "agents is a mapping .*, not NoneType"),
        ({"agents": {"a": 5}}, "agent 'a' is neither callable nor has a method run"),
        ({"agents": {None: agent}}, "the id of an agent is a str, not None"),
        ({"hooks": {}}, "hooks is a Hooks, not dict"),
        ({"forward_headers": ["x-a"]}, "forward_headers is a ForwardHeaders, not list"),
        ({"limits": 5}, "limits is a Limits, not int"),
        ({"transcription": "whisper"}, "transcription is a function of an AudioFile, not str"),
        ({"a2ui": "default"}, "a2ui is a bool or the ids of agents, not str"),
        ({"a2ui": 1}, "a2ui is a bool or the ids of agents, not int"),
        ({"cors": "*"}, "cors must be a bool or a CorsPolicy, not str"),
        ({"debug": "false"}, "debug is a bool, not str"),
        ({"thread_mutations": "0"}, "thread_mutations is a bool, not str"),
        ({"shared_threads": 0}, "shared_threads is a bool, not int"),
        ({"raw_events": "no"}, "raw_events is a bool, not str"),
        ({"open_generative_ui": []}, "open_generative_ui is a bool, not list"),
        ({"base_path": 5}, "base_path must be a str or None, not int"),
        ({"on_start": "open"}, "on_start is a function without arguments, not str"),
        ({"on_start": agent}, r"on_start is a function without arguments, not of \(input"),
        ({"on_close": 5}, "on_close is a function without arguments, not int"),
        ({"store": 5}, r"the store int has no open_run, append, .*, clear, blocking \(a bool\)"),
        ({"store": MemoryStore}, "store is the class MemoryStore, not one made of it"),
        (
            {"store": store_with(open=lambda url: None)},
            r"open of the store Odd is a function without arguments, not of \(url\)",
        ),
        (
            {"store": store_with(close=True)},
            "close of the store Odd is a function without arguments, not bool",
        ),
        (
            {"store": store_with(check=lambda one, two: None)},
            r"check of the store Odd is a function without arguments, not of \(one, two\)",
        ),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        CopilotRuntime(**{"agents": {}, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "single"}, "mode is 'multi-route', 'single-route' or 'both', not 'single'"),
        ({"base_path": "api"}, "base_path must start with '/'"),
        ({"base_path": "/api?x"}, "base_path must not have a query"),
        (
            {"store": store_with(lease="15")},
            "lease of the store Odd must be a number above 0, got '15'",
        ),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CopilotRuntime(**{"agents": {}, **arguments})


@pytest.mark.parametrize(
    ("base_path", "answered", "refused"),
    [
        ("/api/copilotkit", ["/api/copilotkit/info", "/api/copilotkit/info/"], ["/info", "/api"]),
        ("/api/copilotkit/", ["/api/copilotkit/info"], ["/info"]),
        ("/", ["/info", "/any/info"], ["/"]),
        (None, ["/info", "/any/prefix/info"], ["/", "/infos"]),
        ("", ["/info"], ["/"]),
    ],
)
def test_a_runtime_knows_where_it_is_mounted(
    base_path: str | None, answered: list[str], refused: list[str]
) -> None:
    client = Client(CopilotRuntime({}, base_path=base_path))
    assert [client.get(path).status for path in answered] == [200] * len(answered)
    assert [client.get(path).status for path in refused] == [404] * len(refused)


def test_single_route_mode_takes_envelopes_at_its_base_path() -> None:
    client = Client(CopilotRuntime({}, mode="single-route", base_path="/copilot"))
    assert client.post("/copilot", json={"method": "info"}).status == 200
    assert client.get("/copilot/info").status == 405


def test_a_runtime_makes_exchanges() -> None:
    runtime = CopilotRuntime({})
    first, second = (runtime.exchange(Request("GET", "/"), 0.0) for _ in range(2))
    assert isinstance(first, Exchange)
    assert first is not second
    assert first.state is ExchangeState.IDLE


def test_a_hook_is_a_function() -> None:
    with pytest.raises(TypeError, match="on_response is a function of a HookContext, not int"):
        Hooks(on_response=3)  # type: ignore[arg-type]


def test_behind_another_cors_policy_the_default_is_left_out() -> None:
    for cors, kept in ((True, False), (CorsPolicy(), False), (CorsPolicy(max_age=1), True)):
        runtime = CopilotRuntime({}, cors=cors)
        behind = runtime.behind_cors()
        assert (behind.cors is not None) == kept
        assert runtime.cors is not None
        assert behind.store is runtime.store
    assert CopilotRuntime({}, cors=False).behind_cors().cors is None


class TestRefused:
    """A response in the place of an exchange has the CORS headers of one."""

    OURS = "https://app.example.com"
    ALLOWED = "access-control-allow-origin"

    def answer(self, method: str = "POST", path: str = "/x", **options: Any) -> Response:
        runtime = CopilotRuntime({}, **options)
        request = Request(method, path, headers=[("origin", self.OURS)])
        return runtime.refused(request, NOT_STARTED)

    def test_a_refusal_may_be_read_as_the_policy_says(self) -> None:
        assert self.answer().headers[self.ALLOWED] == "*"
        assert self.answer().status == NOT_STARTED.status
        named = self.answer(cors=CorsPolicy(origin=[self.OURS], credentials=True)).headers
        assert (named[self.ALLOWED], named["vary"]) == (self.OURS, "Origin")
        other = self.answer(cors=CorsPolicy(origin=["https://other.example"])).headers
        assert self.ALLOWED not in other
        assert other["vary"] == "Origin"

    def test_a_preflight_is_answered(self) -> None:
        assert self.answer("OPTIONS").status == 204
        assert self.answer("OPTIONS").headers[self.ALLOWED] == "*"

    def test_a_policy_that_fails_lets_nobody_in(self) -> None:
        def fail(origin: str) -> bool:
            raise RuntimeError(origin)

        answer = self.answer(cors=CorsPolicy(origin=fail))
        assert self.ALLOWED not in answer.headers
        assert answer.body == NOT_STARTED.body

    def test_a_refusal_without_a_policy_or_for_a_probe_stays_as_it_is(self) -> None:
        assert self.answer(cors=False) is NOT_STARTED
        for method in ("GET", "OPTIONS"):
            assert self.answer(method, "/ready", readiness_path="/ready") is NOT_STARTED


def test_functions_of_one_kind_share_threads_whatever_they_are_called() -> None:
    assert Call(print, name="hook on_request").pool == "hook on_request"
    assert Call(print, name="store method read", part="store").pool == "store"
    assert Call(print, name="capabilities of 'a'", kind="capabilities").pool == "capabilities"
