"""A model's API on this machine, which says what a test expects, and notes who hangs up.

    python mock_model.py 0        # prints its port

It speaks OpenAI's chat completions and responses, and Anthropic's messages, as streams and as whole
answers. What it answers depends on what the user said last:

- ``call NAME {"a": 1}`` calls a tool, if the request has one of that name, be it behind the prefix
  of an MCP server; ``call NAME {"a": 1} or OTHER {"b": 2}`` calls the first that it has;
- ``count`` takes ten seconds: 200 words, a twentieth of a second apart;
- behind a tool's result it says what that was;
- anything else it repeats, with the number of things that the user has said, so that a framework
  that forgets or doubles a conversation is seen.

``GET /calls`` tells of each request, in order: what the user said, how many pieces were sent, and
whether it is "streaming", "complete" or "aborted". It needs nothing but Python.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

PIECES = 200
PAUSE = 0.05
_CALL = re.compile(r"call (\w+(?:\s*\{.*\})?)\s*$", re.DOTALL)
_OR = re.compile(r"(?<=\})\s+or\s+(?=\w+\s*\{)")


@dataclass
class Call:
    """A request to the model, and what became of it."""

    path: str
    said: str
    tools: list[str]
    pieces: int = 0
    state: str = "streaming"


@dataclass
class Asked:
    """A request, in the words of no API."""

    users: list[str] = field(default_factory=list)
    result: str | None = None
    """The result of a tool, if that is the last message of the conversation."""
    tools: list[str] = field(default_factory=list)

    def user(self, text: str) -> None:
        self.users.append(text)
        self.result = None


@dataclass
class Reply:
    """Text in pieces, or a call of a tool; with a number of its own, which all ids are made of."""

    pieces: list[str]
    pause: float = 0.0
    tool: str | None = None
    arguments: str = "{}"
    number: int = field(default_factory=count(1).__next__)


def reply_to(asked: Asked) -> Reply:
    said = asked.users[-1] if asked.users else ""
    if asked.result is not None:
        return _text(f"The tool said: {asked.result}")
    if match := _CALL.search(said):
        for wanted in _OR.split(match[1]):
            name, _, arguments = wanted.partition("{")
            for tool in asked.tools:
                if tool == name.strip() or tool.endswith(f"__{name.strip()}"):
                    return Reply([], tool=tool, arguments=f"{{{arguments or '}'}")
    if said.strip().endswith("count"):
        return Reply([f"{number} " for number in range(PIECES)], PAUSE)
    return _text(f"You said: {said} ({len(asked.users)})")


def _text(text: str) -> Reply:
    return Reply(re.findall(r"\S+\s*", text))


def _plain(content: Any) -> str:
    """The text of a message's content, whatever its parts are called."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(filter(None, map(_plain, content)))
    if isinstance(content, dict):
        return _plain(content.get("text") or content.get("content") or "")
    return ""


# --- OpenAI: chat completions -----------------------------------------------------------------


def read_chat(body: Any) -> Asked:
    asked = Asked(tools=[tool["function"]["name"] for tool in body.get("tools") or ()])
    for message in body["messages"]:
        if message["role"] == "user":
            asked.user(_plain(message["content"]))
        elif message["role"] == "tool":
            asked.result = _plain(message["content"])
    return asked


def chat_events(reply: Reply, body: Any) -> Iterator[str]:
    def chunk(delta: Any, reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _data(_chat(reply, body, "chat.completion.chunk", choices=[choice]))

    yield chunk({"role": "assistant", "content": ""})
    if reply.tool:
        function = {"name": reply.tool, "arguments": ""}
        start = {"index": 0, "id": f"call_{reply.number}", "type": "function", "function": function}
        yield chunk({"tool_calls": [start]})
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": reply.arguments}}]})
    for piece in reply.pieces:
        yield chunk({"content": piece})
    yield chunk({}, "tool_calls" if reply.tool else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _data(_chat(reply, body, "chat.completion.chunk", choices=[], usage=_USAGE))
    yield "data: [DONE]\n\n"


def chat_whole(reply: Reply, body: Any) -> Any:
    function = {"name": reply.tool, "arguments": reply.arguments}
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.pieces)}
    if reply.tool:
        message["tool_calls"] = [
            {"id": f"call_{reply.number}", "type": "function", "function": function}
        ]
    reason = "tool_calls" if reply.tool else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return _chat(reply, body, "chat.completion", choices=[choice], usage=_USAGE)


