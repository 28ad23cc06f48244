"""Errors of the protocol between the core, a binding and the network (h11's division)."""

from __future__ import annotations


class LocalProtocolError(Exception):
    """The binding, or other code on this side, made a call that the state does not allow."""


class RemoteProtocolError(Exception):
    """The client did what the protocol does not allow."""


class RunRefused(Exception):
    """The server has no home for another run now. Reported as the outcome of a StartRun."""


class BodyTooLarge(RemoteProtocolError):
    """The request's body is longer than the limit. Reported as the outcome of a ReadBody."""


class BodyRefused(Exception):
    """The server has no room for another body now. Reported as the outcome of a ReadBody."""


class BodyTimeout(RemoteProtocolError):
    """The request's body did not arrive in time. Reported as the outcome of a ReadBody."""


def text_of(error: BaseException) -> str:
    """``str(error)``; "" if even that fails, as it may with an application's own exception."""
    try:
        return str(error)
    except Exception:
        return ""


def shorten(text: str, longest: int = 200) -> str:
    """``text``, or its beginning: what answers and log lines repeat of a client has a bound.

    :param longest: characters, of the beginning.
    """
    return text if len(text) <= longest else f"{text[:longest]}..."
