"""hypercorn with trio, which leaves the signals to its caller."""

import functools
import signal

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " trio"):
        yield word
        await trio.sleep(0.2)


app = CopilotASGI(CopilotRuntime({"default": hello}), grace_seconds=10)
config = Config.from_mapping(bind="127.0.0.1:4000", graceful_timeout=15)


async def main():
    # The receiver opens before the server listens, because a signal may come as soon as it does.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await serve(app, config, shutdown_trigger=functools.partial(anext, signals))


if __name__ == "__main__":
    trio.run(main)
