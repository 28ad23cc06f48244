"""Tests that run with the oldest and the newest supported AG-UI models; test_agui.py says which.

Run with AGUI_VERSION in the environment: the version that is expected to be used.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ag_ui
import pytest
from ag_ui.core import RunAgentInput

from sansio_copilot import CopilotRuntime
from sansio_copilot.testing import Client, run_input

VERSION = os.environ["AGUI_VERSION"]
RUN = "/api/copilotkit/agent/default/run"
PNG = {"value": "file-1", "mimeType": "image/png"}


class Agent:
    def run(self, input: RunAgentInput, context: Any) -> Iterator[Any]:
        self.input = input
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        yield {"type": "RUN_FINISHED", **ids}


def given(**fields: Any) -> tuple[RunAgentInput, dict[str, Any]]:
    """Return the input that an agent gets for a body, and the one that readers are told."""
    agent = Agent()
    body = run_input("t1", **fields)
    answer = Client(CopilotRuntime({"default": agent})).post(
        RUN, json={name: value for name, value in body.items() if value is not None}
    )
    assert answer.status == 200, answer.body
    echo: dict[str, Any] = answer.events()[0]["input"]
    return agent.input, echo


def said(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "u1", "role": "user", "content": [{"type": "text", "text": "see"}, *parts]}]


def test_the_expected_models_are_used() -> None:
    assert importlib.metadata.version("ag-ui-protocol") == VERSION
    is_old = Path(ag_ui.__path__[0]).is_relative_to(Path(__file__).parent)
    assert is_old == VERSION.startswith("0.")


def test_properties_may_be_absent() -> None:
    input, echo = given(forwardedProps=None)
    assert input.forwarded_props is None
    assert "forwardedProps" not in echo


@pytest.mark.parametrize("kind", ["image", "audio", "video", "document"])
def test_media_parts(kind: str) -> None:
    part = {"type": kind, "source": {"type": "data", "value": "AA", "mimeType": "a/b"}}
    input, echo = given(messages=said(part))
    assert echo["messages"] == said(part)
    assert input.messages[0].model_dump(by_alias=True)["content"] == said(part)[0]["content"]


def test_binary_parts_become_media_parts() -> None:
    part = {"type": "binary", "mimeType": "image/png", "url": "https://a.example/", "filename": "a"}
    input, echo = given(messages=said(part))
    assert echo["messages"] == said(part)
    (_, seen) = input.messages[0].model_dump(by_alias=True)["content"]
    assert seen == {
        "type": "image",
        "source": {"type": "url", "value": "https://a.example/", "mimeType": "image/png"},
        "metadata": {"filename": "a"},
    }


BINARY = {"type": "binary", "mimeType": "image/png", "id": "file-1", "filename": "a.png"}
IMAGE = {
    "type": "image",
    "source": {"type": "file", **PNG},
    "metadata": {"filename": "a.png"},
}


@pytest.mark.parametrize("parts", [[BINARY], [IMAGE], [IMAGE, BINARY], [BINARY, IMAGE]])
def test_a_file_that_its_provider_has(parts: list[dict[str, Any]]) -> None:
    """The reference to a file reaches the agent once, whatever part the models have for it."""
    input, echo = given(messages=said(*parts))
    assert echo["messages"] == said(*[BINARY] * len(parts)), "both generations of clients read it"
    (_, seen) = input.messages[0].model_dump(by_alias=True)["content"]
    assert seen == (BINARY if VERSION.startswith("0.") else IMAGE)


def test_parts_in_the_result_of_a_tool() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    parts = [{"type": "text", "text": "one "}, IMAGE, {"type": "text", "text": "two"}]
    messages = [
        {"id": "a1", "role": "assistant", "toolCalls": [call]},
        {"id": "r1", "role": "tool", "toolCallId": "c1", "content": parts},
    ]
    input, echo = given(messages=messages)
    assert echo["messages"][1]["content"] == "one two"
    seen = input.messages[1].model_dump(by_alias=True)["content"]
    assert seen == ("one two" if VERSION.startswith("0.") else parts)


def test_the_agent_is_given_the_values_that_were_sent() -> None:
    state = {"a": [1]}
    input, echo = given(state=state, forwardedProps={"b": [1]})
    assert input.state is not None
    assert input.forwarded_props is not None
    input.state["a"].append(2)
    input.forwarded_props["b"].append(2)
    assert (echo["state"], echo["forwardedProps"]) == (state, {"b": [1]})
