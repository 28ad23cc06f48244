"""The objects of an exchange are freed when it ends, without the collector of circles.

The collector looks at old objects seldom, and a circle that it has not found yet keeps whatever
hangs on it: a body, the text of a message, a whole run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.process import Server

from sansio_copilot.stores import RunKey
from sansio_copilot.stores.memory.streams import RunStream
from sansio_copilot.stores.memory.threads import KeptRun, KeptThread

pytestmark = pytest.mark.one_a_binding

KEPT_BY_A_STORE = tuple(kind.__name__ for kind in (KeptThread, RunKey, KeptRun, RunStream))
# The request that asks for the objects is listened to while it is answered.
OF_THE_QUESTION = ("Responder._listen", "ASGIWire.listen", "ASGIWire._hear", "_Wire.listen")


@pytest.fixture(autouse=True)
def collector_stands(server: Server) -> Iterator[None]:
    with server.without_collector():
        yield


@pytest.mark.parametrize(
    ("config", "kept"),
    [("main", ()), ("async-store", KEPT_BY_A_STORE), ("blocking-store", KEPT_BY_A_STORE)],
)
def test_no_object_is_left_of_exchanges(
    server: Server, thread: str, config: str, kept: tuple[str, ...]
) -> None:
    def exchanges(number: int) -> None:
        own = f"{thread}-{number}"
        assert server.request("GET", "/info", config=config).status == 200
        assert server.request("GET", "/nowhere", config=config).status == 404
        assert server.request("POST", "/agent/text/run", b"{", config=config).status == 400
        assert server.run("run", own, agent="text", config=config).types()[-1] == "RUN_FINISHED"
        assert server.run("connect", own, config=config).types()[-1] == "RUN_FINISHED"
        assert server.request("GET", f"/threads/{own}/messages", config=config).status == 200
        deleted = server.request("DELETE", f"/threads/{own}", config=config).status == 200
        assert deleted is not bool(kept)

    # The first round comes before the count, because what is made once stays.
    exchanges(0)
    with server.nothing_is_left("Gate", *OF_THE_QUESTION, *kept):
        for number in range(1, 4):
            exchanges(number)


def test_no_object_is_left_of_a_run_that_was_stopped(server: Server, thread: str) -> None:
    def stopped(number: int) -> None:
        own = f"{thread}-{number}"
        with server.client() as runner, server.client() as reader:
            runner.stream("run", own)
            assert runner.next_event()["type"] == "RUN_STARTED"
            reader.stream("connect", own)
            assert reader.next_event()["type"] == "RUN_STARTED"
            assert server.stop(own)
            assert runner.rest()[-1] == reader.rest()[-1]
        forget(server, own)

    stopped(0)
    with server.nothing_is_left("Gate", *OF_THE_QUESTION):
        stopped(1)


def test_no_object_is_left_of_a_client_that_leaves(server: Server, thread: str) -> None:
    def left(number: int) -> None:
        own = f"{thread}-{number}"
        with server.client() as runner:
            runner.stream("run", own)
            assert runner.next_event()["type"] == "RUN_STARTED"
        forget(server, own)

    left(0)
    with server.nothing_is_left("Gate", *OF_THE_QUESTION):
        left(1)


def forget(server: Server, thread: str) -> None:
    """Let the agent end, and delete all that is kept of its thread."""
    server.let(thread)
    server.wait_unwound(thread)
    assert server.request("DELETE", f"/threads/{thread}").status == 200