_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _chat(reply: Reply, body: Any, kind: str, **members: Any) -> Any:
    return {
        "id": f"chat-{reply.number}",
        "object": kind,
        "created": 1,
        "model": body["model"],
        **members,
    }


# --- OpenAI: responses ------------------------------------------------------------------------


def read_response(body: Any) -> Asked:
    asked = Asked(tools=[tool["name"] for tool in body.get("tools") or () if "name" in tool])
    items = body["input"]
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        if item.get("role") == "user":
            asked.user(_plain(item["content"]))
        elif item.get("type") == "function_call_output":
            asked.result = _plain(item["output"])
    return asked


def _output(reply: Reply) -> dict[str, Any]:
    if reply.tool:
        call = {"name": reply.tool, "arguments": reply.arguments, "call_id": f"call_{reply.number}"}
        return {"type": "function_call", "id": f"fc_{reply.number}", "status": "completed", **call}
    part = {"type": "output_text", "text": "".join(reply.pieces), "annotations": []}
    message = {"role": "assistant", "status": "completed", "content": [part]}
    return {"type": "message", "id": f"msg_{reply.number}", **message}


def response_whole(reply: Reply, body: Any) -> Any:
    return _response(reply, body, "completed", [_output(reply)])


def _response(reply: Reply, body: Any, status: str, output: list[Any]) -> Any:
    details = {
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        "id": f"resp_{reply.number}",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": body["model"],
        "output": output,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, **details},
    }


def response_events(reply: Reply, body: Any) -> Iterator[str]:
    number = iter(range(1 << 30))

    def event(kind: str, **members: Any) -> str:
        return _named(kind, {"type": kind, "sequence_number": next(number), **members})

    yield event("response.created", response=_response(reply, body, "in_progress", []))
    item = _output(reply)
    at = {"item_id": item["id"], "output_index": 0}
    if reply.tool:
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield event("response.output_item.added", output_index=0, item=begun)
        kind = "response.function_call_arguments"
        yield event(f"{kind}.delta", **at, delta=reply.arguments)
        yield event(f"{kind}.done", **at, arguments=reply.arguments, name=reply.tool)
    else:
        begun = {**item, "content": [], "status": "in_progress"}
        yield event("response.output_item.added", output_index=0, item=begun)
        at = {**at, "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event("response.content_part.added", **at, part=part)
        for piece in reply.pieces:
            yield event("response.output_text.delta", **at, delta=piece, logprobs=[])
        text = "".join(reply.pieces)
        yield event("response.output_text.done", **at, text=text, logprobs=[])
        yield event("response.content_part.done", **at, part={**part, "text": text})
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=_response(reply, body, "completed", [item]))


# --- Anthropic: messages ----------------------------------------------------------------------


def read_messages(body: Any) -> Asked:
    asked = Asked(tools=[tool["name"] for tool in body.get("tools") or ()])
    for message in body["messages"]:
        if message["role"] != "user":
            continue
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        results = [part for part in parts if part["type"] == "tool_result"]
        if results:
            asked.result = _plain(results[-1].get("content"))
        else:
            # Texts of the framework itself come before the text of its user.
            asked.user(_plain(parts[-1]))
    return asked


def _block(reply: Reply) -> dict[str, Any]:
    if reply.tool:
        value = json.loads(reply.arguments)
        return {
            "type": "tool_use",
            "id": f"toolu_{reply.number}",
            "name": reply.tool,
            "input": value,
        }
    return {"type": "text", "text": "".join(reply.pieces)}


