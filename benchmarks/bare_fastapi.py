"""The code that most people write instead: a FastAPI endpoint with ag_ui's encoder of events.

It stores nothing, verifies nothing, and has no history, connect or stop. Its agent says the same as
that of serve.py, in models of ag_ui, as the encoder takes them.

    uvicorn bare_fastapi:app
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ag_ui.core import (
    BaseEvent,
    EventType,
    RunAgentInput,
    RunFinishedEvent,
    RunStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
)
from ag_ui.encoder import EventEncoder
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


async def agent(input: RunAgentInput) -> AsyncIterator[BaseEvent]:
    """A text message, as ``forwardedProps`` say; see serve.py."""
    props = input.forwarded_props or {}
    turns = props.get("turns")
    thread_id, run_id = input.thread_id, input.run_id
    message_id = f"{run_id}-m"
    yield RunStartedEvent(type=EventType.RUN_STARTED, thread_id=thread_id, run_id=run_id)
    yield TextMessageStartEvent(
        type=EventType.TEXT_MESSAGE_START, message_id=message_id, role="assistant"
    )
    for number in range(props.get("deltas", 0)):
        if turns:
            await asyncio.sleep(0)
        yield TextMessageContentEvent(
            type=EventType.TEXT_MESSAGE_CONTENT, message_id=message_id, delta=f"token {number} "
        )
    yield TextMessageEndEvent(type=EventType.TEXT_MESSAGE_END, message_id=message_id)
    yield RunFinishedEvent(type=EventType.RUN_FINISHED, thread_id=thread_id, run_id=run_id)


@app.post("/api/copilotkit/agent/default/run")
async def run(input: RunAgentInput, request: Request) -> StreamingResponse:
    """The events of a run, as server-sent events."""
    encoder = EventEncoder(accept=request.headers.get("accept") or "")

    async def frames() -> AsyncIterator[str]:
        async for event in agent(input):
            yield encoder.encode(event)

    return StreamingResponse(frames(), media_type=encoder.get_content_type())
