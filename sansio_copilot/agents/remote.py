"""A remote agent as a machine without I/O: the requests to it, and the reading of its answers.

A binding sends :func:`request` with any HTTP client, and feeds the response to :class:`RemoteRun`:
its head, its bytes as they are cut, and its end. It gets events in return. A response that is no
AG-UI stream of the run raises :class:`RemoteAgentError`, whose :attr:`RemoteAgentError.event` tells
the client. A client is told a code and a sentence that names neither a host nor a path, because
addresses inside a network must not be known outside of it. The log has everything that was seen.

Each step has a bound. Compressed bytes are decompressed a piece at a time, so that a small response
does not become a large one in memory, and an event that has grown past the bound ends the stream
before the event is complete.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
from ag_ui.core import RunAgentInput

from .. import json_codec
from ..sse import Parser

_PIECE = 64 * 1024
"""The bytes that are decompressed at a time."""
_GZIP_OR_ZLIB = 47
"""The window size by which zlib detects which of the two formats it reads."""
_SHOWN = 200
_DONE = "[DONE]"
"""The data that ends the streams of OpenAI, and of servers that were modelled on them."""
_TERMINAL = ("RUN_FINISHED", "RUN_ERROR")
_LONGEST_RETRY_AFTER = 5
"""The most digits of a Retry-After that is repeated to the client; a date is not repeated."""


class Fault(enum.Enum):
    """A mistake of a remote agent: the code that a client is told, and its sentence."""

    AGENT_UNREACHABLE = "The agent cannot be reached"
    AGENT_NOT_TRUSTED = "The agent's certificate was not accepted"
    AGENT_TIMEOUT = "The agent was silent for too long"
    AGENT_DISCONNECTED = "The connection to the agent was lost"
    AGENT_INCOMPLETE = "The agent's stream ended before its run"
    AGENT_REDIRECTED = "The agent has moved"
    AGENT_UNAUTHORIZED = "The agent does not accept who asks"
    AGENT_BUSY = "The agent is busy"
    AGENT_REFUSED = "The agent refused the request"
    AGENT_FAILED = "The agent failed"
    AGENT_NOT_A_STREAM = "The agent answered no stream of events"
    AGENT_BAD_ENCODING = "The agent's stream cannot be decompressed"
    AGENT_BAD_EVENT = "The agent sent an event that is not a JSON object"
    AGENT_EVENT_TOO_LARGE = "The agent sent an event that is too large"
    AGENT_WRONG_RUN = "The agent sent an event of another run"


class RemoteAgentError(Exception):
    """The remote agent did not answer as an AG-UI agent does.

    :param fault: the kind of mistake.
    :param seen: the words for the log.
    :param more: the words that a client is told beside the sentence of the fault.
    """

    def __init__(self, fault: Fault, seen: str, more: str = "") -> None:
        super().__init__(f"{fault.name}: {seen}")
        self.fault = fault
        self.event = {"type": "RUN_ERROR", "message": f"{fault.value}{more}", "code": fault.name}


_FAULTS: Final = (
    (range(300, 400), Fault.AGENT_REDIRECTED),
    ((401, 403), Fault.AGENT_UNAUTHORIZED),
    ((409, 429, 503), Fault.AGENT_BUSY),
    (range(400, 500), Fault.AGENT_REFUSED),
    (range(500, 600), Fault.AGENT_FAILED),
)
"""The fault that stands for each status code (RFC 9110, section 15); the first row counts."""


@attrs.frozen
class RemoteRequest:
    """The request that asks a remote agent to run."""

    method: str
    headers: Mapping[str, str]
    body: bytes


def request(input: RunAgentInput, headers: Mapping[str, str]) -> RemoteRequest:
    """The request for a run.

    :param headers: the other headers to send, as :attr:`.AgentContext.headers` has them.
    """
    own = {
        "accept": "text/event-stream",
        "accept-encoding": "gzip, deflate",
        "content-type": "application/json",
    }
    # The mode is not "json", which fails at a lone surrogate.
    body = json_codec.encode(input.model_dump(by_alias=True))
    return RemoteRequest("POST", {**headers, **own}, body)


MOST_CAPABILITIES: Final = 64 * 1024
"""The most bytes of the answer in which a remote agent tells its capabilities."""


def capabilities_request(headers: Mapping[str, str]) -> tuple[str, RemoteRequest]:
    """Return the request for a remote agent's capabilities, and its path below the agent's.

    AG-UI has no such request. This one is that of ag-ui-adk, the only integration that has one.

    :param headers: the headers that the server itself sends to the agent.
    """
    own = {"accept": "application/json", "accept-encoding": "identity"}
    return "/capabilities", RemoteRequest("GET", {**headers, **own}, b"")


def capabilities_in(status: int, body: bytes) -> dict[str, Any] | None:
    """Return the capabilities in a remote agent's answer; None if the answer has none."""
    if status != 200 or len(body) > MOST_CAPABILITIES:
        return None
    try:
        said = json_codec.decode(body)
    except ValueError:
        return None
    return said if isinstance(said, dict) and said else None


