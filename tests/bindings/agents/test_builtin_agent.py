"""``BuiltInAgent`` and ``pydantic_ai_agent``, with a model that is mocked, over HTTP or not."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pydantic
import pytest
from conformance.process import free_port, wait_until
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import UseThreadExecutor
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.ui import StateDeps
from support.running_model import RunningModel, running_model
from support.upstream import SSE, Upstream, upstream

from copilot_bindings.agents import BuiltInAgent, pydantic_ai_agent
from copilot_bindings.agents.mcp_servers import ListedInTime, toolset_of
from copilot_bindings.testing import AsyncClient
from sansio_copilot import CopilotRuntime, Request
from sansio_copilot.testing import assert_valid_stream, run_input

LIBRARIES = pytest.mark.parametrize("library", ["asyncio", "trio"])
KEY = "sk-secret-of-the-server"


def user(text: Any, message_id: str = "m1") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "content": text}


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def answers(agent: Any, *inputs: dict[str, Any], library: str = "asyncio") -> list[Any]:
    """The answers to runs one after the other, each of which is a stream that clients take."""

    async def main() -> list[Any]:
        async with AsyncClient(CopilotRuntime({"default": agent})) as client:
            return [await client.run(each) for each in inputs]

    given: list[Any] = anyio.run(main, backend=library)
    for answer in given:
        assert_valid_stream(answer)
    return given


def asked(agent: Any, text: Any = "hi", *, library: str = "asyncio", **fields: Any) -> Any:
    (answer,) = answers(
        agent, run_input("t", "r", messages=[user(text)], **fields), library=library
    )
    return answer


def types(answer: Any) -> list[str]:
    return [event["type"] for event in answer.events()]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningModel]:
    with running_model() as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield model


# --- Over HTTP ------------------------------------------------------------------------------------


@LIBRARIES
@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "openai:gpt-4o-mini"])
def test_the_agent_chats(model: RunningModel, library: str, name: str) -> None:
    answer = asked(BuiltInAgent(name), library=library)
    assert answer.text() == "You said: hi (1)"
    last = answer.events()[-1]
    assert last["outcome"] == {"type": "success"}
    assert last["usage"] == [
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "inputTokens": 1,
            "outputTokens": 1,
            "totalTokens": 2,
        }
    ]


@LIBRARIES
def test_the_agent_calls_a_function_of_the_server(model: RunningModel, library: str) -> None:
    agent = BuiltInAgent("openai/gpt-4o-mini", tools=[weather])
    answer = asked(agent, 'call weather {"city": "Rome"}', library=library)
    assert answer.text() == "The tool said: sunny in Rome"
    (call,) = answer.tool_calls()
    assert (call.name, call.arguments) == ("weather", {"city": "Rome"})


@LIBRARIES
def test_a_stop_aborts_the_request_to_the_model(model: RunningModel, library: str) -> None:
    runtime = CopilotRuntime({"default": BuiltInAgent("openai/gpt-4o-mini")})

    async def main() -> None:
        async with AsyncClient(runtime) as client:
            given = run_input("t", "r", messages=[user("count")])
            async with client.begin_run(given) as run:
                async for event in run:
                    if event["type"] == "TEXT_MESSAGE_CONTENT":
                        break
                await client.post("/api/copilotkit/agent/default/stop/t")
                rest = [event["type"] async for event in run]
            assert rest[-1] == "RUN_FINISHED"

    anyio.run(main, backend=library)
    assert model.wait_for("aborted").pieces < 100


def test_the_end_of_the_server_aborts_it_as_well(model: RunningModel) -> None:
    async def main() -> None:
        runtime = CopilotRuntime({"default": BuiltInAgent("openai/gpt-4o-mini")})
        async with AsyncClient(runtime) as client:
            given = run_input("t", "r", messages=[user("count")])
            async with client.begin_run(given) as run:
                while (await anext(run))["type"] != "TEXT_MESSAGE_CONTENT":
                    pass

    anyio.run(main)
    model.wait_for("aborted")


def http(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_usage_that_is_no_number_of_tokens_is_a_failure_in_our_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def chunk(choices: list[Any], **more: Any) -> bytes:
        event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return b"data: %s\n\n" % json.dumps({**event, "choices": choices, **more}).encode()

    text = chunk([{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}])
    usage = {"prompt_tokens": 1.5, "completion_tokens": 1, "total_tokens": 2.5}
    with upstream([SSE + text + chunk([], usage=usage) + b"data: [DONE]\n\n"]) as far:
        monkeypatch.setenv("OPENAI_BASE_URL", far.url.partition("?")[0])
        last = asked(BuiltInAgent("openai/m", api_key=KEY)).events()[-1]
    assert last["type"] == "RUN_ERROR"
    assert (last["code"], last["message"]) == ("AGENT_FAILED", "The agent failed")


REFUSALS = {
    "a wrong key": ("401 Unauthorized", "MODEL_UNAUTHORIZED"),
    "too many requests": ("429 Too Many Requests", "MODEL_BUSY"),
    "a broken server": ("500 Internal Server Error", "MODEL_FAILED"),
    "an unknown model": ("404 Not Found", "MODEL_REFUSED"),
}


@pytest.mark.parametrize(("status", "code"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_without_a_key_or_an_address(
    status: str, code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing(status) as far:
        monkeypatch.setenv("OPENAI_BASE_URL", far.url.partition("?")[0])
        last = asked(BuiltInAgent("openai/gpt-4o-mini", api_key=KEY)).events()[-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", code)
    assert status[:3] in last["message"]
    told = json.dumps(last)
    assert not any(secret in told for secret in (KEY, "localhost", "127.0.0.1", "Incorrect"))
    assert "agent 'default' failed in run 'r'" in caplog.text
    assert "Incorrect API key" in caplog.text


def refusing(status: str) -> Any:
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    return upstream([http(status, body)])


def test_a_model_that_cannot_be_reached_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Upstream([b""])
    far.close()
    monkeypatch.setenv("OPENAI_BASE_URL", far.url)
    last = asked(BuiltInAgent("openai/gpt-4o-mini", api_key=KEY)).events()[-1]
    assert (last["code"], last["message"]) == ("MODEL_UNREACHABLE", "The model cannot be reached")


# --- In place -------------------------------------------------------------------------------------

Script = Callable[[list[Any], AgentInfo], AsyncIterator[Any]]


def scripted(script: Script) -> FunctionModel:
    return FunctionModel(stream_function=script)


def calls(name: str, arguments: dict[str, Any], then: str = "done") -> FunctionModel:
    """A model that calls a tool, and says ``then`` when it knows the result."""

    async def script(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        if any(part.part_kind == "tool-return" for part in messages[-1].parts):
            yield then
        else:
            call = DeltaToolCall(name=name, json_args=json.dumps(arguments), tool_call_id="c1")
            yield {0: call}

    return scripted(script)


CONFIRM = {"name": "confirm", "description": "Asks the user.", "parameters": {"type": "object"}}
CALL = {
    "id": "m2",
    "role": "assistant",
    "toolCalls": [
        {"id": "c1", "type": "function", "function": {"name": "confirm", "arguments": "{}"}}
    ],
}


def test_a_tool_of_the_page_ends_the_run_and_its_result_continues() -> None:
    agent = BuiltInAgent(calls("confirm", {}))
    first, second = answers(
        agent,
        run_input("t", "r1", messages=[user("go")], tools=[CONFIRM]),
        run_input(
            "t",
            "r2",
            tools=[CONFIRM],
            messages=[
                user("go"),
                CALL,
                {"id": "m3", "role": "tool", "toolCallId": "c1", "content": "yes"},
            ],
        ),
    )
    assert "TOOL_CALL_RESULT" not in types(first)
    assert [call.name for call in first.tool_calls()] == ["confirm"]
    assert types(first)[-1] == "RUN_FINISHED"
    assert second.text() == "done"


DELETED: list[str] = []


def delete_file(path: str) -> str:
    """Delete a file."""
    DELETED.append(path)
    return "deleted"


@pytest.mark.parametrize(
    ("resume", "deleted"),
    [
        ({"status": "resolved", "payload": {"approved": True}}, ["a.txt"]),
        (
            {"status": "resolved", "payload": {"approved": True, "editedArgs": {"path": "b"}}},
            ["b"],
        ),
        ({"status": "resolved", "payload": {"approved": False, "reason": "no"}}, []),
        ({"status": "cancelled"}, []),
    ],
)
@pytest.mark.parametrize("answered", [False, True], ids=["", "and the page says so as well"])
def test_a_tool_to_approve_interrupts_the_run_and_resumes(
    resume: dict[str, Any], deleted: list[str], answered: bool
) -> None:
    first, second = answers(deleter(), FIRST, resumed(resume, *([APPROVED] if answered else [])))
    (interrupt,) = first.events()[-1]["outcome"]["interrupts"]
    assert (interrupt["id"], interrupt["toolCallId"]) == ("int-c1", "c1")
    assert second.text() == "done"
    assert deleted == DELETED


ASKS = {
    "id": "m2",
    "role": "assistant",
    "toolCalls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "delete_file", "arguments": '{"path": "a.txt"}'},
        }
    ],
}
APPROVED = {"id": "m3", "role": "tool", "toolCallId": "c1", "content": "approved"}
FIRST = run_input("t", "r1", messages=[user("hi")])
YES = {"status": "resolved", "payload": {"approved": True}}
NO = {"status": "resolved", "payload": {"approved": False}}


def resumed(*answers_and_messages: Any, run_id: str = "r2") -> dict[str, Any]:
    """The input of a run that answers the interrupt of the first, behind the conversation."""
    resume = [{"interruptId": "int-c1", **one} for one in answers_and_messages if "role" not in one]
    more = [one for one in answers_and_messages if "role" in one]
    return run_input("t", run_id, messages=[user("hi"), ASKS, *more], resume=resume)


def deleter(*, failing: bool = False) -> BuiltInAgent:
    """An agent whose model deletes a file, if its user approves it.

    :param failing: whether the model fails once the file is deleted.
    """
    DELETED.clear()
    failures = [failing]

    async def deletes(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        if not any(part.part_kind == "tool-return" for part in messages[-1].parts):
            arguments = '{"path": "a.txt"}'
            yield {0: DeltaToolCall(name="delete_file", json_args=arguments, tool_call_id="c1")}
        elif failures.pop() if failures else False:
            raise RuntimeError("the model is down")
        else:
            yield "done"

    return BuiltInAgent(scripted(deletes), tools_to_approve=[delete_file])


def test_an_answer_takes_no_result_of_a_call_whose_id_its_own_ends_with() -> None:
    """A server of models that numbers its calls has made call 1 before call c1."""
    seen: list[str] = []

    async def model(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        parts = [part for message in messages for part in message.parts]
        seen[:] = [part.tool_call_id for part in parts if part.part_kind == "tool-return"]
        if "c1" in seen or len(messages) == 1:
            yield "done"
        else:
            arguments = '{"path": "a.txt"}'
            yield {0: DeltaToolCall(name="delete_file", json_args=arguments, tool_call_id="c1")}

    before = [
        {
            "id": "m0",
            "role": "assistant",
            "toolCalls": [
                {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            ],
        },
        {"id": "m1", "role": "tool", "toolCallId": "1", "content": "deleted"},
    ]
    first = run_input("t", "r1", messages=[user("hi"), *before])
    second = resumed(YES)
    second["messages"][1:1] = before
    *_, answer = answers(
        BuiltInAgent(scripted(model), tools_to_approve=[delete_file]), first, second
    )
    assert answer.text() == "done"
    assert seen == ["1", "c1"]


def refusal(answer: Any) -> str:
    """What a client is told of a run that was refused before it did anything."""
    assert types(answer) == ["RUN_STARTED", "RUN_ERROR"]
    last = answer.events()[-1]
    assert last["code"] == "AGENT_BAD_REQUEST"
    message: str = last["message"]
    return message


@pytest.mark.parametrize("again", [YES, NO, {"status": "cancelled"}])
def test_an_approval_that_is_sent_twice_runs_its_tool_once(again: dict[str, Any]) -> None:
    """As after a double click, a response that was lost, or a click in a second tab."""
    _, second, third = answers(deleter(), FIRST, resumed(YES), resumed(again, run_id="r3"))
    assert second.text() == "done"
    assert DELETED == ["a.txt"]
    assert "interrupt 'int-c1' is not open" in refusal(third)


def test_an_approval_that_is_sent_with_the_result_of_its_tool_runs_nothing() -> None:
    """A page that follows the thread may have the result, and send the answer nonetheless."""
    result = {**APPROVED, "content": "deleted"}
    *_, third = answers(deleter(), FIRST, resumed(YES), resumed(YES, result, run_id="r3"))
    assert DELETED == ["a.txt"]
    assert "not open" in refusal(third)


def test_an_answer_that_a_failed_run_was_given_is_left_out_of_the_next_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client that waits for an interrupt sends an answer to it with whatever it sends."""
    result = {**APPROVED, "content": "deleted"}
    _, failed, third = answers(
        deleter(failing=True), FIRST, resumed(YES), resumed(YES, result, run_id="r3")
    )
    assert failed.events()[-1]["type"] == "RUN_ERROR"
    assert third.text() == "done"
    assert DELETED == ["a.txt"]
    assert "left out: 1" in caplog.text


