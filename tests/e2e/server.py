"""Serves the agents of agents.py to the pages, until SIGTERM: `python server.py BINDING`.

BINDING is "asyncio", "asgi" (uvicorn) or "agui": that one is no runtime, but the bare agents, for
the reference runtime to be put in front of them. Prints one line when it accepts requests, a JSON
object from the name of a configuration to the URL of its runtime; reference.mjs has the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from ag_ui.core import RunAgentInput
from starlette.applications import Starlette
from starlette.requests import Request as WebRequest
from starlette.responses import StreamingResponse
from starlette.routing import Route

# The directory of the tests is put on the path, because this file is run as a program, and imports
# modules of other tests.
sys.path.insert(0, str(Path(__file__).parents[1]))

from clients.agents import OnPurposeError
from e2e.agents import AGENTS

from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.asyncio import start_server
from sansio_copilot import CopilotRuntime, CorsPolicy, Hooks, Limits, Reject, Response
from sansio_copilot.hooks import HookContext
from sansio_copilot.transcription import AudioFile

HOST = "127.0.0.1"
SESSION = "session=e2e"


def transcribe(audio: AudioFile) -> str:
    """Return what a model would have heard in a recording that is not empty."""
    assert audio.size > 0
    return f"I spoke {audio.mime_type.partition(';')[0]}"


def only_with_the_cookie(context: HookContext) -> None:
    if SESSION not in context.request.headers.get("cookie", ""):
        raise Reject(Response.json({"error": "unauthorized"}, status=401))


def is_local(origin: str) -> bool:
    return origin.startswith(f"http://{HOST}:")


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "main": {"thread_mutations": True, "transcription": transcribe},
    "single": {"mode": "single-route", "thread_mutations": True},
    "both": {"mode": "both"},
    "painted": {"a2ui": True},
    "guarded": {
        "cors": CorsPolicy(origin=is_local, credentials=True),
        "hooks": Hooks(on_request=only_with_the_cookie),
    },
}


def make_runtimes() -> dict[str, CopilotRuntime]:
    limits = Limits(heartbeat_seconds=1)
    return {
        name: CopilotRuntime(
            AGENTS,
            base_path=f"/{name}/api/copilotkit",
            limits=limits,
            metrics_path=f"/{name}/api/metrics",
            **configuration,
        )
        for name, configuration in CONFIGURATIONS.items()
    }


def announce(ports: dict[str, int], path: str = "/{}/api/copilotkit") -> None:
    urls = {name: f"http://{HOST}:{port}{path.format(name)}" for name, port in ports.items()}
    sys.stdout.write(json.dumps(urls) + "\n")
    sys.stdout.flush()


async def serve_asyncio() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    servers = {
        name: await start_server(runtime, HOST, 0, grace_seconds=0.2)
        for name, runtime in make_runtimes().items()
    }
    announce({name: server.port for name, server in servers.items()})
    await stop.wait()
    for server in servers.values():
        await server.close()


async def serve_uvicorn(app: Any, *names: str, path: str = "/{}/api/copilotkit") -> None:
    # uvicorn ends by the signal that it got, once it has put back the handler it found.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with socket.create_server((HOST, 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        port = listener.getsockname()[1]
        announce(dict.fromkeys(names, port), path)
        await server.serve([listener])


async def serve_asgi() -> None:
    apps = {
        name: CopilotASGI(runtime, grace_seconds=0.2) for name, runtime in make_runtimes().items()
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """All runtimes at one port, each below a path of its own."""
        name = scope["path"].split("/")[1] if scope["type"] == "http" else "main"
        await apps[name](scope, receive, send)

    await serve_uvicorn(app, *apps)


async def _iterate(events: Any) -> AsyncIterator[Any]:
    if hasattr(events, "__aiter__"):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event


async def run_bare(request: WebRequest) -> StreamingResponse:
    """Answer as most people do who have no runtime: send the agent's events as they come."""
    input = RunAgentInput.model_validate_json(await request.body())
    agent = AGENTS[request.path_params["agent"]]
    context = SimpleNamespace(headers=dict(request.headers))
    events = getattr(agent, "run", agent)(input, context)

    async def frames() -> AsyncIterator[str]:
        try:
            async with contextlib.aclosing(_iterate(events)) as iterated:  # type: ignore[type-var]
                async for event in iterated:
                    yield f"data: {json.dumps(event)}\n\n"
        except OnPurposeError as error:
            # The reference runtime's process ends when the connection of an agent breaks off.
            yield f"data: {json.dumps({'type': 'RUN_ERROR', 'message': str(error)})}\n\n"

    return StreamingResponse(frames(), media_type="text/event-stream")


async def serve_agui() -> None:
    app = Starlette(routes=[Route("/agent/{agent}/run", run_bare, methods=["POST"])])
    await serve_uvicorn(app, "agents", path="")


def is_surprising(record: logging.LogRecord) -> bool:
    """Whether the log may show this: the tests take a traceback in it for a bug of the server."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, OnPurposeError)


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(is_surprising)
    logging.basicConfig(handlers=[handler])
    asyncio.run({"asyncio": serve_asyncio, "asgi": serve_asgi, "agui": serve_agui}[sys.argv[1]]())
