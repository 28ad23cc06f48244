"""Attempts of Bob's to learn of Ann's thread, or to touch it, each by another way.

Each is made where Ann has a thread with history and a live run, and where there is nothing at all,
and has to be told the same: status, fields, bytes and steps. An attempt to run is told that the
thread cannot be had, and nothing else. Afterwards Ann's run goes on as if nobody had been there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.relations import BASE, Asked, Told, World, identify

from sansio_copilot import (
    CopilotRuntime,
    HookContext,
    Hooks,
    MemoryStore,
    Request,
    User,
    text_agent,
)
from sansio_copilot.sse import Parser
from sansio_copilot.stores import RunOpened, RunRequest
from sansio_copilot.testing import Client, run_input

STORES: dict[str, Callable[[], Any]] = {
    "reject": MemoryStore,
    "supersede": lambda: MemoryStore(on_concurrent_run="supersede"),
}


def hers(store: str) -> World:
    """Return a world in which Ann has a thread with history and a live run."""
    world = World(STORES[store]())
    world.open(run_id="first")
    world.finish()
    world.open()
    return world


def event_ids() -> list[str]:
    """Ids of events in Ann's thread: of raw frames, of compacted ones, and of the live run's."""
    world = World()
    raw = world.open(run_id="first")
    world.finish()
    replay = world.post("agent/default/connect", run_input("t", "c"), "ann")
    live = world.store.open_run(RunRequest("t", "live", "default", owner="ann"))
    assert isinstance(live, RunOpened)
    ids = [event.id for told in (raw, replay) for event in Parser().feed(told.body)]
    return [*ids, f"{live.key.token}.0"]


def post(path: str, body: Any, **headers: str) -> Asked:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Asked(path, "multi-route", "POST", f"{BASE}/{path}", data, headers)


def get(path: str, method: str = "GET") -> Asked:
    return Asked(path, "multi-route", method, f"{BASE}/{path}", b"")


def envelope(method: str, params: Any, body: Any = None, mode: Any = "both") -> Asked:
    content = {"method": method, "params": params, "body": body}
    return Asked(method, mode, "POST", BASE, json.dumps(content).encode())


def resource(path: str, method: str = "GET", body: Any = None) -> Asked:
    return envelope("resource/request", {"path": path, "httpMethod": method}, body)


HIS = run_input("t", "his")
CONNECT, RUN, STOP = "agent/default/connect", "agent/default/run", "agent/default/stop/t"
AGENT = {"agentId": "default"}
HER_MESSAGES = [{"id": "m-first", "role": "user", "content": "?"}]
HER_PAGE = base64.urlsafe_b64encode(b'[1700000000.0,"t"]').rstrip(b"=").decode()


def attempts() -> Iterator[tuple[str, Asked]]:
    """The attempts of a user at another's thread, besides a run."""
    yield "connect", post(CONNECT, HIS)
    yield "connect in an envelope", envelope("agent/connect", AGENT, HIS)
    yield "connect in single-route mode", envelope("agent/connect", AGENT, HIS, "single-route")
    for number, event_id in enumerate(event_ids()):
        yield f"resume {number}", post(CONNECT, HIS, **{"last-event-id": event_id})
        yield f"resume by the body {number}", post(CONNECT, {**HIS, "lastSeenEventId": event_id})
    yield "connect with her messages", post(CONNECT, {**HIS, "messages": HER_MESSAGES})
    yield "connect as her run", post(CONNECT, run_input("t", "live"))
    yield (
        "a thread named twice",
        post(CONNECT, b'{"threadId":"x",%b' % json.dumps(HIS)[1:].encode()),
    )
    yield "an owner in the body", post(CONNECT, {**HIS, "owner": "ann", "userId": "ann"})
    yield "an owner forwarded", post(CONNECT, {**HIS, "forwardedProps": {"owner": "ann"}})
    yield "stop", post(STOP, {})
    yield "stop her run by its id", post(STOP, {"runId": "live"})
    yield "stop one that has ended", post(STOP, {"runId": "first"})
    yield "stop in an envelope", envelope("agent/stop", {**AGENT, "threadId": "t"})
    yield "stop through another path", post("x/agent/default/stop/%74", {})
    yield "suggest", post("agent/default/suggest", HIS)
    for kind in ("messages", "events", "state"):
        yield kind, get(f"threads/t/{kind}")
        yield f"{kind}, page by page", get(f"threads/t/{kind}?limit=1&cursor=0")
        yield f"{kind} behind the end", get(f"threads/t/{kind}?limit=1&cursor=99")
        yield f"head of {kind}", get(f"threads/t/{kind}", "HEAD")
        yield f"{kind} in an envelope", resource(f"/threads/t/{kind}")
        yield f"{kind} by detours", get(f"threads/x/..//%74/{kind}/")
        yield f"{kind} of an owner", get(f"threads/t/{kind}?owner=ann&userId=ann")
    yield "detours in an envelope", resource("/threads/./t/messages?limit=1")
    yield "list", get("threads")
    yield "list with archived ones", get("threads?includeArchived=true&limit=1000")
    yield "list her agent's", get("threads?agentId=default")
    yield "list behind a page of hers", get(f"threads?cursor={HER_PAGE}&limit=1")
    yield "list hers", get("threads?owner=ann&userId=ann&user=ann")
    yield "list in an envelope", resource("/threads")
    yield "rename", Asked("rename", "both", "PATCH", f"{BASE}/threads/t", b'{"name":"his"}')
    yield "take", Asked("take", "both", "PATCH", f"{BASE}/threads/t", b'{"owner":"bob","name":""}')
    yield "rename in an envelope", resource("/threads/t", "PATCH", {"name": "his"})
    yield "archive", post("threads/t/archive", {})
    yield "archive in an envelope", resource("/threads/t/archive", "POST", {})
    yield "delete", get("threads/t", "DELETE")
    yield "delete in an envelope", resource("/threads/t", "DELETE")
    yield "clear", post("threads/clear", {})
    yield "clear in an envelope", resource("/threads/clear", "POST", {})
    yield "look at the feed", get("cpk-debug-events")
    yield "describe", get("info")
    yield "recall", post("memories/recall", {"threadId": "t"})
    yield "annotate", post("annotate", {"threadId": "t"})
    yield "subscribe", post("threads/subscribe", {"threadId": "t"})


