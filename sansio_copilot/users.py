"""The user who sends a request, as the application knows its users."""

from __future__ import annotations

from typing import Any

import attrs

_LONGEST_ID = 1000


def _id(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"the id of a user is a str, not {type(value).__name__}")
    # An id that is too long is refused here, because a store keeps it with each thread.
    if not 0 < len(value) <= _LONGEST_ID:
        raise ValueError(f"the id of a user has 1 to {_LONGEST_ID} characters, not {len(value)}")


@attrs.frozen
class User:
    """Somebody whom ``CopilotRuntime(identify_user=...)`` has recognised.

    :param id: tells the user from all others, for ever: threads belong to it. A tenant's name in
        front of it keeps tenants apart. It is compared as it is, so that "Ann" is not "ann".
    :param data: whatever the application wants its hooks and agents to know of the user: roles,
        claims, an object of its own. It is kept for as long as a run of the user lives. The core
        does not look at it, and neither repr nor comparison does.
    :raises TypeError: for an id that is no str.
    :raises ValueError: for an id that is empty, or longer than 1,000 characters.
    """

    id: str = attrs.field(validator=_id)
    data: Any = attrs.field(default=None, eq=False, repr=False)
