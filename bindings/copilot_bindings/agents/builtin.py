"""``BuiltInAgent``: a model, its tools and its instructions as one of the agents of a runtime.

The name and the options are those of the reference's class. It is a thin builder: Pydantic AI talks
to the model, calls the tools and makes the events (:mod:`.pydantic_agent`).
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

from ag_ui.core import RunAgentInput
from pydantic_ai import Agent, DeferredToolRequests, RunContext, Tool
from pydantic_ai.models import Model
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import UsageLimits

from sansio_copilot.agents import AgentContext, AgentEvent

from .mcp_servers import toolset_of
from .model_options import allowed, checked, model_of, overrides, settings_of
from .pydantic_agent import CAPABILITIES, stream
from .shared_state import STATE_TOOLS, RunDeps, state_text

_MODELS = 16
"""The most models that are kept, with their connections, after a page has asked for them."""


class BuiltInAgent:
    """An agent made of a model.

    It runs under asyncio and in threads; under trio it runs on an asyncio loop in a thread.

    :param model: "provider/model" or "provider:model", or a model of Pydantic AI. "openai" speaks
        chat completions, "openai-responses" OpenAI's other API. Keys and addresses are those of the
        environment: OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY and so on.
    :param prompt: the text that the model gets before the conversation; ``instructions`` is the
        same.
    :param tools: plain or async functions that run here, whose names, types and docstrings tell the
        model what they do; or tools of Pydantic AI. One whose first parameter is a ``RunContext``
        is given the run: ``ctx.deps.context`` is the :class:`~sansio_copilot.AgentContext`,
        ``ctx.deps.state`` the state that the page shares.
    :param tools_to_approve: the same for those that run only when the user has approved the call:
        the run ends with an interrupt, and goes on when it is resumed.
    :param mcp_servers: the servers whose tools the model may call: a URL, or a mapping with "type"
        "http" or "sse", "url" and "headers", or "stdio", "command", "args", "env" and "cwd"; or a
        toolset of Pydantic AI. A mapping may have "connect_timeout", the seconds for the connection
        and as many for the list of the tools (30), and "timeout", those for a call (300).
    :param max_steps: the requests to the model that a run may make.
    :param api_key: the provider's key; None for that of the environment.
    :param reasoning: whether the model is to think, or how much: True, False, "low", "medium",
        "high".
    :param shared_state: whether the model is told of the page's state, and may change it.
    :param overridable_properties: the options that a page may override by ``forwardedProps``:
        "model", "prompt", "temperature" and so on. None by default, as each costs money or safety.
    :param provider_options: settings of Pydantic AI, such as ``openai_reasoning_effort``.
    :param forward_system_messages: whether messages of that role reach the model, which a client
        may write.
    :param forward_developer_messages: likewise.
    :param include_usage: whether the last event of a run has the tokens that it took.
    :param description: the description of the agent in ``/info``.
    :param capabilities: the capabilities of the agent in ``/info``, category by category.
    :param headers: the headers in ``context.headers`` beside those of the client.
    :raises ValueError: for a model that cannot be used, an option of the wrong type, an unknown
        property or MCP server.
    :raises TypeError: for an object that is no tool.
    """

    loop = "asyncio"
    """The event loop that it needs."""

    def __init__(
        self,
        model: Model | str,
        *,
        prompt: str | None = None,
        instructions: str | None = None,
        tools: Iterable[Callable[..., Any] | Tool[Any]] = (),
        tools_to_approve: Iterable[Callable[..., Any]] = (),
        mcp_servers: Iterable[Any] = (),
        max_steps: int = 10,
        api_key: str | None = None,
        tool_choice: Any = None,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        stop_sequences: Iterable[str] | None = None,
        seed: int | None = None,
        max_retries: int | None = None,
        reasoning: bool | str | None = None,
        shared_state: bool = True,
        overridable_properties: Iterable[str] = (),
        provider_options: Mapping[str, Any] | None = None,
        forward_system_messages: bool = False,
        forward_developer_messages: bool = False,
        include_usage: bool = True,
        description: str = "",
        capabilities: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(f"max_steps is a whole number above 0, not {max_steps!r}")
        self._options: dict[str, Any] = checked(
            {
                "prompt": "\n\n".join(filter(None, (prompt, instructions))) or None,
                "tool_choice": tool_choice,
                "max_output_tokens": max_output_tokens,
                "temperature": temperature,
                "top_p": top_p,
                "top_k": top_k,
                "presence_penalty": presence_penalty,
                "frequency_penalty": frequency_penalty,
                "stop_sequences": None if stop_sequences is None else list(stop_sequences),
                "seed": seed,
                "max_retries": max_retries,
            }
        )
        more = {} if reasoning is None else {"thinking": reasoning}
        self._settings = {**more, **(provider_options or {})}
        self._model = model_of(model, api_key)
        # The models that pages ask for are kept, because each has connections.
        self._other_model = functools.lru_cache(_MODELS)(lambda name: model_of(name, api_key))
        self._limits = UsageLimits(request_limit=max_steps)
        self._overridable = allowed(overridable_properties)
        self._stream = functools.partial(
            stream,
            include_usage=include_usage,
            system_messages=forward_system_messages,
            developer_messages=forward_developer_messages,
        )
        self._has_state = shared_state
        own = [_tool(each) for each in tools]
        own += [_tool(each, requires_approval=True) for each in tools_to_approve]
        if shared_state:
            own += STATE_TOOLS
        self._own = {each.name for each in own}
        toolsets: list[AbstractToolset[RunDeps]] = [toolset_of(each) for each in mcp_servers]
        self._agent = Agent(
            self._model,
            output_type=[str, DeferredToolRequests],
            deps_type=RunDeps,
            tools=own,
            toolsets=toolsets,
        )
        self._agent.instructions(_told)
        self.description = description
        self.capabilities = {**CAPABILITIES, **(capabilities or {})}
        self.headers = dict(headers or {})

    async def run(
        self, input: RunAgentInput, context: AgentContext
    ) -> AsyncGenerator[AgentEvent, None]:
        """Have the model answer, and pass on the events."""
        options = self._options | overrides(input.forwarded_props, self._overridable)
        model = self._model
        if (name := options.pop("model", None)) is not None:
            model = self._other_model(name)
        prompt = options.pop("prompt", None)
        deps = _Deps(
            state=input.state if self._has_state else None,
            context=context,
            texts=[prompt or "", _context_text(input)],
        )
        run = {
            "deps": deps,
            "model": model,
            "model_settings": settings_of({**self._settings, **options}),
            "usage_limits": self._limits,
        }
        # A tool of the page with the name of one of the agent's own tools is left out, because two
        # tools with the same name would be refused.
        tools = [tool for tool in input.tools or () if tool.name not in self._own]
        given = input.model_copy(update={"tools": tools})
        async with contextlib.aclosing(self._stream(self._agent, given, context, run)) as events:
            async for event in events:
                yield event


class _Deps(RunDeps):
    """The dependencies of a run, and the texts of its instructions."""

    def __init__(self, state: Any, context: AgentContext, texts: list[str]) -> None:
        super().__init__(state, context)
        self.texts = texts


def _told(ctx: RunContext[Any]) -> str:
    """The instructions of a step, made for each because the step before may have changed the
    state."""
    return "\n\n".join(filter(None, (*ctx.deps.texts, state_text(ctx.deps.state))))


def _context_text(input: RunAgentInput) -> str:
    if not input.context:
        return ""
    each = [f"{entry.description}:\n{entry.value}" for entry in input.context]
    return "\n".join(["## Context from the application", *each])


def _tool(tool: Any, **options: Any) -> Tool[Any]:
    """Return a function as a tool.

    :raises TypeError: if it cannot be a tool.
    """
    if isinstance(tool, Tool):
        return tool
    if not callable(tool):
        raise TypeError(f"a tool is a function, not {json.dumps(repr(tool)[:80])}")
    return Tool(tool, **options)
