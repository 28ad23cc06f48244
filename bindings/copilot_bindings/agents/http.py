"""``HttpAgent``: an agent on another server, which answers by AG-UI over HTTP.

The runtime in front of it keeps the thread: the remote agent is asked to run, and never to stop,
connect or list. A stop closes the connection, because an HTTP server learns by this that the rest
is not wanted.

The agent sends an AG-UI stream of any version, and the runtime checks it like that of every agent.
A response that is no such stream ends the run with a RUN_ERROR, whose code says which
:class:`~sansio_copilot.agents.remote.Fault` it was. The request is made again only as long as no
byte of a response has come, because a run that was begun twice would say everything twice.

Connections are kept for the runs to come. A pool belongs to the event loop that it was made in, so
that each loop in which the agent runs has its own (:class:`anyio.lowlevel.RunVar`). Without TLS and
proxies it is one of :mod:`.http_client`, which costs a fraction of httpx's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import httpx
from ag_ui.core import RunAgentInput

from sansio_copilot.agents import AgentContext, AgentEvent, Capabilities
from sansio_copilot.agents.remote import (
    MOST_CAPABILITIES,
    RemoteAgentError,
    RemoteRequest,
    RemoteRun,
    capabilities_in,
    capabilities_request,
    request,
)

from ..net.shown_url import without_secrets
from .http_client import CleartextPool, CleartextResponse
from .http_failures import failure, is_worth_another_try

logger = logging.getLogger(__name__)

_AnyResponse: TypeAlias = httpx.Response | CleartextResponse

_PAUSES = (0.05, 0.5)
"""Seconds before a request that got no answer is made for the second and third time."""
LINGER_SECONDS = 5.0
"""The seconds that a response may take to end after its run has ended, so that its connection is
kept. The bytes that arrive meanwhile are read, and do not prolong this time."""
CAPABILITIES_SECONDS = 2.0
"""The seconds that the agent has to tell its capabilities."""
_CAPABILITIES_KEPT_SECONDS = 60.0
"""The seconds that an answer (or its absence) is kept, because each page asks when it loads."""
_EXCERPT = 2000
_LONGEST_TYPE = 256
_HIGHEST_PORT = 65535
_EXCERPT_SECONDS = 2.0


class HttpAgent:
    """A remote AG-UI agent, as one of the agents of a runtime.

    It runs under asyncio and trio, and so in every binding.

    :param url: where the agent takes POST requests; http or https.
    :param headers: the headers that are sent to the agent with each request. They replace forwarded
        headers of the client (``CopilotRuntime(forward_headers=...)``) with the same names.
    :param client: an ``httpx.AsyncClient`` of your own, which you close yourself. For a client
        certificate or a proxy, say. All users share its cookies; without it no cookie is kept.
    :param timeout: seconds for which the agent may be silent: a comment in its stream is a sign of
        life. ``math.inf`` waits for ever.
    :param connect_timeout: seconds in which a connection has to be there.
    :param max_event_bytes: the longest event. A longer one ends the run.
    :param description: the description of the agent in ``/info``.
    :param capabilities: the capabilities of the agent in ``/info``: a mapping, or a plain or async
        function that returns one. By default the agent is asked (``GET url/capabilities``), at most
        once a minute and for at most 2 s; most have no answer to that, and ``/info`` says nothing
        then.
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
        capabilities: Capabilities | None = None,
    ) -> None:
        self._url = _url_of(url)
        self.headers = dict(headers or {})
        self.description = description
        self.capabilities = self._offered if capabilities is None else capabilities
        self._known: tuple[float, dict[str, Any] | None] = (-math.inf, None)
        self._own_client = client
        self._silence = None if timeout == float("inf") else timeout
        self._connect_timeout = connect_timeout
        self._max_event_bytes = max_event_bytes
        self._pool: anyio.lowlevel.RunVar[httpx.AsyncClient | CleartextPool | None] = (
            anyio.lowlevel.RunVar(f"connections of {self!r}", None)
        )

    def __repr__(self) -> str:
        return f"<HttpAgent at {self._address}>"

    @property
    def _address(self) -> str:
        """The URL without the parts that may be secret."""
        return str(self._url.copy_with(username=None, password=None, query=None))

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[AgentEvent]:
        """Ask the agent, and pass on its events.

        A failure is told by a RUN_ERROR, and logged.
        """
        asked = request(input, context.headers)
        remote = RemoteRun(input.thread_id, input.run_id, self._max_event_bytes)
        try:
            async with contextlib.aclosing(self._events(asked, remote)) as events:
                async for event in events:
                    yield event
        except RemoteAgentError as error:
            logger.error(
                "agent %r at %s failed in run %r: %s",
                context.agent_id,
                self._address,
                input.run_id,
                error,
            )
            yield error.event

    async def aclose(self) -> None:
        """Close the connections that this event loop keeps. A later run makes new ones."""
        pool = self._pool.get()
        if pool is not None:
            self._pool.set(None)
            await pool.aclose()

    async def _offered(self) -> dict[str, Any] | None:
        """Ask the remote agent for its capabilities; None if it does not tell any."""
        until, known = self._known
        if time.monotonic() < until:
            return known
        found = None
        with anyio.move_on_after(CAPABILITIES_SECONDS):
            try:
                found = await self._ask_capabilities()
            except httpx.HTTPError as error:
                logger.info("%r does not say what it can do: %r", self, error)
        self._known = (time.monotonic() + _CAPABILITIES_KEPT_SECONDS, found)
        return found

    async def _ask_capabilities(self) -> dict[str, Any] | None:
        path, asked = capabilities_request(self.headers)
        url = self._url.copy_with(path=self._url.path.rstrip("/") + path)
        response = await self._request(asked, url)
        body = b""
        async with _raw(response) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MOST_CAPABILITIES:
                    break
        return capabilities_in(response.status_code, body)

    async def _events(
        self, asked: RemoteRequest, remote: RemoteRun
    ) -> AsyncGenerator[AgentEvent, None]:
        response = await self._send(asked)
        logger.debug("%r answers %d", self, response.status_code)
        async with _raw(response) as chunks:
            refusal = remote.refusal(response.status_code, response.headers)
            if refusal is not None:
                fault, more = refusal
                raise RemoteAgentError(fault, await _excerpt(response, chunks), more)
            until = math.inf
            while (chunk := await _next(chunks, until)) is not None:
                for number, piece in enumerate(remote.decoded(chunk)):
                    if number:
                        # Other tasks get a turn, because a few compressed bytes may become many
                        # pieces.
                        await anyio.lowlevel.checkpoint()
                    for event in remote.feed(piece):
                        yield event
                if not remote.has_ended:
                    until = math.inf
                elif until == math.inf:
                    until = anyio.current_time() + LINGER_SECONDS
            remote.end()

    async def _send(self, asked: RemoteRequest) -> _AnyResponse:
        for pause in (*_PAUSES, None):
            try:
                return await self._request(asked, self._url)
            except httpx.TransportError as error:
                if pause is None or not is_worth_another_try(error):
                    raise failure(error, begun=False) from error
                logger.debug("%r is asked again in %.2f s: %r", self, pause, error)
            await anyio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _request(self, asked: RemoteRequest, url: httpx.URL) -> _AnyResponse:
        """Send a request of the agent's server, and read the head of its response."""
        logger.debug("%r is asked: %s, with %d bytes", self, asked.method, len(asked.body))
        pool = self._own_client or self._pool.get()
        if pool is None:
            pool = self._new_pool()
            self._pool.set(pool)
        if isinstance(pool, CleartextPool):
            return await pool.send(
                asked.method,
                url.raw_path,
                asked.headers,
                asked.body,
                self._connect_timeout,
                self._silence,
            )
        prepared = pool.build_request(
            asked.method,
            url.copy_with(username=None, password=None),
            content=asked.body,
            headers=asked.headers,
            timeout=httpx.Timeout(self._silence, connect=self._connect_timeout),
        )
        auth = pool.auth
        if auth is None and url.userinfo:
            # The user's name and password are no part of the request's URL, because httpx logs it.
            auth = httpx.BasicAuth(url.username, url.password)
        return await _send_by_httpx(pool, prepared, auth, self._silence)

    def _new_pool(self) -> httpx.AsyncClient | CleartextPool:
        if is_cleartext(self._url):
            return CleartextPool(self._url)
        # The number of connections has no bound here, because each run needs one, and the runtime
        # bounds the runs.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        has_http2 = importlib.util.find_spec("h2") is not None
        try:
            return httpx.AsyncClient(limits=limits, http2=has_http2, cookies=_no_cookies())
        except Exception as error:
            # The environment names a proxy or certificates that cannot be used. Only the error's
            # type is told, because its text may be a part of the proxy's password.
            raise httpx.UnsupportedProtocol(
                "the proxies and certificates that the environment names cannot be used: "
                f"{type(error).__name__}"
            ) from None


