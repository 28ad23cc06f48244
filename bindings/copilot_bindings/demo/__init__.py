"""The demo that ``sansio-copilot demo`` serves: two agents that need no key, and a page for them.

The page is one file without a build step. An ``on_request`` hook answers with it, which is also how
an application adds a route of its own in front of the runtime's routes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import resources

from ag_ui.core import RunAgentInput

from sansio_copilot import CopilotRuntime, Hooks, Reject, Response, ThreadStore, text_agent
from sansio_copilot.agents import Agent
from sansio_copilot.hooks import HookContext

from ..static_pages import page_headers
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
    :param store: the store of its threads; one in memory if None.
    :param model: the agent that takes the place of the one that needs no key.
    """
    return CopilotRuntime(
        {"default": DemoAgent(sleep) if model is None else model, "echo": echo},
        base_path="/api/copilotkit",
        metrics_path="/metrics",
        hooks=Hooks(on_request=_page_hook()),
        store=store,
    )


def _page_hook() -> Callable[[HookContext], None]:
    """Make a hook that answers requests for the page, and leaves all others to the runtime."""
    html = resources.files(__package__).joinpath("page.html").read_bytes()
    page = Response(200, page_headers(html), html)

    def answer_page(context: HookContext) -> None:
        if context.request.method not in ("GET", "HEAD"):
            return
        if context.path in ("/", "/index.html"):
            raise Reject(page)
        if context.path == "/favicon.ico":
            raise Reject(Response(204))

    return answer_page
