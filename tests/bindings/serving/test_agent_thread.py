"""Plain iterators that async code pulls."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from copilot_bindings.serving.agent_thread import ThreadedIterator
from copilot_bindings.serving.asyncio_backend import AsyncioBackend


def numbers() -> Iterator[int]:
    yield 1
    yield 2


def fails() -> Iterator[int]:
    yield 1
    raise ValueError("on purpose")


def test_an_agent_that_has_ended_stays_ended() -> None:
    """A drain of an agent may ask once more, although another has seen the end already."""

    async def main() -> None:
        async with asyncio.timeout(30):
            iterator = ThreadedIterator(numbers(), AsyncioBackend())
            assert [number async for number in iterator] == [1, 2]
            assert [number async for number in iterator] == []

    asyncio.run(main())


def test_an_agent_that_has_failed_has_ended() -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            iterator = ThreadedIterator(fails(), AsyncioBackend())
            assert await anext(iterator) == 1
            with pytest.raises(ValueError, match="on purpose"):
                await anext(iterator)
            assert [number async for number in iterator] == []

    asyncio.run(main())


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_failure_that_nobody_takes_is_logged_once(
    caplog: pytest.LogCaptureFixture, closed_first: bool
) -> None:
    """The run may end when its agent has failed already, and nobody has been told yet."""
    go_on = threading.Event()

    def fails_when_it_is_let() -> Iterator[int]:
        yield 1
        go_on.wait(30)
        raise ValueError("on purpose")

    async def main() -> None:
        others = set(threading.enumerate())
        iterator = ThreadedIterator(fails_when_it_is_let(), AsyncioBackend())
        assert await anext(iterator) == 1
        (thread,) = set(threading.enumerate()) - others
        if closed_first:
            await iterator.aclose()
        go_on.set()
        thread.join(30)
        assert not thread.is_alive()
        await iterator.aclose()

    with caplog.at_level(logging.ERROR, "copilot_bindings"):
        asyncio.run(main())
    failures = [record.getMessage() for record in caplog.records]
    assert failures == ["an agent failed while it cleaned up"]
