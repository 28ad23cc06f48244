"""``HttpAgent``: an agent that answers somewhere else, by AG-UI over HTTP.

The runtime in front of it keeps the thread: the remote agent is asked to run, and never to stop,
connect or list. A stop closes the connection, which is how an HTTP server is told that nobody
wants the rest.

What the remote agent sends is an AG-UI stream of any version, and the runtime checks it as it
checks every agent's. What is no such stream ends the run with a RUN_ERROR whose code says which of
:mod:`.failures` it was. The request is made again only as long as no byte of a response has come,
because a run that was begun twice says everything twice.

Connections are kept for the runs to come. A pool belongs to the event loop that it was made in, so
that each loop in which the agent runs has its own (:class:`anyio.lowlevel.RunVar`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import httpx
from ag_ui.core import RunAgentInput

from sansio_copilot import json_codec
from sansio_copilot.agents import AgentContext, Event

from .failures import UpstreamError, failure_of_transport, is_worth_another_try, refusal_of
from .streams import EventReader

logger = logging.getLogger(__name__)

_PAUSES = (0.05, 0.5)
"""Seconds before a request of which no answer has come is made for the second and third time."""
_LINGER_SECONDS = 5.0
"""How long the end of a response may take whose run has ended, so that its connection is kept."""
_EXCERPT = 2000
_EXCERPT_SECONDS = 2.0
_HEADERS = {
    "accept": "text/event-stream",
    "accept-encoding": "gzip, deflate",
    "content-type": "application/json",
}


class HttpAgent:
    """A remote AG-UI agent, as one of the agents of a runtime.

    It runs under asyncio and trio, and so in every binding.

    :param url: where the agent takes POST requests; http or https.
    :param headers: what is sent to the agent with each request, beside what is forwarded from the
        client's (``CopilotRuntime(forward_headers=...)``) and over it.
    :param client: an ``httpx.AsyncClient`` of your own, which you close yourself. For a client
        certificate or a proxy, say.
    :param timeout: seconds for which the agent may be silent: a comment in its stream is a sign of
        life. ``math.inf`` waits for ever.
    :param connect_timeout: seconds in which a connection has to be there.
    :param max_event_bytes: the longest event. A longer one ends the run.
    :param description: what ``/info`` says of the agent.
    :param capabilities: what ``/info`` says that the agent can do: a mapping, or a plain or async
        function that returns one.
    :raises ValueError: for a ``url`` that is not an absolute http or https one.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        client: httpx.AsyncClient | None = None,
        timeout: float = 300.0,
        connect_timeout: float = 10.0,
        max_event_bytes: float = 2 * 1024**2,
        description: str = "",
        capabilities: Any = None,
    ) -> None:
        try:
            self._url = httpx.URL(url)
        except (TypeError, httpx.InvalidURL) as error:
            raise ValueError(f"the agent's url {url!r} is none: {error}") from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError(f"the agent's url is an absolute http or https one, not {url!r}")
        self.headers = dict(headers or {})
        self.description = description
        self.capabilities = capabilities
        self._own_client = client
        self._silence = None if timeout == float("inf") else timeout
        self._connect_timeout = connect_timeout
        self._max_event_bytes = max_event_bytes
        self._pool: anyio.lowlevel.RunVar[httpx.AsyncClient | None] = anyio.lowlevel.RunVar(
            f"connections of {self!r}", None
        )

    def __repr__(self) -> str:
        return f"<HttpAgent at {self._address}>"

    @property
    def _address(self) -> str:
        """The URL without what may be secret in it."""
        return str(self._url.copy_with(username=None, password=None, query=None))

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
        """Ask the agent, and pass on what it says.

        What goes wrong is said by a RUN_ERROR, and logged.
        """
        # The mode is not "json", which fails at a lone surrogate.
        body = json_codec.encode(input.model_dump(by_alias=True))
        try:
            async with contextlib.aclosing(self._events(input, body, context.headers)) as events:
                async for event in events:
                    yield event
        except UpstreamError as error:
            logger.error(
                "agent %r at %s failed in run %r: %s",
                context.agent_id,
                self._address,
                input.run_id,
                error,
            )
            yield {"type": "RUN_ERROR", "message": error.message, "code": error.code}

    async def aclose(self) -> None:
        """Close the connections that this event loop keeps. A later run makes new ones."""
        client = self._pool.get()
        if client is not None:
            self._pool.set(None)
            await client.aclose()

    async def _events(
        self, input: RunAgentInput, body: bytes, headers: Mapping[str, str]
    ) -> AsyncGenerator[Event, None]:
        response = await self._send(body, headers)
        try:
            await self._check(response)
            encoding = response.headers.get("content-encoding", "").strip().lower()
            reader = EventReader(input.thread_id, input.run_id, encoding, self._max_event_bytes)
            async with _raw(response) as chunks:
                while (chunk := await self._next(chunks, reader.terminal)) is not None:
                    for event in reader.feed(chunk):
                        yield event
            if not reader.terminal:
                raise UpstreamError("AGENT_INCOMPLETE", "the response ended without RUN_FINISHED")
        finally:
            await response.aclose()

    async def _send(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        client = self._client()
        request = client.build_request(
            "POST",
            self._url,
            content=body,
            headers={**headers, **_HEADERS},
            timeout=httpx.Timeout(self._silence, connect=self._connect_timeout),
        )
        for pause in (*_PAUSES, None):
            try:
                return await client.send(request, stream=True, follow_redirects=False)
            except httpx.TransportError as error:
                if pause is None or not is_worth_another_try(error):
                    raise failure_of_transport(error, begun=False) from error
            await anyio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _client(self) -> httpx.AsyncClient:
        if self._own_client is not None:
            return self._own_client
        client = self._pool.get()
        if client is None:
            # The number of connections has no bound here, because each run needs one, and the
            # runtime bounds the runs.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            has_http2 = importlib.util.find_spec("h2") is not None
            client = httpx.AsyncClient(limits=limits, http2=has_http2)
            self._pool.set(client)
        return client

    async def _check(self, response: httpx.Response) -> None:
        refusal = refusal_of(response.status_code, response.headers)
        if refusal is None:
            return
        # The beginning of the body says most often what is wrong, and only the log gets it.
        excerpt = b""
        with contextlib.suppress(httpx.TransportError), anyio.move_on_after(_EXCERPT_SECONDS):
            async with _raw(response) as chunks:
                async for chunk in chunks:
                    excerpt += chunk
                    if len(excerpt) >= _EXCERPT:
                        break
        kind = response.headers.get("content-type", "no content-type")
        code, more = refusal
        seen = f"HTTP {response.status_code}, {kind}: {excerpt[:_EXCERPT]!r}"
        raise UpstreamError(code, seen, more)

    async def _next(self, chunks: AsyncIterator[bytes], has_ended: bool) -> bytes | None:
        """The next bytes of a response; None at its end.

        :param has_ended: whether the run has ended, so that only the end of the response is left.
        """
        try:
            if not has_ended:
                return await anext(chunks, None)
            with anyio.move_on_after(_LINGER_SECONDS):
                return await anext(chunks, None)
        except httpx.TransportError as error:
            if not has_ended:
                raise failure_of_transport(error, begun=True) from error
        return None


@contextlib.asynccontextmanager
async def _raw(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a response as they came; it is closed behind the context."""
    chunks = response.aiter_raw()
    try:
        yield chunks
    finally:
        await response.aclose()
        # The iterator is made of several generators, of which aclose() would end the outermost
        # only, and trio warns of the others. Reading on ends all of them, by an error.
        with contextlib.suppress(Exception), anyio.move_on_after(_EXCERPT_SECONDS):
            async for _ in chunks:
                pass
