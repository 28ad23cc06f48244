"""MCP servers whose tools a model may call. Pydantic AI connects to them for each run.

The clients of MCP are imported when a server is named, because they take half of the time that a
program with a model takes to start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any
from urllib.parse import urlsplit

import anyio
from pydantic_ai import RunContext
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from ..net.shown_url import without_secrets

_CONNECT_SECONDS = 30.0
"""The seconds that a server may take until it is there, which include the start of its program, and
as many until it has listed its tools."""
_CALL_SECONDS = 300.0
"""The seconds that a call of a tool may take; a remote agent may be silent for as long."""


def toolset_of(server: Any) -> AbstractToolset[Any]:
    """The tools of a server, which is connected when a run begins.

    :param server: a URL, a mapping with "type", or a toolset of Pydantic AI. A mapping may have
        "connect_timeout", the seconds for the connection and as many for the list of the tools, and
        "timeout", those for a call of a tool.
    :raises ValueError: for anything else.
    """
    if isinstance(server, AbstractToolset):
        return server
    if isinstance(server, str):
        server = {"type": "http", "url": server}
    if not isinstance(server, Mapping):
        raise ValueError(f"an MCP server is a URL or a mapping, not {type(server).__name__}")
    given = dict(server)
    connect_seconds = _seconds(given, "connect_timeout", _CONNECT_SECONDS)
    call_seconds = _seconds(given, "timeout", _CALL_SECONDS)
    client, headers = _client(given)
    from pydantic_ai.mcp import MCPToolset

    made = MCPToolset[Any](
        client, headers=headers, init_timeout=connect_seconds, read_timeout=call_seconds
    )
    return ListedInTime(made, connect_seconds)


@dataclass
class ListedInTime(WrapperToolset[Any]):
    """The tools of a server, which has to list them in ``seconds``.

    The time for which a server may be silent is as long as a tool may take, because MCP's client
    has one time for all requests. A run that waited as long for a list would look dead.
    """

    seconds: float

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """List the tools.

        :raises TimeoutError: if the server does not answer in time.
        """
        try:
            with anyio.fail_after(self.seconds):
                return await super().get_tools(ctx)
        except TimeoutError as error:
            raise TimeoutError(
                f"an MCP server has listed no tools in {self.seconds:g} s"
            ) from error


def _seconds(given: dict[str, Any], name: str, default: float) -> float:
    """Take a time out of ``given``.

    :raises ValueError: if it is no number above 0.
    """
    value = given.pop(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise ValueError(f"the {name} of an MCP server is a number of seconds above 0")
    return float(value)


def _client(given: dict[str, Any]) -> tuple[Any, dict[str, str] | None]:
    """The client of a server, or its URL, and the headers of its requests."""
    kind = given.pop("type", "stdio" if "command" in given else "http")
    if kind == "stdio":
        return _local(given), None
    if kind not in ("http", "sse"):
        raise ValueError(f"the type of an MCP server is 'http', 'sse' or 'stdio', not {kind!r}")
    url, headers = given.pop("url", None), given.pop("headers", None)
    if not _is_http(url):
        shown = without_secrets(str(url))
        raise ValueError(f"the url of an MCP server is an http or https one, not {shown!r}")
    if headers is not None and not _are_texts(headers):
        raise ValueError("the headers of an MCP server are a mapping of str to str")
    _check_rest(given)
    if kind == "sse":
        from fastmcp.client.transports import SSETransport

        return SSETransport(url, headers=dict(headers or {})), None
    return url, dict(headers) if headers else None


def _local(given: dict[str, Any]) -> Any:
    from fastmcp.client.transports import StdioTransport

    command, args = given.pop("command", None), given.pop("args", ())
    env, cwd = given.pop("env", None), given.pop("cwd", None)
    if not isinstance(command, str) or not command:
        raise ValueError(f"the command of an MCP server is a program, not {command!r}")
    if not isinstance(args, list | tuple) or not all(isinstance(each, str) for each in args):
        raise ValueError("the args of an MCP server are a list of str")
    if env is not None and not _are_texts(env):
        raise ValueError("the env of an MCP server is a mapping of str to str")
    cwd = fspath(cwd) if isinstance(cwd, PathLike) else cwd
    if cwd is not None and not isinstance(cwd, str):
        raise ValueError("the cwd of an MCP server is a path")
    _check_rest(given)
    # The program ends with the runs that use it. One that is kept alive belongs to nobody: it would
    # outlive its agent, and the shutdown would not wait for its end.
    return StdioTransport(command, list(args), env=env, cwd=cwd, keep_alive=False)


def _check_rest(given: dict[str, Any]) -> None:
    if given:
        raise ValueError(f"an MCP server has no {sorted(given)[0]!r}")


def _is_http(url: Any) -> bool:
    """Whether ``url`` is an absolute http or https URL with a host, and a port that can be."""
    if not isinstance(url, str) or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _are_texts(given: Any) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(text, str) for item in given.items() for text in item
    )