def runs() -> Iterator[tuple[str, Asked]]:
    """Attempts to run."""
    yield "run", post(RUN, HIS)
    yield "run as her run", post(RUN, run_input("t", "live"))
    yield "run as one that has ended", post(RUN, run_input("t", "first"))
    yield "run with her messages", post(RUN, {**HIS, "messages": HER_MESSAGES})
    yield "run behind her last event", post(RUN, HIS, **{"last-event-id": event_ids()[-1]})
    yield "run in an envelope", envelope("agent/run", AGENT, HIS)
    yield "run in single-route mode", envelope("agent/run", AGENT, HIS, "single-route")
    yield "run for her", post(RUN, {**HIS, "owner": "ann", "forwardedProps": {"owner": "ann"}})


ATTEMPTS, RUNS = dict(attempts()), dict(runs())


def goes_on(world: World) -> None:
    """Ann's run goes on, and all is there in the end."""
    world.finish()
    replay = world.post(CONNECT, run_input("t", "c"), "ann")
    types = [json.loads(event.data)["type"] for event in Parser().feed(replay.body)]
    assert types.count("RUN_FINISHED") == 2
    [thread] = json.loads(world.get("threads?includeArchived=true", "ann").body)["threads"]
    assert (thread["id"], thread["name"], thread["archived"]) == ("t", None, False)


def test_the_attempts_are_forty() -> None:
    assert len(ATTEMPTS) + len(RUNS) >= 40


