"""The request that an endpoint is given, and the reply that it gives back."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeAlias, cast

from msgspec import Struct

from ..access import ThreadAction, owner_for
from ..agents.checks import check_agents
from ..agents.protocols import Agent
from ..calls import Call
from ..config import RuntimeConfig
from ..errors import shorten
from ..http.addresses import is_for_another
from ..http.messages import Request, Response
from ..http.refusals import Refusal, invalid_body, too_many
from ..http.routing import Route
from ..runs.audience import Audience
from ..runs.machine import Run
from ..runs.quotas import QuotaExceeded, Quotas, QuotaSlot
from ..stores import calls
from ..stores.calls import StoreCall, perform
from ..stores.optional_methods import MeasuringStore
from ..stores.protocol import Log, ThreadStore
from ..users import User
from .body import JsonBody
from .run_input import RunInput, parse_input

logger = logging.getLogger(__name__)

_ANYWHERE: Final[AbstractContextManager[None]] = nullcontext()


class LogStream(Struct, frozen=True):
    """A response body that is read from a thread log until the log ends.

    :param store: the store that has the log.
    :param cursor: the place in the log where to begin.
    :param run: the run to start before the first byte; None for a reader that starts no run.
    :param ephemeral: whether the run dies with its client.
    :param preface: bytes to send before those of the log.
    :param audience: the audience of the run, if its readers have to be counted.
    """

    store: Log
    cursor: Any
    run: Run | None = None
    ephemeral: bool = False
    preface: bytes = b""
    audience: Audience | None = None


#: The steps that make content: they yield a piece of it, or a call whose outcome they are sent, and
#: return whether the content is complete; False if the rest is gone.
Pieces: TypeAlias = Generator[StoreCall[Any] | bytes, Any, bool]


class Content(Struct, frozen=True):
    """A response body that is made while the client takes it.

    :param pieces: the steps that make it.
    :param text: the text that it is made of, which is held until the whole body is sent.
    :param own: the bytes that are held besides.
    """

    pieces: Pieces
    text: bytes = b""
    own: int = 0


STREAM: Final = Response(
    200,
    (
        ("content-type", "text/event-stream"),
        # A proxy that compresses would hold events back until it has enough of them, but it must
        # not touch a response with no-transform (RFC 9111 section 5.2.2.6).
        ("cache-control", "no-cache, no-transform"),
        # nginx and others like it buffer a response unless this header tells them not to.
        ("x-accel-buffering", "no"),
    ),
    stream=True,
)
"""The response whose body is read from a log."""


class Reply(Struct, frozen=True):
    """The result of an endpoint: a response, and for a streaming one the log that it reads, or the
    steps that make its content."""

    response: Response
    stream: LogStream | None = None
    content: Content | None = None


class EndpointInput(Struct, frozen=True):
    """One request on its way through an endpoint.

    :param request: the request, with its body read.
    :param now: seconds since the epoch when the request arrived.
    :param parsed: the body as it was parsed for the route; it counts unless a hook has put another
        body in its place.
    :param user: the user who sends it; None where the application knows no users.
    """

    runtime: RuntimeConfig
    request: Request
    route: Route
    now: float
    parsed: JsonBody | None = None
    user: User | None = None

    def json(self) -> Any:
        """The JSON in the request's body.

        :raises ValueError: if the body is not JSON, with the reason.
        :raises Refusal: with 413, if it has too many values.
        """
        body = self.request.body or b""
        parsed = self.parsed
        if parsed is None or parsed.data is not body:
            parsed = JsonBody.parse(body, self.runtime.limits.body_values)
        if parsed.problem is not None:
            raise ValueError(parsed.problem)
        return parsed.content

    def run_input(self) -> RunInput:
        """The RunAgentInput that the request's body is.

        :raises Refusal: with 400, if it is not JSON, or not a RunAgentInput; 413 if it has too many
            values.
        """
        try:
            value = self.json()
        except ValueError as error:
            raise Refusal(invalid_body(f"not JSON: {error}")) from None
        return parse_input(value)

    @property
    def store(self) -> ThreadStore:
        """The runtime's store."""
        return self.runtime.store

    def owner(
        self, action: ThreadAction, thread_id: str | None = None
    ) -> Generator[Call, Any, str | None]:
        """The id of the user in whose name ``action`` is done; None where there are no users.

        :param thread_id: the thread that the action is for; None for all threads of an owner.
        :raises TypeError: if ``authorize`` returns a value of a wrong type.
        :raises Refusal: with 429, if the action is a run, and the threads of that user take all the
            bytes that they may.
        """
        user, authorize = self.user, self.runtime.authorize
        if user is None:
            return None
        owner: str | None = user.id
        if authorize is not None:
            owner = yield from owner_for(user, authorize, action, thread_id, self.store)
        if action == "run" and owner is not None and self.runtime.quotas is not None:
            yield from self._check_room(self.runtime.quotas, owner)
        return owner

    @property
    def may_list(self) -> bool:
        """Whether the threads that are listed and cleared belong to the user who asks, or to people
        who share them."""
        runtime = self.runtime
        if runtime.identify_user is not None:
            return True
        if runtime.shared_threads is not None:
            return runtime.shared_threads
        return not (runtime.exposed or is_for_another(self.request.headers))

    def quota_slot(self) -> AbstractContextManager[QuotaSlot | None]:
        """A place for a run of the user, which is left at the end unless the run is given it.

        :raises Refusal: with 429, if there is no slot.
        """
        quotas = self.runtime.quotas
        if quotas is None or self.user is None:
            return _ANYWHERE
        try:
            return quotas.enter(self.user.id, self.now)
        except QuotaExceeded as error:
            raise Refusal(too_many(str(error), error.seconds)) from None

    def _check_room(self, quotas: Quotas, owner: str) -> Generator[Call, Any, None]:
        if quotas.has_to_ask(owner, self.now):
            # The cast is safe, because check_access() has made sure that the store has this method.
            stored = yield from perform(calls.bytes_of(cast("MeasuringStore", self.store), owner))
            quotas.told(owner, stored, self.now)
        try:
            quotas.check_stored(owner, self.now)
        except QuotaExceeded as error:
            raise Refusal(too_many(str(error), error.seconds)) from None

    def no_such_thread(self, thread_id: str) -> Refusal:
        """The refusal (404) for a thread that does not exist, or that has another owner."""
        message = f"Thread '{shorten(thread_id)}' does not exist"
        return Refusal(Response.json({"error": "Thread not found", "message": message}, 404))

    def agents(self) -> Generator[Call, Any, Mapping[str, Agent]]:
        """The agents for this request.

        :raises TypeError: if the application's function returned something else.
        """
        agents = self.runtime.agents
        if isinstance(agents, Mapping):
            return agents
        return check_agents((yield Call(agents, (self.request,), name="the agents function")))

    def agent(self) -> Generator[Call, Any, Agent]:
        """The agent that the route names.

        :raises Refusal: with 404, if there is no agent of that name.
        """
        agents = self.runtime.agents
        if not isinstance(agents, Mapping):
            agents = yield from self.agents()
        agent_id = self.route.agent_id
        assert agent_id is not None
        if agent_id not in agents:
            asked = shorten(agent_id)
            names = shorten(", ".join(map(repr, sorted(agents))), 1000)
            logger.warning("no agent %r; there are [%s]", asked, names)
            message = f"Agent '{asked}' does not exist"
            raise Refusal(Response.json({"error": "Agent not found", "message": message}, 404))
        return agents[agent_id]


#: The steps of an endpoint: they yield calls, are sent the outcome of each, and return the reply.
EndpointSteps: TypeAlias = Generator[Call, Any, Reply]
