"""``pydantic_ai_agent``: an agent of Pydantic AI as one of the agents of a runtime.

Pydantic AI runs the agent and makes the events, by its public adapter for AG-UI. This module adds
the steps between a browser and that adapter: the conversation is changed into one that the adapter
accepts, the state reaches the dependencies of its own run only, and a failure is logged as a whole
and told to the client in words that have no key, address or text of the model's provider.

It needs asyncio, and says so (``loop``): under trio it runs on an asyncio loop in a thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from ag_ui.core import (
    AssistantMessage,
    DeveloperMessage,
    EventType,
    Message,
    RunAgentInput,
    RunErrorEvent,
    SystemMessage,
    ToolMessage,
)
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import UserError
from pydantic_ai.ui import StateHandler
from pydantic_ai.ui.ag_ui import AGUIAdapter

from sansio_copilot.agents import AgentContext, AgentEvent, ResumeRefused, answers_to_act_on
from sansio_copilot.agents.model_faults import ModelFailed, ModelFault

from .model_errors import failure_of
from .tool_threads import IN_THREADS

logger = logging.getLogger(__name__)

CAPABILITIES: dict[str, Any] = {
    "tools": {"supported": True, "clientProvided": True},
    "transport": {"streaming": True},
    "humanInTheLoop": {"interrupts": True},
}
"""The capabilities that every such agent has."""

_INTERRUPT = "int-"
"""The beginning of an interrupt's id in Pydantic AI, behind which is the id of the tool call."""


class PydanticAIAgent:
    """An agent of Pydantic AI; :func:`pydantic_ai_agent` makes it."""

    loop = "asyncio"
    """The event loop that it needs."""

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        deps: Any = None,
        include_usage: bool = True,
        description: str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(agent, AbstractAgent):
            raise TypeError(f"pydantic_ai_agent takes an agent, not {type(agent).__name__}")
        self._agent = agent
        self._deps = deps
        self._include_usage = include_usage
        self.description = description or (agent.name or "")
        self.capabilities = {**CAPABILITIES, **(capabilities or {})}
        self.headers = dict(headers or {})

    async def run(
        self, input: RunAgentInput, context: AgentContext
    ) -> AsyncGenerator[AgentEvent, None]:
        """Have Pydantic AI run the agent, and pass on its events."""
        options = {"deps": await self._deps_of(context)}
        async with contextlib.aclosing(
            stream(self._agent, input, context, options, include_usage=self._include_usage)
        ) as events:
            async for event in events:
                yield event

    async def _deps_of(self, context: AgentContext) -> Any:
        """The dependencies of a run, which shares no state with the others."""
        deps = self._deps
        if isinstance(deps, StateHandler):
            return dataclasses.replace(deps)
        if callable(deps):
            deps = deps(context)
            if inspect.isawaitable(deps):
                deps = await deps
        return deps


def pydantic_ai_agent(agent: AbstractAgent[Any, Any], **options: Any) -> PydanticAIAgent:
    """Make an agent for a runtime of an agent of Pydantic AI.

    Its tools, output, history processors and capabilities are what they are without a runtime. The
    page's tools are added to each run; a tool that needs approval ends the run with an interrupt,
    if the agent's ``output_type`` has ``DeferredToolRequests``.

    :param agent: the agent, which serves all runs.
    :param deps: the dependencies of each run: an object, which is copied for each run if it has the
        state of one (``StateDeps``); or a plain or async function of the run's
        :class:`~sansio_copilot.AgentContext`, whose ``user`` and ``headers`` say who asks.
    :param include_usage: whether the last event of a run has the tokens that it took. It names the
        provider and the model.
    :param description: the description of the agent in ``/info``; by default its name.
    :param capabilities: categories of AG-UI's capabilities, in the place of :data:`CAPABILITIES`'
        own.
    :param headers: the headers in ``context.headers`` beside those of the client.
    :raises TypeError: for anything but an agent of Pydantic AI, or another argument.
    """
    return PydanticAIAgent(agent, **options)


