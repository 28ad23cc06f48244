"""What the exceptions of httpx mean for a run whose agent is asked over HTTP."""

from __future__ import annotations

import ssl

import httpx

from sansio_copilot.agents.remote import Fault, RemoteAgentError


def failure(error: httpx.TransportError, begun: bool) -> RemoteAgentError:
    """Return the error that tells what an exception of the transport means.

    :param begun: whether the response has begun.
    """
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        fault = Fault.AGENT_NOT_TRUSTED if _is_of_tls(error) else Fault.AGENT_UNREACHABLE
    elif isinstance(error, httpx.TimeoutException):
        fault = Fault.AGENT_TIMEOUT
    else:
        fault = Fault.AGENT_DISCONNECTED if begun else Fault.AGENT_UNREACHABLE
    return RemoteAgentError(fault, f"{type(error).__name__}: {error}")


def is_worth_another_try(error: httpx.TransportError) -> bool:
    """Whether a request that got no answer may be made again.

    It may, if the agent was not reached, or closed a kept connection just when it was used. It may
    not after a time-out, because the agent was asked and is slow, nor after a bad certificate,
    which would be bad again.
    """
    again = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
    return isinstance(error, again) and not _is_of_tls(error)


def _is_of_tls(error: BaseException) -> bool:
    """Whether an exception has an error of TLS as its cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
