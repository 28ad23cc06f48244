"""An ASGI application whose loop ends without a word: no lifespan, runs still live."""

from __future__ import annotations

import pytest
from support.scripts import run_script

IMPORTS = ["anyio.from_thread", "copilot_bindings.asgi", "sansio_copilot.testing"]
PRELUDE = """
import asyncio, gc, json, logging, sys, threading, time
from anyio.from_thread import start_blocking_portal
from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, MemoryStore
from sansio_copilot.testing import Client, run_input

logging.basicConfig()
# asyncio tells so of any callback that a busy machine lets wait in its middle.
logging.getLogger("asyncio").addFilter(lambda record: " took %.3f seconds" not in record.msg)
BASE = "/api/copilotkit"

def started(input):
    return {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}

async def waits(input, context):
    yield started(input)
    await asyncio.sleep(1000)

async def cleans_up(input, context):
    try:
        yield started(input)
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0)

async def fails(input, context):
    try:
        yield started(input)
        await asyncio.sleep(1000)
    finally:
        raise ValueError("failed when stopped")

def plain(input, context):
    yield started(input)
    while not context.stop_requested:
        time.sleep(0.002)

class AsyncStore(MemoryStore):
    def __getattribute__(self, name):
        method = super().__getattribute__(name)
        if name not in ("append", "close_run", "open_run", "read"):
            return method

        async def later(*args):
            await asyncio.sleep(0)
            return method(*args)

        return later

def request(app, thread, leave):
    gone, got, sent = asyncio.Event(), asyncio.Event(), []

    async def receive():
        if not sent:
            sent.append(True)
            body = json.dumps(run_input(thread, "r")).encode()
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            got.set()

    async def ask():
        path = BASE + "/agent/default/run"
        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
        task = asyncio.create_task(app(scope, receive, send))
        await got.wait()
        if leave:
            gone.set()
            await task
        else:
            # The task belongs to the server, which may complain of it.
            task._log_destroy_pending = False

    return ask

def ended(store, thread):
    # As seen by another application over the same store.
    client = Client(CopilotRuntime({"default": waits}, store=store))
    deadline = time.monotonic() + 30
    while True:
        # The run is closed in a thread of its own, whose steps are not seen at once, and which may
        # come between a look at the store and the wait for news of it. So each look is a new one.
        stream = client.stream("POST", BASE + "/agent/default/connect", json=run_input(thread, "x"))
        events = stream.ready()
        if stream.ended:
            break
        stream.close()
        assert time.monotonic() < deadline, events
        time.sleep(0.002)
    return [event["type"] for event in events]

store = MemoryStore()
"""


def run(code: str) -> None:
    """Run it in a process of its own, which has to say nothing."""
    options = ["-X", "dev", "-W", "error"]
    assert run_script(PRELUDE + code, options=options, imports=IMPORTS) == (0, "")


ENDS = {
    "closed": """
loop = asyncio.new_event_loop()
loop.run_until_complete(request(app, "t", leave=True)())
loop.close()
del loop
""",
    "closed-in-mid-response": """
loop = asyncio.new_event_loop()
loop.run_until_complete(request(app, "t", leave=False)())
loop.close()
del loop
""",
    "cancelled": """
asyncio.run(request(app, "t", leave=True)())
""",
    "a-portal-for-each-request": """
with start_blocking_portal() as portal:
    portal.call(request(app, "t", leave=True))
""",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("agent", ["waits", "cleans_up"])
def test_a_run_that_is_dropped_ends_well_formed_and_nothing_is_said(agent: str, end: str) -> None:
    run(
        f"""
app = CopilotASGI(CopilotRuntime({{"default": {agent}}}, store=store))
{ENDS[end]}
del app
gc.collect()
assert ended(store, "t") == ["RUN_STARTED", "RUN_ERROR"]
"""
    )


@pytest.mark.parametrize("agent", ["waits", "cleans_up", "plain"])
def test_the_next_loop_of_the_application_finds_it(agent: str) -> None:
    """A test client has a loop for each request."""
    run(
        f"""
app = CopilotASGI(CopilotRuntime({{"default": {agent}}}, store=store))
{ENDS["closed"]}
asyncio.run(request(app, "other", leave=True)())
assert ended(store, "t") == ["RUN_STARTED", "RUN_ERROR"]
"""
    )


@pytest.mark.parametrize("agent", ["waits", "plain"])
def test_a_run_of_a_dropped_loop_can_be_stopped(agent: str) -> None:
    run(
        f"""
app = CopilotASGI(CopilotRuntime({{"default": {agent}}}, store=store))
{ENDS["closed"]}
assert store.request_stop("t", None)
assert ended(store, "t") == ["RUN_STARTED", "RUN_ERROR"]
"""
    )


@pytest.mark.parametrize("end", ["closed", "closed-in-mid-response"])
def test_a_store_that_cannot_be_awaited_any_more_is_left(end: str) -> None:
    run(
        f"""
app = CopilotASGI(CopilotRuntime({{"default": cleans_up}}, store=AsyncStore()))
{ENDS[end]}
del app
gc.collect()
"""
    )


def test_an_agent_that_fails_meanwhile_is_not_heard() -> None:
    run(
        f"""
app = CopilotASGI(CopilotRuntime({{"default": fails}}, store=store))
{ENDS["closed"]}
del app
gc.collect()
assert ended(store, "t") == ["RUN_STARTED", "RUN_ERROR"]
"""
    )
