"""A runtime in FastAPI, at the path that the runtime answers. `uvicorn fastapi_app:app`."""

import asyncio

from fastapi import FastAPI

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
async def hello(input, context):
    for word in ("Hello", " from", " FastAPI"):
        yield word
        await asyncio.sleep(0.2)


# CORS is the application's affair: the runtime's own default would undo its CORSMiddleware.
runtime = CopilotRuntime({"default": hello}, cors=False)
app = FastAPI()
app.mount("/api/copilotkit", CopilotASGI(runtime))


@app.get("/")
async def index() -> str:
    return "a page of FastAPI's"
