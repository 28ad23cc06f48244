"""MCP servers whose tools a model may call. Pydantic AI connects to them for each run.

The clients of MCP are imported when a server is named, because they take half of the time that a
program with a model takes to start.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any
from urllib.parse import urlsplit

from pydantic_ai.toolsets import AbstractToolset

from ..net.shown_url import without_secrets

_START_SECONDS = 30.0
"""The seconds that a server may take to answer, which include the start of its program."""


def toolset_of(server: Any) -> AbstractToolset[Any]:
    """The tools of a server, which is connected when a run begins.

    :param server: a URL, a mapping with "type", or a toolset of Pydantic AI.
    :raises ValueError: for anything else.
    """
    if isinstance(server, AbstractToolset):
        return server
    if isinstance(server, str):
        server = {"type": "http", "url": server}
    if not isinstance(server, Mapping):
        raise ValueError(f"an MCP server is a URL or a mapping, not {type(server).__name__}")
    given = dict(server)
    kind = given.pop("type", "stdio" if "command" in given else "http")
    if kind == "stdio":
        return _local(given)
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

        return _toolset(SSETransport(url, headers=dict(headers or {})))
    return _toolset(url, headers=dict(headers) if headers else None)


def _local(given: dict[str, Any]) -> AbstractToolset[Any]:
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
    return _toolset(StdioTransport(command, list(args), env=env, cwd=cwd, keep_alive=False))


def _toolset(client: Any, headers: dict[str, str] | None = None) -> AbstractToolset[Any]:
    from pydantic_ai.mcp import MCPToolset

    return MCPToolset(client, headers=headers, init_timeout=_START_SECONDS)


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
