"""The state that a page shares with a model, and the two tools by which the model changes it.

Their names and arguments are those of the reference, whose pages may know them.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from ag_ui.core import EventType, StateDeltaEvent, StateSnapshotEvent
from pydantic_ai import ModelRetry, RunContext, Tool, ToolReturn

from sansio_copilot.agents import AgentContext
from sansio_copilot.events import StateFolder


@attrs.define
class RunDeps:
    """The dependencies of a run of ``BuiltInAgent``, which its tools see as ``ctx.deps``.

    :param state: the state that the page shares.
    :param context: the user and the request of the run.
    """

    state: Any
    context: AgentContext


async def send_state_snapshot(ctx: RunContext[RunDeps], snapshot: dict[str, Any]) -> ToolReturn:
    """Replace the entire application state with a new snapshot.

    :param snapshot: the complete new state.
    """
    ctx.deps.state = snapshot
    event = StateSnapshotEvent(type=EventType.STATE_SNAPSHOT, snapshot=snapshot)
    return ToolReturn(return_value={"success": True}, metadata=[event])


async def send_state_delta(ctx: RunContext[RunDeps], delta: list[dict[str, Any]]) -> ToolReturn:
    """Apply incremental updates to the application state by JSON Patch operations.

    :param delta: operations with op (add, replace or remove), path (a JSON pointer) and value.
    """
    operations: Any = delta
    event = StateDeltaEvent(type=EventType.STATE_DELTA, delta=operations)
    folder = StateFolder(ctx.deps.state)
    if not folder.feed(event.model_dump(mode="json", by_alias=True)):
        raise ModelRetry("the delta does not apply to the state, which is as it was")
    ctx.deps.state = folder.state
    return ToolReturn(return_value={"success": True}, metadata=[event])


STATE_TOOLS = (
    Tool(send_state_snapshot, name="AGUISendStateSnapshot", docstring_format="sphinx"),
    Tool(send_state_delta, name="AGUISendStateDelta", docstring_format="sphinx"),
)


def state_text(state: Any) -> str:
    """Return the text that tells the model the state; "" if there is no state."""
    if state is None or state == {}:
        return ""
    return (
        "## Application State\n"
        "This is state from the application that you can edit by calling AGUISendStateSnapshot or "
        f"AGUISendStateDelta.\n```json\n{json.dumps(state, indent=2, default=str)}\n```"
    )
