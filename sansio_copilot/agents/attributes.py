"""The attributes that an agent may have beside its function, and the check of their types.

A type checker cannot check them for any object, because they are optional. So a runtime checks them
when it is made, and :class:`~.protocols.AgentBase` declares them for type checkers. Whoever uses an
attribute checks it again, because it may have been assigned since, and because agents that are
picked for a request are not checked beforehand: a mistake in one of them fails no run of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import BaseModel

from ..functions import fits, signature_of

Capabilities: TypeAlias = Mapping[str, Any] | BaseModel | Callable[[], Any]
"""What an agent says that it can do: a mapping, a model of ``ag_ui.core``, or a plain or async
function that returns one of the two, or None."""


def check_attributes(what: str, agent: object) -> None:
    """Check the attributes of ``agent`` that the runtime reads.

    :param what: the name of the agent in the error.
    :raises TypeError: if one is of the wrong type.
    """
    check_description(what, _constant(agent, "description"))
    capabilities = _constant(agent, "capabilities")
    if not callable(capabilities):
        # A function is not looked at, because an agent whose capabilities cannot be told still
        # runs, and /info warns of it.
        check_capabilities(what, capabilities)
    check_headers(what, _constant(agent, "headers"))


def _constant(agent: object, name: str) -> object:
    """An attribute of an agent; None for a property.

    A property is not asked, because it may give something else for each request, such as a token,
    and fail where there is no request.
    """
    if isinstance(getattr(type(agent), name, None), (property, cached_property)):
        return None
    return getattr(agent, name, None)


def check_description(what: str, description: object) -> None:
    """Check the description that an agent has in /info; None counts as none.

    :raises TypeError: if it is of the wrong type.
    """
    if description is not None and not isinstance(description, str):
        raise TypeError(f"description of {what} is a str, not {type(description).__name__}")


def check_capabilities(what: str, capabilities: object) -> None:
    """Check the capabilities that an agent has in /info; None counts as none.

    :raises TypeError: if they are of the wrong type.
    """
    if callable(capabilities):
        if not fits(capabilities, 0):
            taken = signature_of(capabilities)
            raise TypeError(f"capabilities of {what} takes {taken}, expected ()")
    elif not isinstance(capabilities, (Mapping, BaseModel, type(None))):
        raise TypeError(
            f"capabilities of {what} is a mapping, or a function that returns one, not "
            f"{type(capabilities).__name__}"
        )


def check_headers(what: str, headers: object) -> None:
    """Check the headers that the server itself sends to an agent; None counts as none.

    :raises TypeError: if they are of the wrong type. The text has no value, which may be a secret.
    """
    if headers is None:
        return
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers of {what} is a mapping, not {type(headers).__name__}")
    for text in (*headers, *headers.values()):
        if not isinstance(text, str):
            raise TypeError(f"headers of {what} has only str in it, not {type(text).__name__}")


def valid(check: Callable[[str, object], None]) -> Callable[[Any, object, Any], None]:
    """Make the validator of an attribute of a class of agents, which is called when it is set."""

    def validate(agent: Any, attribute: object, value: Any) -> None:
        check(f"agent {agent.__name__!r}", value)

    return validate
