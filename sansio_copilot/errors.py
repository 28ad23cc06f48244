"""Errors of the protocol between the core, a binding and the network (h11's division)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class LocalProtocolError(Exception):
    """The binding, or other code on this side, made a call that the state does not allow."""


class RemoteProtocolError(Exception):
    """The client did something that the protocol does not allow."""


class RunRefused(Exception):
    """The server has no home for another run now. Reported as the outcome of a StartRun."""


class StoreUnavailable(Exception):
    """A thread store cannot be reached for now, and the same call may be made again.

    A store raises it from any of its methods, if the call has not arrived or its answer was lost. A
    run goes on meanwhile, and its calls are made again with growing pauses, for as long as
    :class:`~sansio_copilot.Limits` allow.
    """


class StoreAnswerLost(StoreUnavailable):
    """The store may have performed the call, but its answer was lost.

    So the answer to the same call, made again, may show the effect of the first one: if a thread
    to be deleted is not there, the first call has perhaps deleted it.
    """


class BodyTooLarge(RemoteProtocolError):
    """The request's body is longer than the limit. Reported as the outcome of a ReadBody."""


class BodyRefused(Exception):
    """The server has no room for another body now. Reported as the outcome of a ReadBody."""


class BodyTimeout(RemoteProtocolError):
    """The request's body did not arrive in time. Reported as the outcome of a ReadBody."""


_CAUSES = 5
_CAUSES_LENGTH = 1000


def sole_cause(error: BaseException) -> BaseException:
    """The exception in a group of one, as a task group raises it, however often it is nested.

    :returns: ``error`` itself, if it is no such group.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def text_of(error: BaseException) -> str:
    """Return ``str(error)``; "" if it fails, as it may for an application's own exception.

    For an exception group the text is that of its first few exceptions, with a bounded length,
    because the group itself says only how many there are.
    """
    error = sole_cause(error)
    if isinstance(error, BaseExceptionGroup):
        texts: list[str] = []
        waiting: list[BaseException] = [error]
        while waiting and len(texts) <= _CAUSES:
            cause = waiting.pop()
            if isinstance(cause, BaseExceptionGroup):
                waiting.extend(reversed(cause.exceptions))
            else:
                texts.append(shorten(text_of(cause) or type(cause).__name__, _CAUSES_LENGTH))
        if len(texts) > _CAUSES:
            texts[_CAUSES:] = ["..."]
        return shorten("; ".join(texts), _CAUSES_LENGTH)
    try:
        return contained(str, error)
    except Exception:
        return ""


def contained(function: Callable[..., T], *args: object) -> T:
    """Call a plain function of the application, which can end nothing but this call.

    :raises Exception: the function's error; a RuntimeError if that is no Exception (but SystemExit,
        for example). A KeyboardInterrupt is left as it is, because it comes from the user.
    """
    try:
        return function(*args)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RuntimeError(f"what was called raised {type(error).__name__}") from error


def shorten(text: str, longest: int = 200) -> str:
    """Return ``text`` or its beginning, so that responses and log lines repeat only a short part of
    a client's text.

    :param longest: the most characters.
    """
    return text if len(text) <= longest else f"{text[:longest]}..."
