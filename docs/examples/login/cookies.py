"""A signed cookie says who asks, and pages of other sites cannot use it (CSRF).

The application that the user has logged in to sets the cookie, by `cookie_of(name)`. The page is on
another origin here, so that the browser sends the cookie only with `credentials`:

    <CopilotKitProvider runtimeUrl="https://api.example.com/api/copilotkit" credentials="include">
"""

import asyncio
import hashlib
import hmac
import os
import time
from http.cookies import CookieError, SimpleCookie

from copilot_bindings.asyncio import serve
from sansio_copilot import CopilotRuntime, CorsPolicy, Hooks, Reject, Response, User, text_agent

KEY = os.environ["COOKIE_KEY"].encode()
PAGES = ("https://app.example.com",)
DAY = 24 * 3600


def signature(text):
    return hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()


def cookie_of(name, now):
    """Return the cookie that the application sends to somebody who has logged in."""
    value = f"{name}.{int(now) + DAY}"
    return f"session={value}.{signature(value)}; HttpOnly; Secure; SameSite=Lax; Path=/"


async def identify_user(request):
    try:
        cookie = SimpleCookie(request.headers.get("cookie", "")).get("session")
    except CookieError:
        return None
    value, _, signed = (cookie.value if cookie else "").rpartition(".")
    name, _, until = value.rpartition(".")
    if not hmac.compare_digest(signed.encode(), signature(value).encode()):
        return None
    return User(name) if time.time() < int(until) else None


async def no_other_site(context):
    """CORS keeps the pages of other sites from reading, and this from doing."""
    origin = context.request.headers.get("origin")
    if context.request.method not in ("GET", "HEAD") and origin not in PAGES:
        raise Reject(Response.json({"error": "no page of ours"}, 403))


@text_agent
async def hello(input, context):
    yield f"Hello {context.user.id}"


runtime = CopilotRuntime(
    {"default": hello},
    identify_user=identify_user,
    hooks=Hooks(on_request=no_other_site),
    cors=CorsPolicy(origin=PAGES, credentials=True),
)

if __name__ == "__main__":
    asyncio.run(serve(runtime, port=4000))
