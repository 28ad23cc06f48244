"""Plain sockets, a thread for each connection: hooks and agents may block."""

from copilot_bindings.sockets import serve
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
def hello(input, context):
    yield from ("Hello", " from", " a thread")


if __name__ == "__main__":
    serve(CopilotRuntime({"default": hello}), port=4000)
