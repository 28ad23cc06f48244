"""Runs without an owner are ended, though nobody visits their threads."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from sansio_copilot import CopilotRuntime, Hooks, MemoryStore, RunReport
from sansio_copilot.runs.lost_reports import report_of_lost
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.stores.protocol import Orphan, RunKey


class Orphanage(MemoryStore):
    """Has orphans, of which one cannot be ended, and fails when it is asked for the second time."""

    blocking = False
    lease = 0.01

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.ended: list[str] = []

    def orphans(self, limit: int) -> list[Orphan]:
        self.asked += 1
        if self.asked == 2:
            raise OSError("not now")
        keys = [RunKey("t", number, f"r{number}") for number in range(3)]
        return [Orphan(key, "agent", b"") for key in keys if key.run_id not in self.ended]

    def close_run(self, key: RunKey, *args: Any) -> None:
        if key.run_id == "r1":
            raise OSError("not this one")
        self.ended.append(key.run_id)


class LateOrphanage(Orphanage):
    """The same, with coroutines."""

    async def orphans(self, limit: int) -> list[Orphan]:  # type: ignore[override]
        await anyio.lowlevel.checkpoint()
        return super().orphans(limit)


async def serve_asyncio(runtime: CopilotRuntime, during: Callable[[], Awaitable[None]]) -> None:
    from copilot_bindings.asyncio import start_server

    server = await start_server(runtime, port=0)
    await during()
    await server.close()


async def serve_trio(runtime: CopilotRuntime, during: Callable[[], Awaitable[None]]) -> None:
    import trio

    from copilot_bindings.trio import serve

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, runtime, port=0))
        await during()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("serve", [serve_asyncio, serve_trio])
@pytest.mark.parametrize("store", [Orphanage, LateOrphanage])
def test_a_server_sweeps_from_time_to_time(
    serve: Any, store: type[Orphanage], caplog: pytest.LogCaptureFixture
) -> None:
    kept = store()

    async def swept() -> None:
        with anyio.fail_after(30):
            while kept.asked < 4:
                await anyio.sleep(0.01)

    library = "trio" if serve is serve_trio else "asyncio"
    anyio.run(partial(serve, CopilotRuntime({}, store=kept), swept), backend=library)
    assert kept.ended == ["r0", "r2"]
    assert "an orphan could not be ended: RunKey(thread_id='t', seq=1, run_id='r1')" in caplog.text
    assert "the store could not be asked for runs without an owner" in caplog.text


@pytest.mark.parametrize("serve", [serve_asyncio, serve_trio])
def test_a_server_that_ends_tells_of_lost_runs_that_requests_have_found(serve: Any) -> None:
    told: list[RunReport] = []

    async def hook(report: RunReport) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(report)

    orphan = Orphan(RunKey("t", 1, "r"), "agent", b"")
    runtime = CopilotRuntime({}, hooks=Hooks(on_run_end=hook))

    async def found() -> None:
        recorder = RunRecorder.adopt(orphan)
        runtime.lost.add(report_of_lost(orphan, recorder, "lost", 1.0))

    library = "trio" if serve is serve_trio else "asyncio"
    anyio.run(partial(serve, runtime, found), backend=library)
    assert [report.outcome for report in told] == ["lost"]


@pytest.mark.parametrize("serve", [serve_asyncio, serve_trio])
def test_a_server_that_ends_during_a_sweep_tells_of_what_it_has_ended(serve: Any) -> None:
    """The call that has begun is seen through, and none begins after it."""
    kept = Orphanage()
    told: list[str] = []
    begun, goes_on = anyio.Event(), anyio.Event()

    async def hook(report: RunReport) -> None:
        begun.set()
        await goes_on.wait()
        told.append(report.run_id)

    async def during() -> None:
        with anyio.fail_after(30):
            await begun.wait()
        goes_on.set()

    library = "trio" if serve is serve_trio else "asyncio"
    runtime = CopilotRuntime({}, store=kept, hooks=Hooks(on_run_end=hook))
    anyio.run(partial(serve, runtime, during), backend=library)
    assert told == kept.ended


@pytest.mark.parametrize("serve", [serve_asyncio, serve_trio])
def test_a_server_that_ends_during_a_call_of_a_sweep_waits_for_the_call(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked, released = threading.Event(), threading.Event()

    class Blocked(MemoryStore):
        blocking = True
        lease = 30.0

        def orphans(self, limit: int) -> list[Orphan]:
            asked.set()
            assert released.wait(30)
            return []

    async def during() -> None:
        with anyio.fail_after(30):
            while not asked.is_set():
                await anyio.sleep(0.01)
        # The call returns when the shutdown has got past everything that it does not wait for.
        threading.Timer(0.3, released.set).start()

    library = "trio" if serve is serve_trio else "asyncio"
    anyio.run(partial(serve, CopilotRuntime({}, store=Blocked()), during), backend=library)
    assert not caplog.records