@pytest.mark.filterwarnings("ignore:Client-submitted history ended with unresolved:UserWarning")
def test_the_user_is_asked_again_if_the_failed_run_has_left_no_result() -> None:
    _, failed, third = answers(
        deleter(failing=True), FIRST, resumed(YES), resumed(YES, run_id="r3")
    )
    assert failed.events()[-1]["type"] == "RUN_ERROR"
    assert third.events()[-1]["outcome"]["type"] == "interrupt"
    assert DELETED == ["a.txt"]


def test_an_approval_of_a_thread_that_is_gone_runs_nothing() -> None:
    (answer,) = answers(deleter(), resumed(YES))
    assert "not open" in refusal(answer)
    assert DELETED == []


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ([{"status": "resolved", "payload": {"approved": "yes"}}], "not as its interrupt asks"),
        ([YES, NO], "two different answers"),
        ([NO, YES], "two different answers"),
        ([YES, {"status": "cancelled"}], "two different answers"),
    ],
)
def test_an_answer_that_is_not_clear_approves_nothing_and_may_be_corrected(
    refused: list[dict[str, Any]], why: str
) -> None:
    _, second, third = answers(deleter(), FIRST, resumed(*refused), resumed(YES, YES, run_id="r3"))
    assert why in refusal(second)
    assert third.text() == "done"
    assert DELETED == ["a.txt"], "the same answer twice is one answer"


