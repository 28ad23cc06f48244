"""The methods of a store that only some applications need, and so not every store has.

An application that needs such a method is refused a store without it, at its start
(:func:`~sansio_copilot.access.check_access`). The stores of this project have all of these methods,
and the conformance suite of stores tries them.
"""

from __future__ import annotations

from typing import Protocol

from .protocol import Answer, OwnedThreads, ThreadOwner, ThreadStore


class OwnersStore(ThreadStore, Protocol):
    """A store for applications whose users may use the threads of others (``authorize``)."""

    def owner_of(self, thread_id: str) -> Answer[ThreadOwner | None]:
        """Return the owner of a thread, even if it has only a live run; None if there is no such
        thread.

        The core calls it for a user who may use the threads of others.
        """
        ...


class MeasuringStore(ThreadStore, Protocol):
    """A store for applications that limit the bytes of a user (``Limits.user_bytes``)."""

    def bytes_of(self, owner: str) -> Answer[int]:
        """Return how many bytes the owner's threads take, or at least the frames of their runs.

        The core calls it at most once in a few seconds for an owner.
        """
        ...


class AdministeredStore(ThreadStore, Protocol):
    """A store for administrators, who use the threads of everybody: ``sansio-copilot copy-threads``
    and ``claim-threads``. No request leads to these methods.
    """

    def threads_of_all(self, cursor: str | None, limit: int) -> Answer[OwnedThreads]:
        """List the threads of all owners that have history, in an order of the store's own.

        A thread that is there all the time is seen, perhaps more than once. Of a store without this
        method the threads without an owner are copied.

        :param cursor: the cursor of the page in front of it; None for the first page.
        :param limit: about how many threads; only the last page may have none.
        :raises UnknownCursor: for a cursor that no page of the store has given out.
        """
        ...

    def claim_thread(self, thread_id: str, owner: str) -> Answer[bool]:
        """Give a thread without an owner to a user; a run that is live in it goes on.

        The application itself calls this method, because only the application knows whether the
        thread may be given away.

        :returns: whether the user owns the thread now; also True if the user owned it before.
        """
        ...
