"""Draws the state diagrams of docs/architecture.md from the tables in the code.

`python docs/diagrams.py` rewrites them; a test checks that nobody forgot to.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path
from types import NoneType

from copilot_bindings.asyncio.connection_waits import ENDS, Happening
from copilot_bindings.serving.responder_states import INTERRUPTIONS
from copilot_bindings.serving.run_home_states import TRANSITIONS as HOME_TRANSITIONS
from copilot_bindings.serving.run_home_states import HomeState
from sansio_copilot.exchange import ExchangeState
from sansio_copilot.exchange.machine import TRANSITIONS
from sansio_copilot.runs.states import CALLS, RunState
from sansio_copilot.runs.store_failures import REMEDIES

PAGE = Path(__file__).with_name("architecture.md")


def exchange_diagram() -> str:
    """The exchange's states, and the actions that lead from one to the next."""
    lines = ["stateDiagram-v2", "    [*] --> IDLE"]
    for state, actions in TRANSITIONS.items():
        targets: dict[ExchangeState, list[str]] = {}
        for action, target in actions.items():
            targets.setdefault(target, []).append(action.__name__)
        for target, names in targets.items():
            lines.append(f"    {state.name} --> {target.name}: {', '.join(names)}")
        if not actions:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines)


def home_diagram() -> str:
    """The states of a run's home, and what leads from one to the next."""
    lines = ["stateDiagram-v2", f"    [*] --> {HomeState.PULLING.name}"]
    for state, happenings in HOME_TRANSITIONS.items():
        for happening, target in happenings.items():
            lines.append(f"    {state.name} --> {target.name}: {happening}")
        if all(target is state for target in happenings.values()):
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines)


def waits_table() -> str:
    """Return a table of what ends each wait of a connection under asyncio, and its outcome."""
    waits = {want: ends for want, ends in ENDS.items() if want is not NoneType}
    rows = [
        "| | " + " | ".join(f"`{want.__name__}`" for want in waits) + " |",
        "| --- |" + " --- |" * len(waits),
    ]
    for happening in Happening:
        cells = (_outcome(ends[happening]) if happening in ends else "" for ends in waits.values())
        rows.append(f"| {happening.value} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def responder_table() -> str:
    """Return a table of what a responder under ASGI waits for, and of its interruptions."""
    rows = [
        "| state | it waits for | when the service ends | when the server cancels its task |",
        "| --- | --- | --- | --- |",
    ]
    for state, interruption in INTERRUPTIONS.items():
        ends = "the request is refused" if interruption.refuses else "the response is given up"
        again = "the action is performed again" if interruption.is_repeatable else "it is given up"
        rows.append(f"| {state.name} | {state.value} | {ends} | {again} |")
    return "\n".join(rows)


def _outcome(outcome: object) -> str:
    return outcome.name if isinstance(outcome, enum.Enum) else str(outcome)


def run_table() -> str:
    """Return a table of the states of a run in which each call is allowed."""
    states = list(RunState)
    rows = [
        "| call | " + " | ".join(state.name for state in states) + " |",
        "| --- |" + " --- |" * len(states),
    ]
    for call, allowed in CALLS.items():
        marks = ("yes" if state in allowed else "" for state in states)
        rows.append(f"| `{call}` | " + " | ".join(marks) + " |")
    return "\n".join(rows)


def failures_table() -> str:
    """Return a table of what a run does after each store call that has failed for good."""
    rows = [
        "| the call that failed | what the run does | once a close has failed |",
        "| --- | --- | --- |",
    ]
    for call, (first, last) in REMEDIES.items():
        rows.append(f"| {call.value} | {first.value} | {last.value} |")
    return "\n".join(rows)


def drawn(page: str) -> str:
    """``page`` with its diagrams drawn anew."""
    for name, content in (
        ("exchange", f"```mermaid\n{exchange_diagram()}\n```"),
        ("run", run_table()),
        ("failures", failures_table()),
        ("waits", waits_table()),
        ("responder", responder_table()),
        ("home", f"```mermaid\n{home_diagram()}\n```"),
    ):
        begin, end = f"<!-- {name}: made by diagrams.py -->", f"<!-- end of {name} -->"
        page = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, parts=(begin, content, end): "\n".join(parts),
            page,
            flags=re.DOTALL,
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
