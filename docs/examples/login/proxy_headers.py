"""A proxy has logged the user in (oauth2-proxy, Cloudflare Access, an ingress), and names them.

A header is a claim that anybody can make. So the proxy adds a secret, and has to replace both
headers in whatever its clients send. nginx, behind `auth_request`, does it by

    proxy_set_header X-Auth-Request-User $user;
    proxy_set_header X-Proxy-Secret "...";
"""

import asyncio
import hmac
import os

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime, ForwardHeaders, User, text_agent

SECRET = os.environ["PROXY_SECRET"]


def is_from_proxy(request):
    given = request.headers.get("x-proxy-secret", "")
    return hmac.compare_digest(given.encode(), SECRET.encode())


async def identify_user(request):
    names = request.headers.get_all("x-auth-request-user")
    # Two fields would mean that the proxy has added its own to one of a client's.
    if len(names) != 1 or not is_from_proxy(request):
        return None
    return User(names[0]) if names[0] else None


@text_agent
async def hello(input, context):
    yield f"Hello {context.user.id}"


runtime = CopilotRuntime(
    {"default": hello},
    identify_user=identify_user,
    # The secret is not passed on to agents.
    forward_headers=ForwardHeaders(deny=["x-proxy-secret"]),
)

if __name__ == "__main__":
    asyncio.run(serve(runtime, "127.0.0.1", 4000))