def _no_cookies() -> CookieJar:
    """Return a jar that takes no cookie, because users share the client: what an agent sets for one
    of them would be sent with the runs of the others."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


async def _send_by_httpx(
    client: httpx.AsyncClient,
    prepared: httpx.Request,
    auth: httpx.Auth | None,
    silence: float | None,
) -> httpx.Response:
    """Send a request, and read the head of its response.

    The head has ``silence`` seconds in all, because httpx bears interim responses without end, each
    of which is a sign of life.

    :raises httpx.TransportError: if there is no response.
    """
    if silence is None:
        return await client.send(prepared, stream=True, auth=auth, follow_redirects=False)
    with anyio.CancelScope() as scope:

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            if name.endswith("receive_response_headers.started"):
                scope.deadline = anyio.current_time() + silence

        # The time begins when the request was sent, because a long request may take longer to send.
        prepared.extensions["trace"] = trace
        return await client.send(prepared, stream=True, auth=auth, follow_redirects=False)
    raise httpx.ReadTimeout("nothing but interim responses")


def _url_of(url: str) -> httpx.URL:
    """Parse the URL of an agent.

    :raises ValueError: if it is not an absolute http or https one.
    """
    shown = without_secrets(str(url))
    try:
        parsed = httpx.URL(url)
        host, port = parsed.host, parsed.port
    except TypeError as error:
        raise ValueError(f"the agent's url is none: {error}") from None
    except (httpx.InvalidURL, UnicodeError):
        # The parser's error is left out, because it may quote a part of a password. A host that is
        # no international name raises a UnicodeError when it is asked for.
        raise ValueError(f"the agent's url {shown!r} is none") from None
    if parsed.scheme not in ("http", "https") or not host:
        raise ValueError(f"the agent's url is an absolute http or https one, not {shown!r}")
    if port is not None and not 1 <= port <= _HIGHEST_PORT:
        raise ValueError(f"the agent's url {shown!r} has a port that is none: {port}")
    return parsed


def is_cleartext(url: httpx.URL) -> bool:
    """Whether an agent is asked without TLS, without a user's name, and without a proxy that the
    environment names."""
    if url.scheme != "http" or url.userinfo:
        return False
    proxies = urllib.request.getproxies()
    return not (proxies.keys() & {"http", "all"}) or bool(urllib.request.proxy_bypass(url.host))


async def _next(chunks: AsyncIterator[bytes], until: float) -> bytes | None:
    """The next bytes of a response; None at its end.

    :param until: when to wait no longer, by the event loop's clock; infinite until the run has
        ended, so that only the end of the response is left.
    """
    try:
        if until == math.inf:
            return await anext(chunks, None)
        with anyio.CancelScope(deadline=until):
            return await anext(chunks, None)
    except httpx.TransportError as error:
        if until == math.inf:
            raise failure(error, begun=True) from error
    return None


async def _excerpt(response: _AnyResponse, chunks: AsyncIterator[bytes]) -> str:
    """Describe a response that is no stream of events: its type, and how its body begins."""
    body = b""
    with contextlib.suppress(httpx.TransportError), anyio.move_on_after(_EXCERPT_SECONDS):
        async for chunk in chunks:
            body += chunk
            if len(body) >= _EXCERPT:
                break
    kind = response.headers.get("content-type", "no content-type")[:_LONGEST_TYPE]
    return f"HTTP {response.status_code}, {kind!r}: {body[:_EXCERPT]!r}"


@contextlib.asynccontextmanager
async def _raw(response: _AnyResponse) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a response as they came; it is closed behind the context."""
    chunks = response.aiter_raw()
    try:
        yield chunks
    finally:
        await response.aclose()
        # The rest is read until an error ends it, because that closes all the generators of which
        # httpx has made the iterator. Its aclose() would close only the outermost of them, and trio
        # warns of each that is still open.
        with contextlib.suppress(Exception), anyio.move_on_after(_EXCERPT_SECONDS):
            async for _ in chunks:
                pass
