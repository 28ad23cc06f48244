"""Whose thread it is: what an application says of users, and what follows for a request.

Every thread belongs to the user who has opened it, and a store finds nobody else's
(:class:`~sansio_copilot.stores.ThreadStore`). So a request needs to know one thing only before it
asks the store for anything: in whose name it does so. That is the user's own, unless the
application's ``authorize`` says otherwise.

What makes it right is that nothing depends on what is found. ``authorize`` is asked whenever a
request names a thread, before anybody knows whether there is one; it can widen what a user may do,
and cannot narrow it, because one's own threads are no question. So a thread that is somebody else's
is looked for in the same steps as one that has never been, and is not found in the same words.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal, TypeAlias

from .calls import Call
from .functions import check_function
from .http.messages import Request
from .limits import Limits
from .stores import calls
from .stores.calls import perform
from .stores.protocol import ThreadStore
from .users import User

ThreadAction: TypeAlias = Literal[
    "run", "connect", "stop", "read", "list", "update", "archive", "delete", "clear", "debug"
]
"""The use that a user wants to make of a thread ("read" is of messages, events and state), or of
all threads of an owner: "list", "clear", and "debug" for the debug feed."""

IdentifyUser: TypeAlias = Callable[[Request], "User | Awaitable[User | None] | None"]
"""The function that tells the user who sends a request; None for an unknown user, who is answered
401."""

Authorize: TypeAlias = Callable[
    [User, ThreadAction, str | None], "bool | str | Awaitable[bool | str | None] | None"
]
"""Whether a user may do that with the thread of that id, should it be somebody else's.

False or None: no. True: yes, whoever's it is. A str: the id of the user whose it is, or is to be.
The thread is None for what is done with all threads of somebody; there True says nothing.
"""


def check_access(
    identify_user: object, authorize: object, store: object, limits: Limits | None
) -> None:
    """Check the functions that an application gives, before the first request.

    :raises TypeError: if one cannot be called, or the store cannot do what ``authorize`` or a limit
        needs.
    :raises ValueError: if there is an ``authorize``, and nobody who says who the users are.
    """
    if limits is not None and limits.user_bytes < math.inf:
        _check_method(store, "bytes_of", "Limits.user_bytes")
    check_function("identify_user", identify_user, "a function of a Request")
    if authorize is None:
        return
    check_function("authorize", authorize, "a function of a user, an action and a thread's id")
    if identify_user is None:
        raise ValueError("authorize needs identify_user, which says who the users are")
    _check_method(store, "owner_of", "authorize")


def _check_method(store: object, name: str, needed_by: str) -> None:
    if not callable(getattr(store, name, None)):
        raise TypeError(f"the store {type(store).__name__} has no {name}, which {needed_by} needs")


def checked_user(user: object) -> User | None:
    """Return ``user``, as ``identify_user`` has returned it, if it is a user or None.

    :raises TypeError: if it is neither.
    """
    if user is None or isinstance(user, User):
        return user
    raise TypeError(f"identify_user returned {type(user).__name__}, expected a User or None")


def owner_for(
    user: User,
    authorize: Authorize,
    action: ThreadAction,
    thread_id: str | None,
    store: ThreadStore,
) -> Generator[Call, Any, str | None]:
    """The id of the user in whose name ``action`` is done, as ``authorize`` has it.

    :param thread_id: the thread; None for all threads of somebody.
    :returns: None for a thread that is nobody's.
    :raises TypeError: if ``authorize`` returns something else than it may.
    """
    told = yield Call(authorize, (user, action, thread_id), name="the function authorize")
    if told is None or told is False or (told is True and thread_id is None):
        return user.id
    if told is True:
        assert thread_id is not None
        found = yield from perform(calls.owner_of(store, thread_id))
        return user.id if found is None else found.owner
    if isinstance(told, str) and told:
        return told
    raise TypeError(
        f"authorize returned {type(told).__name__}, expected a bool or the id of a user"
    )
