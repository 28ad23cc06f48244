"""Target: all that a client may send on one connection."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fuzz.support import no_error_is_logged
from support.driver import Driver, hello
from support.hostile_requests import responses

from sansio_copilot import CopilotRuntime, Limits
from sansio_copilot.agents import Agent

LIMITS = Limits(body_bytes=4096, header_bytes=2048, read_bytes=128)
_DATE = re.compile(rb"\r\ndate: [^\r]*")


def scripted(input: Any, context: Any) -> Any:
    """Says what the client asked for."""
    script = input.forwarded_props.get("script") if isinstance(input.forwarded_props, dict) else 0
    yield from script if isinstance(script, list) else ()


def connection(data: bytes) -> None:
    """Feed a connection the same bytes whole and in pieces: the responses are equal, and HTTP."""
    with no_error_is_logged():
        whole = _sent([data])
        assert _sent(data[at : at + 1] for at in range(len(data))) == whole
        assert _sent(data.splitlines(keepends=True)) == whole
    if b"HEAD" not in data:
        responses(whole)


def _sent(pieces: Iterable[bytes]) -> bytes:
    agents: dict[str, Agent] = {"default": hello, "scripted": scripted}
    driver = Driver(CopilotRuntime(agents, limits=LIMITS, thread_mutations=True))
    driver.feed(*pieces).end()
    assert driver.closed
    driver.client.close()
    return _DATE.sub(b"", bytes(driver.sent))
