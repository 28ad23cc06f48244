"""The demo that ``sansio-copilot demo`` serves: two agents that need no key, and a page for them.

The page is one file without a build step. An ``on_request`` hook answers with it, which is also how
an application adds a route of its own in front of the runtime's routes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from importlib import resources

from ag_ui.core import RunAgentInput

from sansio_copilot import CopilotRuntime, Hooks, Reject, Response, ThreadStore, text_agent
from sansio_copilot.agents import Agent
from sansio_copilot.hooks import HookContext

from .agent import DemoAgent, RunContext, Sleep, last_user_text

__all__ = ["DemoAgent", "build_runtime", "echo"]


# The docstring of this function is the agent's description, so it is written for users.
@text_agent
def echo(input: RunAgentInput, context: RunContext) -> Iterator[str]:
    """Says what you said, a word at a time. It is a plain generator of text."""
    for word in re.findall(r"\S+\s*", last_user_text(input)) or ["You said nothing."]:
        if context.stop_requested:
            return
        yield word


echo.capabilities = {"identity": {"name": "Echo"}, "transport": {"streaming": True}}


def build_runtime(
    sleep: Sleep, store: ThreadStore | None = None, model: Agent | None = None
) -> CopilotRuntime:
    """Make the runtime of the demo.

    :param sleep: waits for a number of seconds; ``asyncio.sleep`` or ``trio.sleep``.
    :param store: where its threads are; in memory if None.
    :param model: the agent to talk to in the place of the one that needs no key.
    """
    return CopilotRuntime(
        {"default": DemoAgent(sleep) if model is None else model, "echo": echo},
        base_path="/api/copilotkit",
        hooks=Hooks(on_request=_page_hook()),
        store=store,
    )


def _page_hook() -> Callable[[HookContext], None]:
    """Make a hook that answers requests for the page, and leaves all others to the runtime."""
    html = resources.files(__package__).joinpath("page.html").read_bytes()
    page = Response(
        200,
        {
            "content-type": "text/html; charset=utf-8",
            "cache-control": "no-store",
            "content-security-policy": _content_security_policy(html),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        },
        html,
    )

    def answer_page(context: HookContext) -> None:
        if context.request.method not in ("GET", "HEAD"):
            return
        if context.path in ("/", "/index.html"):
            raise Reject(page)
        if context.path == "/favicon.ico":
            raise Reject(Response(204))

    return answer_page


def _content_security_policy(html: bytes) -> str:
    """The policy of the page: only its own script and style, and only requests to its own server.

    The script and the style are inline, so the policy names their hashes; 'unsafe-inline' would
    allow any other inline script too.
    """

    def hashes(tag: bytes) -> str:
        contents = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(content).digest()) for content in contents)
        return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes(b'script')}",
            f"style-src {hashes(b'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