async def stream(
    agent: AbstractAgent[Any, Any],
    input: RunAgentInput,
    context: AgentContext,
    options: Mapping[str, Any],
    *,
    include_usage: bool = True,
    system_messages: bool = False,
    developer_messages: bool = False,
) -> AsyncGenerator[AgentEvent, None]:
    """The events of one run of ``agent``.

    :param options: the other arguments of the run, such as ``deps``.
    :param system_messages: whether the client's messages of that role reach the model.
    :param developer_messages: likewise.
    """
    wanted = {SystemMessage: system_messages, DeveloperMessage: developer_messages}
    failure = _Failure(context.agent_id, input.run_id)
    given = input.model_copy()
    if not isinstance(options.get("deps"), StateHandler):
        given.state = {}
    try:
        given.resume = answers_to_act_on(input.resume or (), context.interrupts)
        given.messages = _acceptable(
            given, tuple(kind for kind, is_wanted in wanted.items() if not is_wanted)
        )
        adapter: AGUIAdapter[Any, Any] = AGUIAdapter(
            agent=agent,
            run_input=given,
            include_usage=include_usage,
            manage_system_prompt="client" if any(wanted.values()) else "server",
        )
        _check_answers(adapter)
    except ResumeRefused as error:
        yield failure.refusal(error)
        return

    async def watched() -> AsyncGenerator[Any, None]:
        """The events of the run; its error is logged, and told in other words."""
        try:
            async with contextlib.aclosing(_native(adapter, options)) as natives:
                async for native in natives:
                    yield native
        except Exception as error:
            raise failure.take(failure_of(error), error=error) from None

    agent_failed = ModelFailed(ModelFault.AGENT_FAILED)
    try:
        async with contextlib.aclosing(_closable(adapter.transform_stream(watched()))) as events:
            async for event in events:
                if isinstance(event, RunErrorEvent):
                    # Pydantic AI could not make events of what the run has, a tool's result that
                    # has no form in JSON for example, if the run itself has not failed. It tells
                    # the text of its exception.
                    told = failure.told or failure.take(agent_failed, seen=event.message)
                    event.code, event.message = told.code, str(told)
                yield event
    except Exception as error:
        # Pydantic AI could not make the last event, because the usage is no number of tokens for
        # example, and raises instead of telling it.
        told = failure.take(agent_failed, error=error)
        yield RunErrorEvent(type=EventType.RUN_ERROR, message=str(told), code=told.code)


class _Failure:
    """The failure of a run, which is logged as a whole and told in other words."""

    def __init__(self, agent_id: str, run_id: str) -> None:
        self._ids = (agent_id, run_id)
        self.told: ModelFailed | None = None

    def take(
        self, told: ModelFailed, *, error: Exception | None = None, seen: str = ""
    ) -> ModelFailed:
        """Log ``error``, or the words ``seen``; returns what is told, which is ``told``."""
        words = (*self._ids, told.code, f": {seen}" if seen else "")
        logger.error("agent %r failed in run %r (%s)%s", *words, exc_info=error)
        self.told = told
        return told

    def refusal(self, error: ResumeRefused) -> RunErrorEvent:
        """The only event of a run that is refused before it begins."""
        told = self.take(ModelFailed(ModelFault.AGENT_BAD_REQUEST), error=error)
        return RunErrorEvent(type=EventType.RUN_ERROR, message=f"{told}: {error}", code=told.code)


def _check_answers(adapter: AGUIAdapter[Any, Any]) -> None:
    """Check the answers before the run begins, so that the interrupts of wrong ones stay open.

    :raises ResumeRefused: for an answer that Pydantic AI does not understand.
    """
    try:
        _ = adapter.deferred_tool_results
    except UserError as error:
        raise ResumeRefused("an answer is not as its interrupt asks for it") from error


async def _native(
    adapter: AGUIAdapter[Any, Any], options: Mapping[str, Any]
) -> AsyncGenerator[Any, None]:
    # The call itself is in this block, because it raises errors for a wrong conversation.
    native_events = adapter.run_stream_native(**options, capabilities=[IN_THREADS])
    async with contextlib.aclosing(_closable(native_events)) as natives:
        async for native in natives:
            yield native


def _closable(events: AsyncIterator[Any]) -> Any:
    """Return ``events`` as the generator that they are, which their type does not say."""
    return events


def _acceptable(input: RunAgentInput, unwanted: tuple[type, ...]) -> list[Message]:
    """Return the conversation without the messages that no model accepts.

    Results without a call are left out, because a page may have lost the call with a run that was
    stopped. Results of calls that ``resume`` answers are left out too, because some pages put the
    answer into the conversation as well.
    """
    answered = {entry.interrupt_id.removeprefix(_INTERRUPT) for entry in input.resume or ()}
    called: set[str] = set()
    taken: list[Message] = []
    for message in input.messages:
        if isinstance(message, unwanted):
            continue
        if isinstance(message, AssistantMessage):
            called.update(call.id for call in message.tool_calls or ())
        elif isinstance(message, ToolMessage) and (
            message.tool_call_id in answered or message.tool_call_id not in called
        ):
            continue
        taken.append(message)
    return taken
