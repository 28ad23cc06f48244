"""hypercorn, by its API: the workers of its command line are not told when it gets a signal."""

import asyncio

from hypercorn.asyncio import serve
from hypercorn.config import Config

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " hypercorn"):
        yield word
        await asyncio.sleep(0.2)


# hypercorn cancels what is not over after graceful_timeout.
app = CopilotASGI(CopilotRuntime({"default": hello}), grace_seconds=10)
config = Config.from_mapping(bind="127.0.0.1:4000", graceful_timeout=15)

if __name__ == "__main__":
    asyncio.run(serve(app, config))
