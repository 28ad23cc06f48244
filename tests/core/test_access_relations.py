"""Every route for everybody: nobody, owner, another, one who was given a share, an administrator.

The routes come from the table by which requests are routed, so that a new one has to be entered
here. What is expected is nowhere written down as an answer: somebody who may do a thing is told
what the owner is told, and somebody who may not is told what everybody is told where there is no
such thread, in the same bytes and after the same steps.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from support.relations import Asked, Told, World, authorize, requests

from sansio_copilot import MemoryStore
from sansio_copilot.access import ThreadAction
from sansio_copilot.http.refusals import UNAUTHORIZED
from sansio_copilot.http.routing import ENDPOINTS
from sansio_copilot.testing import run_input

pytestmark = pytest.mark.untraced

ACTIONS: dict[str, ThreadAction | None] = {
    "info": None,
    "inspector/metadata": None,
    "inspector/learning": None,
    "transcribe": None,
    "cpk-debug-events": "debug",
    "agent/run": "run",
    # A suggestion stores nothing, and reads nothing that is stored.
    "agent/suggest": None,
    "agent/connect": "connect",
    "agent/stop": "stop",
    "threads/subscribe": None,
    "threads/messages": "read",
    "threads/events": "read",
    "threads/state": "read",
    "threads/archive": "archive",
    "threads/clear": "clear",
    "threads/update": "update",
    "threads/list": "list",
    "memories/recall": None,
    "memories/subscribe": None,
    "memories/mutate": None,
    "memories/list": None,
    "annotate": None,
}
"""The action of each route on threads; None if it has none."""

OF_ALL_THREADS = ("list", "clear", "debug")
READING = ("connect", "read")

Prepare = Callable[[World], object]


def nothing(world: World) -> None:
    """Prepare a world without a thread."""


def ended(world: World) -> None:
    """Ann has a thread whose runs have ended."""
    for run_id in ("first", "second"):
        world.open(run_id=run_id)
        world.finish()


def live(world: World) -> None:
    """A run of Ann's is live in a new thread."""
    world.open()


def both(world: World) -> None:
    """A run of Ann's is live in a thread that has history."""
    ended(world)
    live(world)


def archived(world: World) -> None:
    """Ann has named and archived her thread."""
    ended(world)
    world.store.update_thread("t", {"name": "hers", "archived": True}, "ann")


SITUATIONS = (ended, live, both, archived)
STORES: dict[str, Callable[[], Any]] = {
    "reject": MemoryStore,
    "supersede": lambda: MemoryStore(on_concurrent_run="supersede"),
}


@functools.cache
def answer(asked: Asked, user: str | None, prepare: Prepare, store: str, **options: Any) -> Told:
    """Return the answer. It is kept for other tests, because it is always the same."""
    world = World(STORES[store](), **options)
    prepare(world)
    return world.ask(asked, user)


def action_of(asked: Asked) -> ThreadAction | None:
    action = ACTIONS[asked.route.removesuffix(" in an envelope")]
    if action == "update" and (asked.method == "DELETE" or b"DELETE" in asked.body):
        return "delete"
    return action


def may(user: str, action: ThreadAction | None) -> bool:
    """Return whether ``user`` sees Ann's thread as she does."""
    if user == "admin":
        return action not in OF_ALL_THREADS
    return user == "carol" and action in READING


def is_not_to_be_had(told: Told) -> bool:
    """Return whether it is the 404 of a thread that cannot be had."""
    return (told.status, told.body) == (
        404,
        b'{"error":"Thread not found","message":"Thread \'t\' does not exist"}',
    )


ALL = list(requests())


def test_every_route_is_in_the_table() -> None:
    assert {endpoint.name for endpoint in ENDPOINTS} == ACTIONS.keys()
    asked = {each.route.removesuffix(" in an envelope") for each in ALL}
    assert asked == ACTIONS.keys()


@pytest.mark.parametrize("asked", ALL, ids=str)
def test_a_client_that_is_not_known_is_told_nothing(asked: Asked) -> None:
    """The body is not read, and the store is not asked."""
    for prepare in (nothing, both):
        told = answer(asked, None, prepare, "reject")
        assert (told.status, told.body) == (401, UNAUTHORIZED.body)
        assert dict(told.headers)["www-authenticate"] == "Bearer"
        assert told.steps == (
            "Call the function identify_user",
            *("SendHead", "SendBytes", "Finish"),
        )


@pytest.mark.parametrize("user", ["bob", "carol", "admin"])
@pytest.mark.parametrize("asked", ALL, ids=str)
def test_a_thread_is_there_for_users_who_may_and_for_nobody_else(asked: Asked, user: str) -> None:
    action = action_of(asked)
    for store, prepare in itertools.product(STORES, SITUATIONS):
        told = answer(asked, user, prepare, store, authorize=authorize)
        if may(user, action):
            hers = answer(asked, "ann", prepare, store, authorize=authorize)
            assert (told.status, told.headers) == (hers.status, hers.headers)
            assert told.body == hers.body or action == "run", "a run tells who has started it"
        elif action == "run":
            # The answer tells that the id is taken, and nothing of a live run.
            assert is_not_to_be_had(told)
            assert told == answer(asked, user, ended, store, authorize=authorize)
        else:
            assert told == answer(asked, user, nothing, store, authorize=authorize)


@pytest.mark.parametrize("asked", ALL, ids=str)
def test_an_answer_that_is_kept_from_others_tells_something(asked: Asked) -> None:
    """A table of which all answers are the same would prove nothing."""
    # The feed has what is said from now on.
    if action_of(asked) not in (None, "debug", "clear"):
        assert answer(asked, "ann", both, "reject") != answer(asked, "ann", nothing, "reject")


@pytest.mark.parametrize("asked", ALL, ids=str)
def test_threads_of_others_are_not_there_without_authorize(asked: Asked) -> None:
    for store, prepare in itertools.product(STORES, SITUATIONS):
        told = answer(asked, "bob", prepare, store)
        if action_of(asked) == "run":
            assert is_not_to_be_had(told)
        else:
            assert told == answer(asked, "bob", nothing, store)


def look(world: World) -> list[Told]:
    """All that Ann sees of her thread."""
    told = [world.get(f"threads/t/{kind}", "ann") for kind in ("messages", "events", "state")]
    connected = world.post("agent/default/connect", run_input("t", "look"), "ann")
    return [*told, world.get("threads", "ann"), connected]


@pytest.mark.parametrize("asked", ALL, ids=str)
def test_a_refusal_leaves_threads_as_they_are(asked: Asked) -> None:
    """Ann finds everything as it was, whatever Bob asks for."""
    for store in STORES:
        world, as_it_was = World(STORES[store]()), World(STORES[store]())
        both(world)
        both(as_it_was)
        world.ask(asked, "bob")
        assert look(world) == look(as_it_was)
        assert world.post("agent/default/stop/t", {}, "ann").body.startswith(b'{"stopped":true')