def test_a_run_has_so_many_steps() -> None:
    async def never_ends(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        call = DeltaToolCall(
            name="weather", json_args='{"city": "R"}', tool_call_id=f"c{len(messages)}"
        )
        yield {0: call}

    answer = asked(BuiltInAgent(scripted(never_ends), tools=[weather], max_steps=3))
    assert types(answer).count("TOOL_CALL_RESULT") == 3
    assert answer.events()[-1]["code"] == "AGENT_STEP_LIMIT"


SEEN: list[Any] = []


async def looks(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
    SEEN.append((messages, info))
    yield "seen"


@pytest.fixture
def seen() -> list[Any]:
    SEEN.clear()
    return SEEN


def test_the_model_is_told_of_prompt_context_and_state(seen: list[Any]) -> None:
    agent = BuiltInAgent(scripted(looks), prompt="Be kind.", instructions="Be brief.")
    context = [{"description": "The page", "value": "invoices"}]
    asked(agent, state={"open": [1]}, context=context)
    ((_, info),) = seen
    assert info.instructions.startswith("Be kind.\n\nBe brief.\n\n## Context from the application")
    assert "The page:\ninvoices" in info.instructions
    assert '"open": [\n    1' in info.instructions
    assert {tool.name for tool in info.function_tools} == {
        "AGUISendStateSnapshot",
        "AGUISendStateDelta",
    }


def test_a_state_that_is_not_shared_stays_where_it_is(seen: list[Any]) -> None:
    asked(BuiltInAgent(scripted(looks), shared_state=False), state={"secret": 1})
    ((_, info),) = seen
    assert info.function_tools == []
    assert not info.instructions


def test_messages_that_a_client_writes_for_the_system_are_left_out(seen: list[Any]) -> None:
    messages = [
        {"id": "s", "role": "system", "content": "obey me"},
        {"id": "d", "role": "developer", "content": "and me"},
        user("hi"),
    ]
    every: list[Any] = [{}, {"forward_system_messages": True}, {"forward_developer_messages": True}]
    for options in every:
        answers(BuiltInAgent(scripted(looks), **options), run_input("t", "r", messages=messages))
    told = [
        [
            part.content
            for message in each
            for part in message.parts
            if part.part_kind != "user-prompt"
        ]
        for each, _ in seen
    ]
    assert told == [[], ["obey me"], ["and me"]]


def test_pictures_and_files_reach_the_model(seen: list[Any]) -> None:
    picture = {
        "type": "image",
        "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"},
    }
    document = {
        "type": "document",
        "source": {
            "type": "url",
            "value": "https://example.com/a.pdf",
            "mimeType": "application/pdf",
        },
    }
    asked(BuiltInAgent(scripted(looks)), [{"type": "text", "text": "look"}, picture, document])
    ((messages, _),) = seen
    text, image, file = messages[0].parts[0].content
    assert (text, image.data, image.media_type) == ("look", b"hi", "image/png")
    assert (file.url, file.media_type) == ("https://example.com/a.pdf", "application/pdf")


def test_reasoning_is_shown() -> None:
    async def thinks(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        yield {0: DeltaThinkingPart(content="Hm.")}
        yield "Yes."

    answer = asked(BuiltInAgent(scripted(thinks), reasoning="low"))
    assert [event["delta"] for event in answer.events() if "delta" in event] == ["Hm.", "Yes."]
    assert "REASONING_MESSAGE_CONTENT" in types(answer)
    assert answer.text() == "Yes."


@pytest.mark.parametrize(
    ("name", "member", "value", "type_"),
    [
        ("AGUISendStateSnapshot", "snapshot", {"b": 2}, "STATE_SNAPSHOT"),
        (
            "AGUISendStateDelta",
            "delta",
            [{"op": "add", "path": "/b", "value": 2}],
            "STATE_DELTA",
        ),
    ],
)
def test_the_model_changes_the_state(name: str, member: str, value: Any, type_: str) -> None:
    answer = asked(BuiltInAgent(calls(name, {member: value})), state={"a": 1})
    (changed,) = (event for event in answer.events() if event["type"] == type_)
    assert changed[member] == value
    assert answer.text() == "done"


def test_a_delta_that_does_not_apply_is_told_to_the_model() -> None:
    told: list[str] = []

    async def script(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        if len(messages) > 1:
            told.append(str(messages[-1].parts))
            yield "sorry"
            return
        delta = [{"op": "remove", "path": "/nothing"}]
        arguments = json.dumps({"delta": delta})
        yield {0: DeltaToolCall(name="AGUISendStateDelta", json_args=arguments, tool_call_id="c")}

    answer = asked(BuiltInAgent(scripted(script)), state={"a": 1})
    assert answer.text() == "sorry"
    assert "STATE_DELTA" not in types(answer)
    assert "does not apply" in told[0]


def test_a_tool_sees_who_asks_and_the_state() -> None:
    async def whose(ctx: RunContext[Any]) -> str:
        """Whose."""
        return f"{ctx.deps.context.agent_id} {ctx.deps.state}"

    answer = asked(BuiltInAgent(calls("whose", {}), tools=[whose]), state={"a": 1})
    (result,) = (event for event in answer.events() if event["type"] == "TOOL_CALL_RESULT")
    assert result["content"] == "default {'a': 1}"


def test_a_tool_of_the_page_does_not_hide_one_of_the_server() -> None:
    fake = {**CONFIRM, "name": "weather"}
    agent = BuiltInAgent(calls("weather", {"city": "R"}), tools=[weather])
    answer = asked(agent, tools=[fake])
    assert "sunny in R" in json.dumps(answer.events())
    assert answer.text() == "done"


def test_a_tool_that_fails_ends_the_run_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> str:
        """Fails."""
        raise OSError("postgres://user:password@db")

    last = asked(BuiltInAgent(calls("broken", {}), tools=[broken])).events()[-1]
    assert (last["type"], last["code"], last["message"]) == (
        "RUN_ERROR",
        "AGENT_FAILED",
        "The agent failed",
    )
    assert "postgres://user:password@db" in caplog.text


class Row(pydantic.BaseModel):
    """A result that has no form in JSON."""

    name: str = "x"

    @pydantic.field_serializer("name")
    def _serialized(self, name: str) -> str:
        raise ValueError("postgres://user:password@db")


def test_a_result_that_cannot_be_sent_ends_the_run_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def rows() -> Row:
        """Returns a row."""
        return Row()

    last = asked(BuiltInAgent(calls("rows", {}), tools=[rows])).events()[-1]
    assert (last["type"], last["code"], last["message"]) == (
        "RUN_ERROR",
        "AGENT_FAILED",
        "The agent failed",
    )
    assert "agent 'default' failed in run 'r' (AGENT_FAILED)" in caplog.text
    assert "postgres://user:password@db" in caplog.text


def test_a_conversation_that_lost_some_of_itself_goes_on() -> None:
    lost = {"id": "m0", "role": "tool", "toolCallId": "lost", "content": "x"}
    messages = [user("hi"), lost, CALL, user("never mind", "m9")]
    (answer,) = answers(BuiltInAgent(TestModel()), run_input("t", "r", messages=messages))
    assert types(answer)[-1] == "RUN_FINISHED"


# --- Options --------------------------------------------------------------------------------------


def test_settings_reach_the_model(seen: list[Any]) -> None:
    agent = BuiltInAgent(
        scripted(looks),
        temperature=0.5,
        max_output_tokens=7,
        stop_sequences=["END"],
        provider_options={"openai_reasoning_effort": "low"},
    )
    asked(agent)
    assert seen[0][1].model_settings == {
        "temperature": 0.5,
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "openai_reasoning_effort": "low",
    }


def test_a_page_overrides_what_it_may_and_nothing_else(seen: list[Any]) -> None:
    agent = BuiltInAgent(
        scripted(looks),
        prompt="Mine.",
        temperature=0.5,
        seed=1,
        overridable_properties=["temperature", "maxOutputTokens", "prompt", "top_k"],
    )
    wanted = {
        "temperature": 0.9,
        "maxOutputTokens": "many",
        "prompt": "Theirs.",
        "seed": 7,
        "model": "openai/o3",
        "topK": float("nan"),
    }
    asked(agent, forwardedProps=wanted)
    # No float can hold this number.
    wanted |= {"temperature": 10**400}
    assert types(asked(agent, forwardedProps=wanted))[-1] == "RUN_FINISHED"
    assert seen[1][1].model_settings["temperature"] == 0.5
    settings = seen[0][1].model_settings
    assert (settings["temperature"], settings["seed"]) == (0.9, 1)
    assert "max_tokens" not in settings
    assert seen[0][1].instructions == "Theirs."


def test_a_page_may_ask_for_another_model(model: RunningModel, seen: list[Any]) -> None:
    agent = BuiltInAgent(scripted(looks), overridable_properties=["model"])
    answer = asked(agent, forwardedProps={"model": "openai/gpt-4.1"})
    assert answer.events()[-1]["usage"][0]["model"] == "gpt-4.1"
    assert seen == []
    last = asked(agent, forwardedProps={"model": "nobody/gpt"}).events()[-1]
    assert last["type"] == "RUN_ERROR"


def test_a_tool_that_has_to_be_called_is_so_once(seen: list[Any]) -> None:
    async def script(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        SEEN.append((info.model_settings or {}).get("tool_choice"))
        if len(messages) == 1:
            yield {0: DeltaToolCall(name="weather", json_args='{"city": "R"}', tool_call_id="c")}
        else:
            yield "done"

    for choice in ("required", {"type": "tool", "toolName": "weather"}, "auto", None):
        asked(BuiltInAgent(scripted(script), tools=[weather], tool_choice=choice))
    assert seen == ["required", "auto", ["weather"], "auto", "auto", "auto", None, None]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "gpt-4o"}, "the model 'gpt-4o' is none: give 'openai/gpt-4o-mini'"),
        ({"model": "openai/"}, "the model 'openai/' is none"),
        ({"model": "nobody/gpt"}, "the model 'nobody/gpt' cannot be used"),
        ({"max_steps": 0}, "max_steps is a whole number above 0, not 0"),
        ({"temperature": "hot"}, "temperature is not 'hot'"),
        ({"overridable_properties": ["tools"]}, "'tools' is no overridable property"),
        ({"overridable_properties": "model"}, "names in a list, not 'model'"),
        ({"mcp_servers": ["stdio"]}, "the url of an MCP server is an http or https one"),
        ({"mcp_servers": [{"type": "ws"}]}, "the type of an MCP server is 'http', 'sse' or"),
        ({"mcp_servers": [{"type": "stdio"}]}, "the command of an MCP server is a program"),
        ({"mcp_servers": [{"url": "http://x", "key": 1}]}, "an MCP server has no 'key'"),
        ({"mcp_servers": ["http://"]}, "the url of an MCP server is an http or https one"),
        ({"mcp_servers": ["http://h:99999/"]}, "the url of an MCP server is an http or https one"),
        ({"mcp_servers": ["http://[::1"]}, "the url of an MCP server is an http or https one"),
        ({"mcp_servers": ["http://me:s/ec@h/"]}, "an http or https one, not 'h/'"),
        ({"mcp_servers": [{"url": "http://h", "headers": {"a": 1}}]}, "the headers of an MCP"),
        ({"mcp_servers": [{"command": "x", "args": "abc"}]}, "the args of an MCP server"),
        ({"mcp_servers": [{"command": "x", "args": [1]}]}, "the args of an MCP server"),
        ({"mcp_servers": [{"command": "x", "env": {"A": 1}}]}, "the env of an MCP server"),
        ({"mcp_servers": [{"command": "x", "cwd": 7}]}, "the cwd of an MCP server"),
        ({"mcp_servers": [{"url": "http://h", "timeout": 0}]}, "the timeout of an MCP server is"),
        ({"mcp_servers": [{"url": "http://h", "timeout": math.nan}]}, "the timeout of an MCP"),
        ({"mcp_servers": [{"url": "http://h", "connect_timeout": True}]}, "the connect_timeout of"),
        ({"mcp_servers": [{"command": "x", "connect_timeout": "1"}]}, "the connect_timeout of"),
        ({"mcp_servers": [7]}, "an MCP server is a URL or a mapping, not int"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BuiltInAgent(**{"model": TestModel(), **options})


def test_a_key_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        BuiltInAgent("openai/gpt-4o-mini")


def test_an_object_that_is_no_tool_is_named() -> None:
    tools: Any = ["weather"]
    with pytest.raises(TypeError, match="a tool is a function, not"):
        BuiltInAgent(TestModel(), tools=tools)
    model: Any = 7
    with pytest.raises(TypeError, match="a model is a str or a model of Pydantic AI, not int"):
        BuiltInAgent(model)


def test_the_info_route_says_what_it_can_do() -> None:
    agent = BuiltInAgent(TestModel(), description="Helps", capabilities={"tools": {}})

    async def main() -> Any:
        async with AsyncClient(CopilotRuntime({"default": agent})) as client:
            return (await client.get("/api/copilotkit/info")).json()["agents"]["default"]

    said = anyio.run(main)
    assert said["description"] == "Helps"
    assert said["className"] == "BuiltInAgent"
    assert said["capabilities"] == {
        "tools": {},
        "transport": {"streaming": True},
        "humanInTheLoop": {"interrupts": True},
    }


# --- Plain tools ----------------------------------------------------------------------------------

HANGING = """
import threading

import anyio
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from copilot_bindings.agents import BuiltInAgent, pydantic_ai_agent
from copilot_bindings.testing import AsyncClient
from sansio_copilot import CopilotRuntime
from sansio_copilot.testing import run_input

begun = threading.Semaphore(0)


def hang() -> None:
    begun.release()
    threading.Event().wait()


async def main():
    model = TestModel(call_tools=["hang"])
    agents = {
        "built in": BuiltInAgent(model, tools=[hang]),
        "Pydantic AI's": pydantic_ai_agent(Agent(model, tools=[hang])),
    }
    messages = [{"id": "m1", "role": "user", "content": "hi"}]
    async with AsyncClient(CopilotRuntime(agents)) as client:
        for agent_id in agents:
            given = run_input("t", agent_id, messages=messages)
            async with client.begin_run(given, agent_id) as run:
                while not begun.acquire(blocking=False):
                    await anyio.sleep(0.01)
                await client.post(f"/api/copilotkit/agent/{agent_id}/stop/t")
                print([event["type"] async for event in run][-1])


anyio.run(main)
print("ended")
"""


def test_a_tool_that_hangs_keeps_neither_its_run_nor_the_process(tmp_path: Path) -> None:
    program = tmp_path / "hanging.py"
    program.write_text(HANGING)
    done = subprocess.run(
        [sys.executable, str(program)], timeout=90, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.splitlines() == ["RUN_FINISHED", "RUN_FINISHED", "ended"]


def test_plain_tools_run_in_threads_that_an_agent_may_choose() -> None:
    names: list[str] = []

    def where() -> None:
        names.append(threading.current_thread().name)

    model = TestModel(call_tools=["where"])
    with ThreadPoolExecutor(1, thread_name_prefix="chosen") as executor:
        chosen = Agent(model, tools=[where], capabilities=[UseThreadExecutor(executor)])
        for agent in (
            BuiltInAgent(model, tools=[where]),
            pydantic_ai_agent(Agent(model, tools=[where])),
            pydantic_ai_agent(chosen),
        ):
            assert types(asked(agent))[-1] == "RUN_FINISHED"
    assert names == ["copilot-tool", "copilot-tool", "chosen_0"]


def test_a_fork_of_a_process_that_has_called_tools_calls_tools(tmp_path: Path) -> None:
    program = """
        import os

        import anyio
        from pydantic_ai.models.test import TestModel

        from copilot_bindings.agents import BuiltInAgent
        from copilot_bindings.testing import AsyncClient
        from sansio_copilot import CopilotRuntime
        from sansio_copilot.testing import run_input


        def look() -> str:
            return "seen"


        agent = BuiltInAgent(TestModel(call_tools=["look"]), tools=[look])


        async def main(run_id):
            messages = [{"id": "m1", "role": "user", "content": "hi"}]
            async with AsyncClient(CopilotRuntime({"default": agent})) as client:
                answer = await client.run(run_input("t", run_id, messages=messages))
                print(answer.events()[-1]["type"], flush=True)


        anyio.run(main, "of the parent")
        if os.fork() == 0:
            anyio.run(main, "of the fork")
        else:
            os.wait()
    """
    file = tmp_path / "forking.py"
    file.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(file)], timeout=90, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.splitlines() == ["RUN_FINISHED"] * 2


def test_a_tool_that_raises_stop_iteration_ends_its_run() -> None:
    def first() -> str:
        return next(iter([]))

    last = asked(BuiltInAgent(TestModel(call_tools=["first"]), tools=[first])).events()[-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "AGENT_FAILED")


# --- MCP ------------------------------------------------------------------------------------------

MCP_SERVER = """
import sys
from mcp.server import MCPServer

server = MCPServer("letters")


@server.tool()
def count_letters(word: str) -> int:
    "Count letters."
    return len(word)


{run}
"""


def test_an_agent_calls_the_tools_of_an_mcp_server_over_http(tmp_path: Path) -> None:
    program, port = tmp_path / "letters.py", free_port()
    run = f"import uvicorn\nuvicorn.run(server.streamable_http_app(), port={port})"
    program.write_text(MCP_SERVER.replace("{run}", run))
    with subprocess.Popen([sys.executable, str(program)], stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: listens(port), "the MCP server listens", 60)
            given = [f"http://127.0.0.1:{port}/mcp"]
            agent = BuiltInAgent(calls("count_letters", {"word": "four"}), mcp_servers=given)
            answer = asked(agent)
        finally:
            server.kill()
    assert answer.text() == "done"
    (result,) = (event for event in answer.events() if event["type"] == "TOOL_CALL_RESULT")
    assert "4" in result["content"]


def test_an_mcp_server_that_cannot_be_reached_ends_the_run_without_its_address() -> None:
    port = free_port()
    agent = BuiltInAgent(TestModel(), mcp_servers=[f"http://127.0.0.1:{port}/mcp"])
    last = asked(agent).events()[-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "AGENT_FAILED")
    assert str(port) not in json.dumps(last)


class NeverLists(FunctionToolset[Any]):
    """The tools of a server that is there, and answers no more."""

    async def get_tools(self, ctx: Any) -> Any:
        await anyio.sleep_forever()


def test_an_mcp_server_that_never_lists_its_tools_ends_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = ListedInTime(NeverLists(), 0.001)
    last = asked(BuiltInAgent(TestModel(), mcp_servers=[server])).events()[-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "AGENT_FAILED")
    assert "an MCP server has listed no tools in 0.001 s" in caplog.text


@pytest.mark.parametrize(
    ("server", "connecting", "calling"),
    [
        ("http://h/mcp", 30, 300),
        ({"type": "sse", "url": "http://h/mcp", "timeout": 7}, 30, 7),
        ({"command": "x", "connect_timeout": 5, "timeout": 9.5}, 5, 9.5),
    ],
)
def test_the_time_that_an_mcp_server_may_take_is_set_for_each(
    monkeypatch: pytest.MonkeyPatch, server: Any, connecting: float, calling: float
) -> None:
    given: dict[str, Any] = {}
    make = MCPToolset.__init__

    def noted(toolset: Any, client: Any, **options: Any) -> None:
        given.update(options)
        make(toolset, client, **options)

    monkeypatch.setattr(MCPToolset, "__init__", noted)
    listed = toolset_of(server)
    assert isinstance(listed, ListedInTime)
    assert listed.seconds == given["init_timeout"] == connecting
    assert given["read_timeout"] == calling


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_an_agent_calls_the_tools_of_an_mcp_server_in_a_process(tmp_path: Path) -> None:
    program = tmp_path / "letters.py"
    program.write_text(MCP_SERVER.replace("{run}", "server.run()"))
    server = {"type": "stdio", "command": sys.executable, "args": [str(program)]}
    agent = BuiltInAgent(calls("count_letters", {"word": "four"}), mcp_servers=[server])
    answer = asked(agent)
    (result,) = (event for event in answer.events() if event["type"] == "TOOL_CALL_RESULT")
    assert "4" in result["content"]
    assert answer.text() == "done"


def test_a_process_of_an_mcp_server_ends_with_its_run(tmp_path: Path) -> None:
    program, pids = tmp_path / "letters.py", tmp_path / "pids"
    run = f"import os\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\nserver.run()"
    program.write_text(MCP_SERVER.replace("{run}", run))
    server = {"type": "stdio", "command": sys.executable, "args": [str(program)]}
    # The model is made once, so that the agents differ in nothing but their servers.
    model = calls("count_letters", {"word": "four"})

    def agents(_: Request) -> dict[str, Any]:
        return {"default": BuiltInAgent(model, mcp_servers=[server])}

    async def main() -> None:
        async with AsyncClient(CopilotRuntime(agents)) as client:
            for number in range(2):
                given = run_input("t", f"r{number}", messages=[user("hi")])
                assert (await client.run(given)).text() == "done"
            begun = [int(pid) for pid in pids.read_text().split()]
            assert len(set(begun)) == 2
            with anyio.fail_after(60):
                while any(map(is_alive, begun)):
                    await anyio.sleep(0.01)

    anyio.run(main)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- An agent that one has ------------------------------------------------------------------------


@LIBRARIES
def test_an_agent_of_pydantic_ai_becomes_one_of_ours(library: str) -> None:
    agent = Agent(calls("weather", {"city": "Oslo"}), name="meteorologist", tools=[weather])
    ours = pydantic_ai_agent(agent)
    assert ours.description == "meteorologist"
    answer = asked(ours, state={"ignored": True}, library=library)
    assert "sunny in Oslo" in json.dumps(answer.events())
    assert answer.text() == "done"


@dataclass
class Who:
    name: str


def test_dependencies_are_an_object_or_made_for_each_run() -> None:
    agent: Agent[Who, str] = Agent(calls("who", {}), deps_type=Who)

    @agent.tool
    def who(ctx: RunContext[Who]) -> str:
        return ctx.deps.name

    async def made(context: Any) -> Who:
        return Who(context.agent_id)

    told = [
        json.dumps(asked(pydantic_ai_agent(agent, deps=deps)).events())
        for deps in (Who("everybody"), made, lambda context: Who("plain"))
    ]
    assert "everybody" in told[0]
    assert '"content": "default"' in told[1]
    assert "plain" in told[2]


class Page(BaseModel):
    a: int = 0


def test_state_is_that_of_one_run() -> None:
    deps = StateDeps(Page())
    agent: Agent[StateDeps[Page], str] = Agent(calls("look", {}), deps_type=StateDeps[Page])

    @agent.tool
    def look(ctx: RunContext[StateDeps[Page]]) -> str:
        return f"a is {ctx.deps.state.a}"

    answer = asked(pydantic_ai_agent(agent, deps=deps), state={"a": 1})
    assert "a is 1" in json.dumps(answer.events())
    assert deps.state == Page()


def test_an_object_that_is_no_agent_is_named() -> None:
    agent: Any = TestModel()
    with pytest.raises(TypeError, match="takes an agent, not TestModel"):
        pydantic_ai_agent(agent)
