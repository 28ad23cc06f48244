"""The binding on plain sockets, a thread for each connection."""

from copilot_bindings.sockets import serve as serve_sockets
from sansio_copilot import CopilotRuntime

OWNS_SOCKETS = True
CANNOT = {"a-thousand-streams": "it has a thread for each"}


def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
    serve_sockets(runtime, host, port, grace_seconds=0.2)
