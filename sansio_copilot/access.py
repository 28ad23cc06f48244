"""The access of users to threads: what an application says of it, and what follows for a request.

Every thread belongs to the user who has opened it, and a store finds only the threads of the owner
that a call names (:class:`~sansio_copilot.stores.ThreadStore`). So a request has to know one thing
before it calls the store: the owner in whose name it does so. The owner is the user who sends the
request, unless the application's ``authorize`` says otherwise.

The rule that makes it right is: *the steps do not depend on which threads exist.* ``authorize`` is
asked whenever a request names a thread, before the store is asked whether the thread exists. It can
only add rights, because a user needs none for threads of their own. So a thread of another user is
looked for in the same steps as a thread that does not exist, and the answer has the same words.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal, TypeAlias, cast

from .calls import Call
from .functions import check_function
from .http.messages import Request
from .limits import Limits
from .stores import calls
from .stores.calls import perform
from .stores.optional_methods import OwnersStore
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
"""The function that says whether a user may do an action with the thread of an id, if the thread
has another owner.

False or None: no. True: yes, whoever the owner is. A str: the id of the user who owns the thread,
or will own it if it is new. The id of the thread is None for actions on all threads of an owner;
there True has no meaning.
"""


def check_access(
    identify_user: object, authorize: object, store: object, limits: Limits | None
) -> None:
    """Check the functions that an application gives, before the first request.

    :raises TypeError: if one cannot be called, or the store lacks a method that ``authorize`` or a
        limit needs.
    :raises ValueError: if there is an ``authorize`` without an ``identify_user``.
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
    """Return the id of the user in whose name ``action`` is done, as ``authorize`` says.

    :param thread_id: the thread; None for all threads of an owner.
    :returns: None for a thread without an owner.
    :raises TypeError: if ``authorize`` returns a value of a wrong type.
    """
    told = yield Call(authorize, (user, action, thread_id), name="the function authorize")
    if told is None or told is False or (told is True and thread_id is None):
        return user.id
    if told is True:
        assert thread_id is not None
        # The cast is safe, because check_access() has made sure that the store has this method.
        found = yield from perform(calls.owner_of(cast("OwnersStore", store), thread_id))
        return user.id if found is None else found.owner
    if isinstance(told, str) and told:
        return told
    raise TypeError(
        f"authorize returned {type(told).__name__}, expected a bool or the id of a user"
    )
