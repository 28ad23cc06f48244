"""Plain iterators that async code pulls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from copilot_bindings._asyncio_backend import AsyncioBackend
from copilot_bindings._iterate import ThreadedIterator


def numbers() -> Iterator[int]:
    yield 1
    yield 2


def fails() -> Iterator[int]:
    yield 1
    raise ValueError("on purpose")


def test_what_has_ended_stays_so() -> None:
    """Who drains an agent may ask once more, although another has seen the end already."""

    async def main() -> None:
        async with asyncio.timeout(10):
            iterator = ThreadedIterator(numbers(), AsyncioBackend())
            assert [number async for number in iterator] == [1, 2]
            assert [number async for number in iterator] == []

    asyncio.run(main())


def test_what_has_failed_has_ended() -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            iterator = ThreadedIterator(fails(), AsyncioBackend())
            assert await anext(iterator) == 1
            with pytest.raises(ValueError, match="on purpose"):
                await anext(iterator)
            assert [number async for number in iterator] == []

    asyncio.run(main())
