"""Checks of the program of each framework, over HTTP, as a front end asks it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from frameworks.server import ROOT, Model

from sansio_copilot import Headers
from sansio_copilot.testing import ClientResponse, assert_valid_stream, run_input

_PATIENCE = 300.0
CARD = {
    "name": "show_card",
    "description": "Shows a card.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class Page:
    """A page that has a thread of its own, and knows the conversation."""

    def __init__(self, url: str) -> None:
        self.url = urlsplit(url)
        self.thread_id = str(uuid.uuid4())
        self.messages: list[dict[str, Any]] = []
        self.state: Any = {}
        self.sent = b""

    def request(self, path: str, body: Any) -> http.client.HTTPResponse:
        """POST ``body``, and return the response as soon as it has begun."""
        client = http.client.HTTPConnection(self.url.netloc, timeout=_PATIENCE)
        # The server closes the connection behind its response, so that a check that reads the
        # response to its end leaves nothing open.
        headers = {"content-type": "application/json", "connection": "close"}
        client.request("POST", f"{self.url.path}{path}", json.dumps(body), headers)
        return client.getresponse()

    def begin(self, text: str | None = None, **fields: Any) -> http.client.HTTPResponse:
        """Begin a run, with what the user says."""
        body = run_input(
            self.thread_id,
            str(uuid.uuid4()),
            text=text,
            **{"messages": self.messages, "state": self.state, **fields},
        )
        self.messages = body["messages"]
        self.sent = json.dumps(body).encode()
        return self.request("/agent/default/run", body)

    def run(self, text: str | None = None, **fields: Any) -> ClientResponse:
        """Run the agent to the end, which has to be one that a client reads."""
        response = self.begin(text, **fields)
        answer = ClientResponse(
            response.status, Headers(response.getheaders()), response.read(), self.sent
        )
        assert_valid_stream(answer)
        error = answer.run_error()
        assert error is None, f"the run failed: {error}"
        self.messages = [*self.messages, *answer.messages()]
        self.state = answer.state() or self.state
        return answer

    def answer_tool(self, call_id: str, result: str) -> None:
        """Add the result of a frontend tool to the conversation."""
        message = {"id": str(uuid.uuid4()), "role": "tool", "toolCallId": call_id}
        self.messages.append({**message, "content": result})


def chat(url: str, model: Model) -> None:
    """Two turns; the model sees what was said before once, and no more."""
    page = Page(url)
    for spoken, expected in (("one", "one (1)"), ("two", "two (2)")):
        says(page.run(spoken), f"You said: {expected}")
    says(Page(url).run("other"), "You said: other (1)")


def frontend_tool(url: str, model: Model) -> None:
    """The model calls a tool of the page, which answers in a run of its own."""
    page = Page(url)
    answer = page.run('call show_card {"city": "Paris"}', tools=[CARD])
    (call,) = answer.tool_calls()
    assert (call.name, call.arguments) == ("show_card", {"city": "Paris"}), call
    page.answer_tool(call.id, "shown")
    # Some frameworks wrap what a tool returns, or tell it as a word of the user's.
    assert "shown" in says(page.run(tools=[CARD]), "", whole=False)


def state(url: str, model: Model) -> None:
    """A tool of the server sets the state that the page shares."""
    page = Page(url)
    answer = page.run(
        'call set_color {"color": "red"} or ag_ui_update_state {"state_updates": {"color": "red"}}'
    )
    assert (answer.state() or {}).get("color") == "red", answer.state()


def approval(url: str, model: Model) -> None:
    """A tool of the server waits for the user's yes, and runs then."""
    for agreed in (True, False):
        page = Page(url)
        answer = page.run('call delete_file {"name": "a.txt"} or Bash {"command": "echo done"}')
        events = answer.events()
        asked = (events[-1].get("outcome") or {}).get("interrupts")
        if asked:
            entry = {"interruptId": asked[0]["id"], "status": "resolved"}
            answer = page.run(resume=[{**entry, "payload": decision(asked[0], agreed)}])
        else:
            # Some frameworks ask by the call itself, which the page answers.
            assert all(event["type"] != "TOOL_CALL_RESULT" for event in events), "it did not ask"
            page.answer_tool(answer.tool_calls()[0].id, json.dumps({"accepted": agreed}))
            answer = page.run()
        text = says(answer, "The tool said:", whole=False)
        assert ("done" in text) is agreed, text


def decision(interrupt: Any, agreed: bool) -> Any:
    """The user's yes or no, in the words of the framework that asks."""
    if (interrupt.get("metadata") or {}).get("source") == "claude-sdk-deferred":
        return {"behavior": "allow" if agreed else "deny"}
    schema = interrupt.get("responseSchema") or {}
    return {"approved": agreed} if schema.get("type") == "object" else agreed


def stop(url: str, model: Model) -> None:
    """A stop ends the request to the model, the run is well formed, and the thread goes on."""
    page = Page(url)
    before = len(model.calls())
    response = page.begin("count")
    body = b""
    while body.count(b"TEXT_MESSAGE_CONTENT") < 3:
        piece = response.read1()
        assert piece, f"the run has ended: {body[-2000:]!r}"
        body += piece
    stopped = json.loads(page.request(f"/agent/default/stop/{page.thread_id}", {}).read())
    assert stopped["stopped"], stopped
    body += response.read()
    answer = ClientResponse(response.status, Headers(response.getheaders()), body)
    assert_valid_stream(answer)
    assert answer.run_error() is None, answer.run_error()
    # A machine with much to do may take seconds for it, so that no time is set but the model's own.
    while (call := model.calls()[before])["state"] == "streaming":
        time.sleep(0.05)
    assert call["state"] == "aborted", call
    says(page.run("and"), "You said: and", whole=False)


def front_end(url: str, model: Model) -> None:
    """The unmodified client of CopilotKit chats, answers a call of its tool, and stops a run."""
    script = ROOT / "tests" / "clients" / "framework.mjs"
    surroundings = {**os.environ, "COPILOT_URL": url, "NO_COLOR": "1"}
    done = subprocess.run(
        ["node", str(script)], env=surroundings, capture_output=True, text=True, timeout=_PATIENCE
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def says(answer: ClientResponse, expected: str, *, whole: bool = True) -> str:
    """Check the last thing that the agent has said, or its beginning."""
    text = (answer.text().splitlines() or [""])[-1].strip()
    is_so = text == expected if whole else text.startswith(expected.strip())
    assert is_so, f"it said {text!r}, expected {expected!r}"
    return text


CHECKS: dict[str, Callable[[str, Model], None]] = {
    "chat": chat,
    "frontend tool": frontend_tool,
    "state": state,
    "approval": approval,
    "stop": stop,
    "front end": front_end,
}
