"""The runtime is mounted in Starlette, at the path that it answers. `uvicorn starlette_app:app`."""

import asyncio

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " Starlette"):
        yield word
        await asyncio.sleep(0.2)


async def index(request):
    return PlainTextResponse("a page of Starlette's")


# CORS is the application's affair: the runtime's own default would undo its policy.
copilot = CopilotASGI(CopilotRuntime({"default": hello}, cors=False))
app = Starlette(routes=[Route("/", index), Mount("/api/copilotkit", copilot)])
