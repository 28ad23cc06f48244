"""The requests that tests send: the input of a run, and the URL and the body that it goes to."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .. import json_codec
from ..http.messages import HeaderItems, Headers
from ..http.paths import well_formed
from ..runtime import CopilotRuntime

_JSON = "application/json"


def run_input(
    thread_id: str = "thread-1", run_id: str = "run-1", *, text: str | None = None, **fields: Any
) -> dict[str, Any]:
    """A body for run, connect and suggest.

    :param text: what the user says: a user message behind those of ``fields``, if any. Its id is
        made of the run's.
    :param fields: JSON members that replace the empty ones, or are added.
    """
    body: dict[str, Any] = {
        "threadId": thread_id,
        "runId": run_id,
        "state": {},
        "messages": [],
        "tools": [],
        "context": [],
        "forwardedProps": {},
        **fields,
    }
    if text is not None:
        said = {"id": f"{run_id}-user", "role": "user", "content": text}
        body["messages"] = [*body["messages"], said]
    return body


def endpoint(runtime: CopilotRuntime, operation: str, agent_id: str, body: Any) -> tuple[str, Any]:
    """Return the place at which ``runtime`` takes an operation of an agent, and the body for it.

    :param operation: "run", "connect" or "suggest".
    :returns: a path, and the JSON to post to it.
    """
    base = (runtime.base_path or "").rstrip("/")
    if runtime.mode == "single-route":
        method = f"agent/{operation}"
        return base or "/", {"method": method, "params": {"agentId": agent_id}, "body": body}
    return f"{base}/agent/{quote(well_formed(agent_id), safe='')}/{operation}", body


def json_body(json: Any, headers: HeaderItems) -> tuple[Headers, bytes]:
    """The headers and the body of a request with ``json``; None is sent as no body.

    :raises TypeError: for a value that JSON has no form for.
    :raises ValueError: for one that contains itself, or is nested too deeply.
    """
    fields = Headers(headers)
    if json is None:
        return fields, b""
    body = json_codec.encode(json)
    if "content-type" not in fields:
        fields = fields.set("content-type", _JSON)
    return fields, body
