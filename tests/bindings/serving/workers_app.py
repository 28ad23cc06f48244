"""The application that test_workers_warning.py serves with several workers."""

import logging
import os
from collections.abc import Iterator
from typing import Any

from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, MemoryStore, text_agent

logging.basicConfig()


class Shared:
    """Stands for a store that is not in this process's memory: it only is none of the core's."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield "Hello"


def agents(request: object) -> dict[str, Any]:
    """Return agents whose name tells which worker it is."""
    return {str(os.getpid()): hello}


alone = CopilotRuntime(agents, base_path="/alone")
shared = CopilotRuntime(agents, base_path="/shared", store=Shared())  # type: ignore[arg-type]
ASGI = {runtime.base_path: CopilotASGI(runtime) for runtime in (alone, shared)}
WSGI = {runtime.base_path: CopilotWSGI(runtime) for runtime in (alone, shared)}


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await ASGI[scope["path"].removesuffix("/info")](scope, receive, send)
    else:
        await ASGI["/alone"](scope, receive, send)


def wsgi(environ: Any, start_response: Any) -> Any:
    return WSGI[environ["PATH_INFO"].removesuffix("/info")](environ, start_response)
