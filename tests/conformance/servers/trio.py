"""The trio binding, which owns its sockets."""

import functools

import trio

from copilot_bindings.trio import serve as serve_trio
from sansio_copilot import CopilotRuntime

OWNS_SOCKETS = True


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    trio.run(functools.partial(serve_trio, runtime, host, port, grace_seconds=0.5))
