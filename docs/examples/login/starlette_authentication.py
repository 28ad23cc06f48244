"""Starlette's AuthenticationMiddleware says who asks. `uvicorn starlette_authentication:app`."""

import base64

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from copilot_bindings.asgi import CopilotASGI
from sansio_copilot import CopilotRuntime, User, text_agent

PASSWORDS = {"ann": "secret-1", "bob": "secret-2"}  # hashes, in a table of yours


class BasicAuth(AuthenticationBackend):
    """The backend stands for the one that the application has already."""

    async def authenticate(self, conn):
        scheme, _, given = conn.headers.get("authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(given).decode().partition(":")
        except ValueError:
            return None
        if scheme.lower() != "basic" or PASSWORDS.get(name) != password:
            return None
        return AuthCredentials(["authenticated"]), SimpleUser(name)


def identify_user(request):
    user = request.scope["user"]
    if not user.is_authenticated:
        return None
    return User(user.display_name, data=request.scope["auth"].scopes)


@text_agent
async def hello(input, context):
    yield f"Hello {context.user.id}"


runtime = CopilotRuntime({"default": hello}, identify_user=identify_user, cors=False)
app = Starlette(
    routes=[Mount("/api/copilotkit", CopilotASGI(runtime))],
    middleware=[Middleware(AuthenticationMiddleware, backend=BasicAuth())],
)
