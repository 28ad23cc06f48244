"""FastAPI: a dependency of the application says who asks. `uvicorn fastapi_dependency:app`."""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, User, text_agent

ACCOUNTS = {"token-of-ann": "ann", "token-of-bob": "bob"}  # a table of yours


async def current_account(request: Request) -> str:
    """A dependency as any other, which may look at `request.state` and at cookies as well."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token not in ACCOUNTS:
        raise HTTPException(401, "log in first", {"www-authenticate": "Bearer"})
    request.state.account = ACCOUNTS[token]
    return ACCOUNTS[token]


async def identify_user(request):
    # The dependency's HTTPException is the answer, as it is on FastAPI's own routes.
    return User(await current_account(Request(request.scope)))


@text_agent
async def hello(input, context):
    # The agent cannot read `request.state`, because a run outlives its request; the data that it
    # needs goes into User(data=...).
    yield f"Hello {context.user.id}"


app = FastAPI()
# A mount is not reached by dependencies, so that the runtime asks for itself.
runtime = CopilotRuntime({"default": hello}, identify_user=identify_user, cors=False)
app.mount("/api/copilotkit", CopilotASGI(runtime))


@app.get("/me")
async def me(account: Annotated[str, Depends(current_account)]) -> str:
    return account