@pytest.mark.untraced
@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_tells_no_more_than_if_there_was_no_thread(name: str) -> None:
    for store in STORES:
        world = hers(store)
        asked = ATTEMPTS[name]
        told, none = world.ask(asked, "bob"), World(STORES[store]()).ask(asked, "bob")
        assert told == none
        assert b"Hi ann" not in told.body
        goes_on(world)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_tells_that_the_thread_cannot_be_had(name: str) -> None:
    """The answer tells neither that a run is live nor its id, and no live run is superseded."""
    answers: set[Told] = set()
    for store in STORES:
        world = hers(store)
        told = world.ask(RUNS[name], "bob")
        assert (told.status, json.loads(told.body)["error"]) == (404, "Thread not found")
        assert len(world.runs) == 1, "no run is started"
        goes_on(world)
        # The same is told of a thread whose runs have ended.
        answers |= {told, world.ask(RUNS[name], "bob")}
    assert len(answers) == 1


def test_the_steps_for_no_thread_are_those_for_anothers() -> None:
    """The steps of every attempt are counted, because then no clock tells more than the answer."""
    for asked in ATTEMPTS.values():
        told = hers("reject").ask(asked, "bob")
        assert told.steps == World().ask(asked, "bob").steps
        assert told.steps[0] == "Call the function identify_user"


def test_nobody_waits_for_a_thread_that_is_to_be_anothers() -> None:
    """A reader of a thread that there is not yet is at its end, and hears nothing later."""
    world = World()
    told = world.post(CONNECT, HIS, "bob")
    assert (told.status, told.body) == (200, b"")
    assert told.steps[-1] == "Finish"


def test_a_thread_of_the_same_id_is_another_one() -> None:
    """Ann deletes hers, and Bob takes the id: nothing of hers is in it, nor of his in hers."""
    world = hers("reject")
    world.finish()
    assert world.ask(get("threads/t", "DELETE"), "ann").status == 200
    fresh = World().open("t", "his", "bob")
    told = world.ask(post(RUN, {**HIS, "messages": HER_MESSAGES}), "bob")
    assert told.status == fresh.status == 200
    world.finish()
    for event_id in event_ids():
        replay = world.post(CONNECT, HIS, "bob", last_event_id=event_id)
        assert replay.body == world.post(CONNECT, HIS, "bob").body
        assert b"ann" not in replay.body
    assert world.post(CONNECT, HIS, "ann").body == b""


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield "Hello"
    yield f" {context.user.id}"


def as_user(name: str) -> dict[str, str]:
    return {"x-user": name}


def test_a_feed_has_the_runs_of_its_user_only() -> None:
    client = Client(CopilotRuntime({"default": hello}, identify_user=identify, debug=True))
    feeds = {
        name: client.stream("GET", f"{BASE}/cpk-debug-events", headers=as_user(name))
        for name in ("ann", "bob")
    }
    for name in feeds:
        client.post(f"{BASE}/{RUN}", json=run_input(f"of {name}"), headers=as_user(name))
    for name, feed in feeds.items():
        assert {envelope["threadId"] for envelope in feed.ready()} == {f"of {name}"}


def test_a_reader_of_nothing_is_no_follower_of_anothers_run() -> None:
    """The reader neither keeps an abandoned run alive, nor has it stopped later."""
    client = Client(
        CopilotRuntime({"default": hello}, identify_user=identify, stop_when_abandoned=10)
    )
    run = client.stream("POST", f"{BASE}/{RUN}", json=run_input("t"), headers=as_user("ann"))
    run.next()
    run.close()
    client.advance(9)
    client.post(f"{BASE}/{CONNECT}", json=run_input("t"), headers=as_user("bob"))
    client.advance(1)
    answer = client.post(f"{BASE}/{CONNECT}", json=run_input("t"), headers=as_user("ann"))
    assert answer.events()[-1]["type"] == "RUN_FINISHED"
    assert b"ann" not in answer.body, "the agent was stopped in front of it"


def test_no_hook_changes_who_asks() -> None:
    """The user stays, whatever request a hook puts in the place of the one that was identified."""

    def impersonate(context: HookContext) -> Request:
        return Request(
            context.request.method,
            context.request.path,
            headers={"content-type": "application/json", "x-user": "ann"},
            body=context.request.body,
            user=User("ann"),
        )

    world = World(hooks=Hooks(on_before_handler=impersonate))
    plain = World(world.store)
    plain.open()
    plain.finish()
    assert world.get("threads/t/messages", "bob").body == b'{"messages":[]}'
