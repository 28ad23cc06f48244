"""The error of every store that cannot be used."""

from __future__ import annotations


class StoreError(Exception):
    """The file or server of a store cannot be used, and waiting does not help.

    :param store: the store as errors name it.
    :param problem: the reason, in words.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(f"{store}: {problem}")


def newer(what: str, version: int, known: int) -> str:
    """Return the problem of data that a newer release has written.

    :param what: the thing that has the version, and the verb: "its keys have".
    :param version: the version that was found.
    :param known: the version of this release.
    """
    return (
        f"{what} version {version}, and this release knows {known}: "
        "install the newer release that has written it"
    )
