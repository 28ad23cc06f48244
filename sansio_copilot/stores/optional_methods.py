"""The methods and attributes that not every store has.

Some only some applications need: those of :class:`OwnersStore`, :class:`MeasuringStore` and
:class:`AdministeredStore`. An application that needs such a method is refused a store without it,
at its start (:func:`~sansio_copilot.access.check_access`).

The others only some stores need, and a binding uses them if they are there. The functions at the
end say whether they are, so that type checkers know what is called; and a store in which such a
method cannot be called is refused where it is given (:func:`~.protocol.check_store`).

The stores of this project have all of these methods, as far as they need them, and the conformance
suite of stores tries them.
"""

from __future__ import annotations

from typing import Protocol, TypeGuard

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


class OpenableStore(ThreadStore, Protocol):
    """A store that prepares itself: by migrations, pools or subscribers."""

    def open(self) -> Answer[None]:
        """Prepare for the first call. Nothing is served if this raises.

        A binding calls it before it serves, once for all servers of a process. A forked process
        calls it for itself.
        """
        ...


class ClosableStore(ThreadStore, Protocol):
    """A store that has resources to give back."""

    def close(self) -> Answer[None]:
        """Give back what :meth:`OpenableStore.open` or a later call has acquired.

        A binding calls it after the last call of the last server of a process.
        """
        ...


class CheckableStore(ThreadStore, Protocol):
    """A store that may be out of reach, for a readiness probe."""

    def check(self) -> Answer[None]:
        """Return if the store can be used now, and raise if it cannot."""
        ...


class LeasingStore(ThreadStore, Protocol):
    """A store whose runs have leases, because it outlives its processes."""

    @property
    def lease(self) -> float | None:
        """The length of a lease in seconds: a binding asks as often for :meth:`orphans`. None if
        runs have none."""
        ...


class EvictingStore(ThreadStore, Protocol):
    """A store that lets threads go to stay within bounds."""

    @property
    def evictions(self) -> int:
        """The number of threads that it has let go, which metrics tell."""
        ...


def is_openable(store: ThreadStore) -> TypeGuard[OpenableStore]:
    """Whether ``store`` is to be opened."""
    return getattr(store, "open", None) is not None


def is_closable(store: ThreadStore) -> TypeGuard[ClosableStore]:
    """Whether ``store`` is to be closed."""
    return getattr(store, "close", None) is not None


def is_checkable(store: ThreadStore) -> TypeGuard[CheckableStore]:
    """Whether ``store`` can say that it is ready."""
    return getattr(store, "check", None) is not None


def lease_of(store: ThreadStore) -> float | None:
    """The length of the leases of ``store`` in seconds; None if its runs have none."""
    lease: float | None = getattr(store, "lease", None)
    return lease


def evictions_of(store: object) -> int | None:
    """The number of threads that ``store`` has let go to stay within its bounds; None if it does
    not say."""
    count = getattr(store, "evictions", None)
    return count if isinstance(count, int) else None