class RemoteRun:
    """The events that a remote agent answers one request with.

    :param max_event_bytes: the longest event, in bytes of its frame.
    :ivar has_ended: whether the run has ended. The rest of the response is ignored then.
    """

    def __init__(self, thread_id: str, run_id: str, max_event_bytes: float) -> None:
        self._ids = {"threadId": thread_id, "runId": run_id}
        self._max_event_bytes = max_event_bytes
        self._parser = Parser(max_event_bytes)
        self._decompressor: Any = None
        self.has_ended = False

    def refusal(self, status: int, headers: Mapping[str, str]) -> tuple[Fault, str] | None:
        """Take the head of the response.

        :param headers: by name in lower case.
        :returns: None if a stream of events follows; otherwise the fault, and the words that a
            client is told beside its sentence. The caller raises them with the beginning of the
            body, which most often says what is wrong.
        :raises RemoteAgentError: for a content coding that was not asked for.
        """
        for statuses, fault in _FAULTS:
            if status in statuses:
                more = f" (HTTP {status})"
                after = headers.get("retry-after", "")
                if after.isdecimal() and len(after) <= _LONGEST_RETRY_AFTER:
                    more += f"; try again in {after} s"
                return fault, more
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if status != 200 or media_type != "text/event-stream":
            return Fault.AGENT_NOT_A_STREAM, ""
        coding = headers.get("content-encoding", "").strip().lower()
        if coding in ("gzip", "x-gzip", "deflate"):
            self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
        elif coding not in ("", "identity"):
            raise RemoteAgentError(
                Fault.AGENT_BAD_ENCODING, f"content-encoding {coding[:_SHOWN]!r}"
            )
        return None

    def decoded(self, data: bytes) -> Iterator[bytes]:
        """The next bytes of the response without their content coding, in pieces to be fed.

        The pieces have 64 KiB at most, because compressed bytes may become a thousand times as many
        plain ones. So other tasks of an event loop can have their turn between two pieces.

        :raises RemoteAgentError: if the bytes cannot be decompressed.
        """
        if self._decompressor is None:
            yield data
            return
        while data:
            if self._decompressor.eof:
                # Another member of the same file begins (RFC 1952, section 2.2).
                self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                piece = self._decompressor.decompress(data, _PIECE)
            except zlib.error as error:
                raise RemoteAgentError(Fault.AGENT_BAD_ENCODING, str(error)) from None
            data = self._decompressor.unconsumed_tail or self._decompressor.unused_data
            yield piece

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """The events that a piece of the decoded response completes.

        :raises RemoteAgentError: for anything that is no event.
        """
        for frame in self._parser.feed(piece):
            if frame.data.strip() != _DONE:
                yield self._event(frame.data)
        if self._parser.overflowed:
            raise RemoteAgentError(
                Fault.AGENT_EVENT_TOO_LARGE, f"it has over {self._max_event_bytes:,.0f} bytes"
            )

    def end(self) -> None:
        """Take the end of the response.

        :raises RemoteAgentError: if the run has not ended.
        """
        if not self.has_ended:
            raise RemoteAgentError(
                Fault.AGENT_INCOMPLETE, "the response ended without RUN_FINISHED"
            )

    def _event(self, text: str) -> dict[str, Any]:
        try:
            event = json_codec.decode(text.encode("utf-8", "surrogatepass"))
        except ValueError as error:
            raise RemoteAgentError(Fault.AGENT_BAD_EVENT, f"{error}: {text[:_SHOWN]!r}") from None
        if not isinstance(event, dict):
            raise RemoteAgentError(
                Fault.AGENT_BAD_EVENT, f"expected an object, got {text[:_SHOWN]!r}"
            )
        if event.get("type") in ("RUN_STARTED", *_TERMINAL):
            self._check_run(event)
            self.has_ended = event["type"] in _TERMINAL
        return event

    def _check_run(self, event: Mapping[str, Any]) -> None:
        for name, own in self._ids.items():
            theirs = event.get(name, own)
            if theirs != own:
                seen = f"{event['type']} has {name} {str(theirs)[:_SHOWN]!r}, asked for {own!r}"
                raise RemoteAgentError(Fault.AGENT_WRONG_RUN, seen)
