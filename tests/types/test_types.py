"""A type checker passes an application that is right, and reports what cannot work."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

APPLICATION = """
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ag_ui.core import BaseEvent, RunAgentInput

from copilot_bindings.agents import HttpAgent
from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.stores import PostgresStore, RedisStore, SQLiteStore
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import (
    AgentBase, AgentContext, CopilotRuntime, HookContext, Hooks, Reject, Request, Response,
    agui_agent, text_agent,
)
from sansio_copilot.stores import (
    CheckableStore, ClosableStore, EvictingStore, LeasingStore, MemoryStore, OpenableStore,
    OwnersStore, ThreadStore,
)
from sansio_copilot.testing import Client


def plain(input: RunAgentInput, context: AgentContext) -> Iterator[dict[str, Any]]:
    yield {}

async def later(input: RunAgentInput, context: AgentContext) -> AsyncIterator[BaseEvent]:
    for event in list[BaseEvent]():
        yield event

async def soon(input: RunAgentInput, context: AgentContext) -> AsyncIterator[BaseEvent]:
    return later(input, context)

def at_once(input: RunAgentInput, context: AgentContext) -> list[dict[str, str]]:
    return [{"type": "RAW"}]

def takes_one(input: RunAgentInput) -> Iterator[BaseEvent]:
    return iter(())

class Framework:
    async def run(self, input: RunAgentInput) -> AsyncIterator[BaseEvent]:
        for event in takes_one(input):
            yield event

class Greeter:
    description = "Greets"
    def run(self, input: RunAgentInput, context: AgentContext) -> Iterator[dict[str, Any]]:
        yield {}

class Described(AgentBase):
    description = "Greets"
    capabilities = {"tools": {"supported": True}}
    headers = {"x-key": "k"}
    def run(self, input: RunAgentInput, context: AgentContext) -> Iterator[dict[str, Any]]:
        yield {}

class DescribedLater(AgentBase):
    async def run(
        self, input: RunAgentInput, context: AgentContext
    ) -> AsyncIterator[BaseEvent]:
        for event in list[BaseEvent]():
            yield event
    async def capabilities(self) -> dict[str, Any]:
        return {}

class Called:
    def __call__(self, input: RunAgentInput, context: AgentContext) -> Iterator[BaseEvent]:
        return iter(())

@text_agent
def text(input: RunAgentInput, context: AgentContext) -> Iterator[str]:
    yield "Hello"

def by_tenant(request: Request) -> dict[str, Greeter]:
    return {"default": Greeter()}

async def by_tenant_later(request: Request) -> dict[str, Greeter]:
    return {"default": Greeter()}

def hook(context: HookContext) -> Request | None:
    if context.request.headers.get("authorization") is None:
        raise Reject(Response(401))
    return None

async def hook_later(context: HookContext) -> Response | None:
    return context.response

runtime = CopilotRuntime(
    {"a": plain, "b": later, "c": soon, "d": at_once, "e": Greeter(), "f": Called(), "g": text,
     "h": takes_one, "i": Framework(), "j": agui_agent(Framework()),
     "k": agui_agent(fresh=Framework, capabilities={}), "m": Described(), "n": DescribedLater(),
     "l": HttpAgent("https://agent.example/")},
    hooks=Hooks(on_request=hook, on_response=hook_later),
)
CopilotRuntime(by_tenant)
CopilotRuntime(by_tenant_later)
CopilotASGI(runtime)
CopilotWSGI(runtime)
assert Client(runtime).get("/api/copilotkit/info").status == 200

# Each line below that is marked as wrong cannot work, so that mypy has to say so.

def yields_text(input: RunAgentInput, context: AgentContext) -> Iterator[str]:
    yield "Hello"

def takes_three(input: RunAgentInput, context: AgentContext, more: int) -> Iterator[BaseEvent]:
    return iter(())

def wrong_hook(context: HookContext) -> str:
    return ""

class WronglyDescribed(AgentBase):
    description = 5  # wrong: no str
    capabilities = 7  # wrong: no mapping
    headers = ["x"]  # wrong: no mapping
    loop = "trio"  # wrong: no such loop
    def run(self, input: RunAgentInput, context: AgentContext) -> Iterator[dict[str, Any]]:
        yield {}

agui_agent(Framework(), capabilities=7)  # wrong: no mapping
HttpAgent("https://agent.example/", capabilities=["x"])  # wrong: no mapping
text.description = 5  # wrong: no str
CopilotRuntime({"a": Greeter})  # wrong: a class, not one made of it
CopilotRuntime({"a": yields_text})  # wrong: text is no event
CopilotRuntime({"a": takes_three})  # wrong: nobody gives it a third argument
CopilotRuntime({"a": "hello"})  # wrong: no agent at all
CopilotRuntime(plain)  # wrong: an agent, not a function of the request
CopilotRuntime({}, hooks=Hooks(on_request=wrong_hook))  # wrong: neither a request nor None
CopilotRuntime({}, mode="some-route")  # wrong: no such mode

def asks(store: ThreadStore, owners: OwnersStore) -> None:
    CopilotRuntime({}, store=store)
    owners.owner_of("t1")
    store.owner_of("t1")  # wrong: not every store has this method

asks(MemoryStore(), MemoryStore())

class Prepared(MemoryStore):
    async def open(self) -> None:
        pass
    def close(self) -> None:
        pass

class WronglyPrepared(MemoryStore):
    def open(self, url: str) -> None:
        pass
    def check(self) -> bool:
        return True

opened: list[OpenableStore] = [SQLiteStore("t.db"), PostgresStore(""), RedisStore(""), Prepared()]
closed: list[ClosableStore] = [SQLiteStore("t.db"), PostgresStore(""), RedisStore(""), Prepared()]
checked: list[CheckableStore] = [SQLiteStore("t.db"), PostgresStore(""), RedisStore("")]
leased: list[LeasingStore] = [SQLiteStore("t.db"), PostgresStore(""), RedisStore("")]
evicting: list[EvictingStore] = [
    MemoryStore(), SQLiteStore("t.db"), PostgresStore(""), RedisStore("")
]
opens: OpenableStore = WronglyPrepared()  # wrong: nobody gives it a URL
checks: CheckableStore = WronglyPrepared()  # wrong: a store that is not ready raises
closes: ClosableStore = WronglyPrepared()  # wrong: it has no close
"""


def test_mypy_finds_what_cannot_work_and_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "application.py"
    program.write_text(APPLICATION)
    said, trouble, _ = api.run(["--strict", "--no-error-summary", str(program)])
    assert not trouble
    found = {int(line) for line in re.findall(r"application\.py:(\d+): error", said)}
    lines = APPLICATION.splitlines()
    expected = {number for number, line in enumerate(lines, 1) if "# wrong:" in line}
    assert found == expected, said
