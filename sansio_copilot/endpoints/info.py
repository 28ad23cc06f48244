"""GET /info: the features of this runtime and its agents."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from typing import Any

from pydantic import BaseModel

from .. import json_codec
from ..agents.attributes import check_description
from ..agents.protocols import Agent, describe_class, loop_of
from ..calls import Call
from ..errors import text_of
from ..events.input_shape import MAX_DEPTH
from ..events.json_values import measure
from ..http.messages import Response
from ..version import __version__
from .request_and_reply import EndpointInput, EndpointSteps, Reply

logger = logging.getLogger(__name__)


def info(given: EndpointInput) -> EndpointSteps:
    """Describe the runtime in the shape that CopilotKit's client reads."""
    runtime = given.runtime
    agents: dict[str, Any] = {}
    for name, agent in (yield from given.agents()).items():
        description = {
            "name": name,
            "description": _description(name, agent),
            "className": describe_class(agent),
        }
        capabilities = yield from _capabilities(name, agent)
        if capabilities:
            description["capabilities"] = capabilities
        agents[name] = description
    return Reply(
        Response.json(
            {
                "version": __version__,
                "agents": agents,
                "audioFileTranscriptionEnabled": runtime.transcription is not None,
                "mode": "sse",
                "threadEndpoints": _thread_endpoints(given, runtime.mode != "single-route"),
                **(
                    {
                        "singleRoute": {
                            "resourceOperations": True,
                            "threadEndpoints": _thread_endpoints(given, True),
                        }
                    }
                    if runtime.mode != "multi-route"
                    else {}
                ),
                "suggestions": True,
                **_a2ui(runtime.a2ui),
                "openGenerativeUIEnabled": runtime.open_generative_ui,
                "telemetryDisabled": True,
            }
        )
    )


def _thread_endpoints(given: EndpointInput, reachable: bool) -> dict[str, bool]:
    return {
        "list": reachable and given.may_list,
        "inspect": reachable,
        "mutations": reachable and given.runtime.thread_mutations,
        "realtimeMetadata": False,
    }


def _a2ui(a2ui: bool | tuple[str, ...]) -> dict[str, Any]:
    """Both forms of the flag, because older clients know the first alone."""
    if not a2ui:
        return {"a2uiEnabled": False}
    agents = {} if a2ui is True else {"agents": a2ui}
    return {"a2uiEnabled": True, "a2ui": {"enabled": True, **agents}}


def _description(name: str, agent: Agent) -> str:
    """The description of the agent; empty if it has none, or a wrong one."""
    try:
        description: str | None = getattr(agent, "description", None)
        check_description(f"agent {name!r}", description)
    except Exception as error:
        # The error ends here, because a property that fails must not hide the other agents.
        logger.warning("agent %r is shown without a description: %s", name, text_of(error))
        return ""
    return description or ""


def _capabilities(name: str, agent: Agent) -> Generator[Call, Any, Any]:
    """The capabilities that the agent reports; None if it reports none, or fails to."""
    try:
        capabilities = getattr(agent, "capabilities", None)
        if callable(capabilities):
            what = f"the capabilities of agent {name!r}"
            capabilities = yield Call(
                capabilities, name=what, loop=loop_of(agent), kind="capabilities of an agent"
            )
        if capabilities is None:
            return None
        if isinstance(capabilities, BaseModel):
            return capabilities.model_dump(mode="json", by_alias=True)
        if not isinstance(capabilities, Mapping):
            raise TypeError(f"expected a mapping, got {type(capabilities).__name__}")
        told = json_codec.decode(json_codec.encode(dict(capabilities)))
        if measure(told)[1] > MAX_DEPTH:
            # JSON that is nested so deeply can be read, but perhaps not written inside the reply.
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        return told
    except Exception as error:
        # The error ends here, because an agent that cannot answer must not hide the others.
        logger.warning("agent %r failed to report its capabilities", name, exc_info=error)
        return None
