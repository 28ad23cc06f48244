"""What ``sansio-copilot demo`` serves: two agents that need no key, and a page to talk to them.

The page is one file without a build step, answered by an ``on_request`` hook: that is also how an
application adds a route of its own in front of the runtime's.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from importlib import resources

from ag_ui.core import RunAgentInput

from sansio_copilot import CopilotRuntime, Hooks, Reject, Response, text_agent
from sansio_copilot.hooks import HookContext

from .agent import DemoAgent, RunContext, Sleep, last_user_text

__all__ = ["DemoAgent", "build_runtime", "echo"]


@text_agent
def echo(input: RunAgentInput, context: RunContext) -> Iterator[str]:
    """Says what you said, a word at a time. It is a plain generator of text."""
    for word in re.findall(r"\S+\s*", last_user_text(input)) or ["You said nothing."]:
        if context.stop_requested:
            return
        yield word


echo.capabilities = {"identity": {"name": "Echo"}, "transport": {"streaming": True}}


def build_runtime(sleep: Sleep) -> CopilotRuntime:
    """The runtime of the demo.

    :param sleep: how the agent waits between two words; ``asyncio.sleep`` or ``trio.sleep``.
    """
    return CopilotRuntime(
        {"default": DemoAgent(sleep), "echo": echo},
        base_path="/api/copilotkit",
        hooks=Hooks(on_request=_page_hook()),
    )


def _page_hook() -> Callable[[HookContext], None]:
    """A hook that answers for the page, and leaves every other request to the runtime."""
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
    """Nothing but the page's own script and style may run, and it may call nobody but its server.

    The two are inline, so they are named by their hashes; 'unsafe-inline' would let in any other.
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
