"""What a remote agent can do wrong, and what clients and operators are told of it.

A client is told a code and a sentence that names neither a host nor a path, because addresses
inside a network are nobody's business outside of it. The log has all that was seen.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Final

import attrs
import httpx

_SENTENCES: Final[Mapping[str, str]] = {
    "AGENT_UNREACHABLE": "The agent cannot be reached",
    "AGENT_NOT_TRUSTED": "The agent's certificate was not accepted",
    "AGENT_TIMEOUT": "The agent was silent for too long",
    "AGENT_DISCONNECTED": "The connection to the agent was lost",
    "AGENT_INCOMPLETE": "The agent's stream ended before its run",
    "AGENT_REDIRECTED": "The agent has moved",
    "AGENT_UNAUTHORIZED": "The agent does not accept who asks",
    "AGENT_BUSY": "The agent is busy",
    "AGENT_REFUSED": "The agent refused the request",
    "AGENT_FAILED": "The agent failed",
    "AGENT_NOT_A_STREAM": "The agent answered no stream of events",
    "AGENT_BAD_ENCODING": "The agent's stream cannot be decompressed",
    "AGENT_BAD_EVENT": "The agent sent an event that is not a JSON object",
    "AGENT_EVENT_TOO_LARGE": "The agent sent an event that is too large",
    "AGENT_WRONG_RUN": "The agent sent an event of another run",
}


class UpstreamError(Exception):
    """The remote agent did not answer as an AG-UI agent does.

    :param code: which of the ways it was; a client is told it.
    :param seen: what the log says of it.
    :param more: what a client is told beside the sentence of the code.
    """

    def __init__(self, code: str, seen: str, more: str = "") -> None:
        super().__init__(f"{code}: {seen}")
        self.code = code
        self.seen = seen
        self.message = f"{_SENTENCES[code]}{more}"


@attrs.frozen
class _Answer:
    """Which code stands for the status codes of a range."""

    first: int
    last: int
    code: str


_ANSWERS: Final = (
    _Answer(300, 399, "AGENT_REDIRECTED"),
    _Answer(401, 401, "AGENT_UNAUTHORIZED"),
    _Answer(403, 403, "AGENT_UNAUTHORIZED"),
    _Answer(409, 409, "AGENT_BUSY"),
    _Answer(429, 429, "AGENT_BUSY"),
    _Answer(503, 503, "AGENT_BUSY"),
    _Answer(400, 499, "AGENT_REFUSED"),
    _Answer(500, 599, "AGENT_FAILED"),
)
_LONGEST_RETRY_AFTER = 5
"""Digits of a Retry-After that is repeated; a date is not."""


def refusal_of(status: int, headers: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with the head of a response (RFC 9110, section 15).

    :param headers: by name in lower case.
    :returns: the code, and what a client is told beside its sentence; None if a stream of events
        follows.
    """
    for answer in _ANSWERS:
        if answer.first <= status <= answer.last:
            more = f" (HTTP {status})"
            after = headers.get("retry-after", "")
            if after.isdecimal() and len(after) <= _LONGEST_RETRY_AFTER:
                more += f"; try again in {after} s"
            return answer.code, more
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if status == httpx.codes.OK and media_type == "text/event-stream":
        return None
    return "AGENT_NOT_A_STREAM", ""


def failure_of_transport(error: httpx.TransportError, begun: bool) -> UpstreamError:
    """What an exception of the transport means.

    :param begun: whether the response has begun.
    """
    seen = f"{type(error).__name__}: {error}"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        trusted = not any(isinstance(cause, ssl.SSLError) for cause in _causes(error))
        return UpstreamError("AGENT_UNREACHABLE" if trusted else "AGENT_NOT_TRUSTED", seen)
    if isinstance(error, httpx.TimeoutException):
        return UpstreamError("AGENT_TIMEOUT", seen)
    if isinstance(error, httpx.UnsupportedProtocol):
        return UpstreamError("AGENT_UNREACHABLE", seen)
    return UpstreamError("AGENT_DISCONNECTED" if begun else "AGENT_UNREACHABLE", seen)


def is_worth_another_try(error: httpx.TransportError) -> bool:
    """Whether a request of which no answer has come may be made again.

    The agent was not reached, or closed a kept connection just when it was used. A time-out says
    that the agent was asked and is slow, and a bad certificate does not get better.
    """
    if isinstance(error, httpx.ConnectError):
        return not any(isinstance(cause, ssl.SSLError) for cause in _causes(error))
    return isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ConnectTimeout)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that ``error`` was raised for, and itself."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
