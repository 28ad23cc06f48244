"""The error of every store that cannot be used."""

from __future__ import annotations


class StoreError(Exception):
    """What keeps a store's threads cannot be used, and will not be by waiting.

    :param store: the store as errors name it.
    :param problem: what is wrong.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(f"{store}: {problem}")


def newer(what: str, version: int, known: int) -> str:
    """The problem of a process that finds what a newer release has written.

    :param what: what has the version.
    :param version: the version that was found.
    :param known: the one of this release.
    """
    return (
        f"{what} version {version}, and this release knows {known}: "
        "install the newer release that has written it"
    )
