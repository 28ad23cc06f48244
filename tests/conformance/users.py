"""Runtimes whose requests are of users, and an agent that shows what it knows of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio.lowlevel
from ag_ui.core import RunAgentInput

from sansio_copilot import AgentContext, CopilotRuntime, Request, User


async def identify(request: Request) -> User | None:
    """Everybody is who they say in a header."""
    await anyio.lowlevel.checkpoint()
    return _user_of(request)


def identify_plain(request: Request) -> User | None:
    return _user_of(request)


def _user_of(request: Request) -> User | None:
    name = request.headers.get("x-user")
    if name is None:
        return None
    scope = None if request.scope is None else request.scope["type"]
    environ = None if request.environ is None else request.environ["REQUEST_METHOD"]
    return User(name, data={"scope": scope, "environ": environ})


def authorize(user: User, action: str, thread_id: str | None) -> bool | str:
    """Carol may read what Ann has said."""
    return "ann" if user.id == "carol" and action in ("connect", "read") else False


async def who(input: RunAgentInput, context: AgentContext) -> AsyncIterator[dict[str, Any]]:
    """Shows who it believes to be speaking to."""
    run = {"threadId": input.thread_id, "runId": input.run_id}
    assert context.user is not None
    yield {"type": "RUN_STARTED", **run}
    yield {
        "type": "STATE_SNAPSHOT",
        "snapshot": {"user": context.user.id, "data": context.user.data},
    }
    yield {"type": "RUN_FINISHED", **run}


def make_runtimes(agents: dict[str, Any], stores: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A runtime over each of the stores."""
    return {
        name: CopilotRuntime(
            agents | {"who": who},
            store=store,
            identify_user=identify_plain if "plain" in name else identify,
            authorize=authorize,
            thread_mutations=True,
            debug=True,
            **options,
        )
        for name, store in stores.items()
    }