def messages_whole(reply: Reply, body: Any) -> Any:
    reason = "tool_use" if reply.tool else "end_turn"
    return _message(reply, body, content=[_block(reply)], stop_reason=reason)


def _message(reply: Reply, body: Any, **members: Any) -> Any:
    usage = {"input_tokens": 1, "output_tokens": 1}
    about = {"role": "assistant", "model": body["model"], "stop_sequence": None, "usage": usage}
    return {"id": f"msg_{reply.number}", "type": "message", **about, **members}


def messages_events(reply: Reply, body: Any) -> Iterator[str]:
    def event(kind: str, **members: Any) -> str:
        return _named(kind, {"type": kind, **members})

    yield event("message_start", message=_message(reply, body, content=[], stop_reason=None))
    empty: dict[str, Any] = {"input": {}} if reply.tool else {"text": ""}
    yield event("content_block_start", index=0, content_block={**_block(reply), **empty})
    if reply.tool:
        delta = {"type": "input_json_delta", "partial_json": reply.arguments}
        yield event("content_block_delta", index=0, delta=delta)
    for piece in reply.pieces:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    end = {"stop_reason": "tool_use" if reply.tool else "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=end, usage={"output_tokens": 1})
    yield event("message_stop")


# --- The server -------------------------------------------------------------------------------

APIS = {
    "/chat/completions": (read_chat, chat_events, chat_whole),
    "/responses": (read_response, response_events, response_whole),
    "/messages": (read_messages, messages_events, messages_whole),
}


def _data(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _named(kind: str, value: Any) -> str:
    return f"event: {kind}\n{_data(value)}"


class MockModel:
    """The server, and what became of the requests that it was sent."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, which is closed behind its first response."""
        try:
            request = await _read_request(reader)
            if request is not None:
                await self._answer(*request, reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async def _answer(
        self,
        method: str,
        path: str,
        content: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if method == "GET":
            shown = [asdict(call) for call in self.calls]
            await _send(writer, "200 OK", json.dumps(shown).encode())
            return
        api = next((APIS[end] for end in APIS if path.partition("?")[0].endswith(end)), None)
        if api is None:
            await _send(writer, "404 Not Found", b'{"error": {"message": "no such API"}}')
            return
        read, events, whole = api
        body = json.loads(content)
        asked = read(body)
        reply = reply_to(asked)
        call = Call(path, asked.users[-1] if asked.users else "", asked.tools)
        self.calls.append(call)
        # A client that waits for its answer sends nothing more, so the end of its bytes is the end
        # of its interest.
        answering = asyncio.ensure_future(
            self._stream(writer, call, reply, events(reply, body))
            if body.get("stream")
            else self._whole(writer, call, reply, whole(reply, body))
        )
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
        failed = answering.done() and answering.exception() is not None
        if not answering.done() or failed:
            call.state = "aborted"
        for task in (answering, gone):
            task.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)

    async def _stream(
        self, writer: asyncio.StreamWriter, call: Call, reply: Reply, events: Iterator[str]
    ) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        async for event in _paced(events, reply.pause):
            writer.write(event.encode())
            await writer.drain()
            call.pieces += 1
        call.state = "complete"

    async def _whole(
        self, writer: asyncio.StreamWriter, call: Call, reply: Reply, value: Any
    ) -> None:
        await asyncio.sleep(reply.pause * len(reply.pieces))
        call.state = "complete"
        await _send(writer, "200 OK", json.dumps(value).encode())


async def _paced(events: Iterator[str], pause: float) -> AsyncIterator[str]:
    for event in events:
        yield event
        await asyncio.sleep(pause)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes] | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    if fields.get("transfer-encoding") == "chunked":
        content = b""
        while size := int(await reader.readline(), 16):
            content += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return method, path, content
    return method, path, await reader.readexactly(int(fields.get("content-length", 0)))


async def _send(writer: asyncio.StreamWriter, status: str, content: bytes) -> None:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await writer.drain()


async def main(port: int) -> None:
    server = await asyncio.start_server(MockModel().serve, "127.0.0.1", port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
