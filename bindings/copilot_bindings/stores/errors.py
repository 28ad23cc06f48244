"""The error of every store that cannot be used."""

from __future__ import annotations


class StoreError(Exception):
    """What keeps a store's threads cannot be used, and will not be by waiting.

    :param store: the store as errors name it.
    :param problem: what is wrong.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(f"{store}: {problem}")
