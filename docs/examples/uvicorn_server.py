"""uvicorn. `uvicorn uvicorn_server:app` does the same, and ends by the signal that it gets."""

import asyncio
import signal
import sys

import uvicorn

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " uvicorn"):
        yield word
        await asyncio.sleep(0.2)


app = CopilotASGI(CopilotRuntime({"default": hello}))

if __name__ == "__main__":
    # When uvicorn has ended, it raises the signal again for the handler that it found here.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(app, port=4000)
