"""A grace period that is none is refused where it is given, and not by the shutdown."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from copilot_bindings import asyncio as asyncio_binding
from copilot_bindings import sockets
from copilot_bindings import trio as trio_binding
from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.embedding import open_host
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime

RUNTIME = CopilotRuntime({})


def within(opened: Callable[..., Any], library: str = "asyncio") -> Callable[..., None]:
    """A function that opens a server, and closes it with the grace period that is to be tried."""

    def use(first: Any, last: Any = None) -> None:
        async def main() -> None:
            async with opened(RUNTIME, grace_seconds=first) as server:
                await server.close(grace_seconds=last)

        anyio.run(main, backend=library)

    return use


def in_sockets(first: Any, last: Any = None) -> None:
    with sockets.open_server(RUNTIME, grace_seconds=first) as server:
        server.close(grace_seconds=last)


def in_asgi(first: Any, last: Any = None) -> None:
    asyncio.run(CopilotASGI(RUNTIME, grace_seconds=first).close(grace_seconds=last))


def in_wsgi(first: Any, last: Any = None) -> None:
    app = CopilotWSGI(RUNTIME, grace_seconds=first)
    try:
        app.background()
        app.close(grace_seconds=last)
    finally:
        app.close()


def serving(first: Any, last: Any = None) -> None:
    asyncio.run(asyncio_binding.serve(RUNTIME, port=0, grace_seconds=first))


def serving_by_trio(first: Any, last: Any = None) -> None:
    async def main() -> None:
        await trio_binding.serve(RUNTIME, port=0, grace_seconds=first)

    trio.run(main)


def serving_by_sockets(first: Any, last: Any = None) -> None:
    sockets.serve(RUNTIME, port=0, grace_seconds=first)


CLOSED = {
    "asyncio": within(asyncio_binding.open_server),
    "trio": within(trio_binding.open_server, "trio"),
    "host": within(open_host),
    "sockets": in_sockets,
    "asgi": in_asgi,
    "wsgi": in_wsgi,
}
SERVED = {"asyncio": serving, "trio": serving_by_trio, "sockets": serving_by_sockets}


@pytest.mark.parametrize("seconds", ["5", None, math.nan, -1, True])
@pytest.mark.parametrize(
    "use",
    [*CLOSED.values(), *SERVED.values()],
    ids=[*CLOSED, *(f"{name} until a signal" for name in SERVED)],
)
def test_a_server_with_such_a_grace_period_is_not_begun(
    use: Callable[..., None], seconds: Any
) -> None:
    with pytest.raises(ValueError, match="grace_seconds must be a number from 0 on, got"):
        use(seconds)


@pytest.mark.parametrize("use", CLOSED.values(), ids=CLOSED)
def test_such_a_grace_period_closes_no_server(use: Callable[..., None]) -> None:
    with pytest.raises((ValueError, BaseExceptionGroup)) as raised:
        use(0, "5")
    assert "grace_seconds must be a number from 0 on, got" in repr(raised.value)
    use(math.inf, 0.0)
