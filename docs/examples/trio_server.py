"""trio: the server is a task of yours, and so ends with your nursery."""

import functools

import trio

from copilot_bindings.trio import serve
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " trio"):
        yield word
        await trio.sleep(0.2)


async def main():
    runtime = CopilotRuntime({"default": hello})
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, runtime, port=4000))
        print(f"serving on port {server.port}")


if __name__ == "__main__":
    trio.run(main)
