"""The application of each of two hosts: an agent that counts, over the store of STORE_URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from sansio_copilot import CopilotRuntime, Hooks, RunReport, text_agent

LEASE = 2.0


@text_agent
async def counts(input: Any, context: Any) -> AsyncIterator[str]:
    """Counts to ``forwardedProps.to``, with a pause in front of each number."""
    for number in range(input.forwarded_props["to"]):
        await asyncio.sleep(input.forwarded_props["pause"])
        yield f"{number} "


def _store() -> Any:
    url = os.environ["STORE_URL"]
    if url.startswith("redis:"):
        from copilot_bindings.stores.redis import RedisStore

        return RedisStore(url, prefix="hosts", lease=LEASE)
    from copilot_bindings.stores.postgres import PostgresStore

    return PostgresStore(url, schema="hosts", lease=LEASE)


def _note(report: RunReport) -> None:
    """Write down that a run is over, in a file that the hosts share."""
    with open(os.environ["REPORTS"], "a") as file:
        print(report.thread_id, report.outcome, report.events, file=file)


runtime = CopilotRuntime(
    {"default": counts}, store=_store(), hooks=Hooks(on_run_end=_note), metrics_path="/metrics"
)
