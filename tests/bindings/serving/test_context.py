"""Tests of a coroutine that does not let itself be ended, and of what is left of it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio

from copilot_bindings.serving.context import CallContext, Dropped


async def greedy():
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            print("caught", flush=True)


async def main():
    awaited = CallContext.of_now().awaitable(greedy())

    async def drive():
        try:
            await awaited
        except Dropped:
            print("dropped", flush=True)

    task = asyncio.create_task(drive())
    await asyncio.sleep(0)
    awaited.give_up(keep_trying=False)
    task.cancel()
    await task


asyncio.run(main())
print("at the end", flush=True)
"""


def test_a_process_ends_although_a_coroutine_catches_whatever_can_be_raised() -> None:
    """The coroutine would catch one error after the other if it was closed after the loop."""
    program = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = [next(process.stdout).strip() for _ in range(3)]
            assert said == ["caught", "dropped", "at the end"]
            # The process has ended its output, so that it catches nothing more.
            assert process.stdout.readline() == ""
            assert process.wait(60) == 0
        finally:
            process.kill()
