"""asyncio, with a server of our own: `serve` ends at SIGTERM and SIGINT, in order."""

import asyncio

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " asyncio"):
        yield word
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(serve(CopilotRuntime({"default": hello}), port=4000))
