"""granian. `granian --interface asgi granian_server:app` does the same."""

import asyncio

from granian import Granian

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " granian"):
        yield word
        await asyncio.sleep(0.2)


app = CopilotASGI(CopilotRuntime({"default": hello}))

if __name__ == "__main__":
    Granian("granian_server:app", port=4000, interface="asgi").serve()
