"""The application of each of two hosts: agents that count and ask, over the store of STORE_URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from sansio_copilot import CopilotRuntime, Hooks, RunReport, text_agent
from sansio_copilot.agents import ResumeRefused, answers_to_act_on

LEASE = 2.0


@text_agent
async def counts(input: Any, context: Any) -> AsyncIterator[str]:
    """Counts to ``forwardedProps.to``, with a pause in front of each number."""
    for number in range(input.forwarded_props["to"]):
        await asyncio.sleep(input.forwarded_props["pause"])
        yield f"{number} "


async def asks(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    """Asks, and acts on the answer; ``forwardedProps.hangs`` says whether it hangs then."""
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    try:
        answers = answers_to_act_on(input.resume or (), context.interrupts)
    except ResumeRefused as refused:
        yield {"type": "RUN_ERROR", "message": str(refused)}
        return
    yield {"type": "RUN_STARTED", **ids}
    for answer in answers:
        yield {"type": "CUSTOM", "name": "acted", "value": answer.interrupt_id}
    if answers and input.forwarded_props["hangs"]:
        await asyncio.Event().wait()
    asked = {"type": "interrupt", "interrupts": [{"id": "i", "reason": "approval"}]}
    yield {"type": "RUN_FINISHED", **ids, "outcome": {"type": "success"} if answers else asked}


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
    {"default": counts, "asks": asks},
    store=_store(),
    hooks=Hooks(on_run_end=_note),
    metrics_path="/metrics",
)
