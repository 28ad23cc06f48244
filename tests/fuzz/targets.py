"""Every target: a function that takes any bytes, and raises if what it promises does not hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import attrs
from fuzz.mutation import mutate
from fuzz.random_runs import random_runs
from fuzz.target_bytes import json_codec, sse
from fuzz.target_connection import connection
from fuzz.target_conversation import conversation
from fuzz.target_events import machines, recorder
from fuzz.target_remote import recording, remote_response, remote_stream
from fuzz.target_requests import envelope, routing, run_input
from support.events import TEXT_FIELDS, TYPES
from support.hostile_requests import CASES

from sansio_copilot.http.envelope import METHOD_NAMES
from sansio_copilot.http.routing import ENDPOINTS

CORPUS = Path(__file__).parent / "corpus"

_JSON = [b"{}", b"[]", b"[", b"]", b",", b":", b"null", b"true", b"1e400", b'"\\ud800"', b'"x":1']
_FIELDS = sorted({field for fields in TEXT_FIELDS.values() for field in fields})
_FIELDS += ["role", "metadata", "subagentRunId", "parentMessageId", "content", "patch", "input"]
_FIELDS += ["messages", "snapshot", "replace", "outcome", "value", "id", "toolCalls", "arguments"]
_PATCHES = [
    {"op": "add", "path": "/a", "value": {}},
    {"op": "add", "path": "/a/-", "value": []},
    {"op": "remove", "path": "/a"},
    {"op": "move", "from": "/a", "path": "/b"},
    {"op": "copy", "from": "", "path": "/b"},
    {"op": "test", "path": "", "value": None},
    {"op": "replace", "path": "", "value": 1},
]


def _line(type_: str) -> bytes:
    """An event of the type that has all that any type needs."""
    fields = {
        "type": type_,
        "messageId": "m",
        "toolCallId": "c",
        "toolCallName": "f",
        "delta": _PATCHES[:1] if type_ == "STATE_DELTA" else "d",
        "content": {} if type_ == "ACTIVITY_SNAPSHOT" else "x",
        "activityType": "a",
        "patch": _PATCHES[:1],
        "messages": [{"id": "m", "role": "user", "content": "hi"}],
        "snapshot": {"a": []},
        "threadId": "t",
        "runId": "r",
        "stepName": "s",
        "name": "n",
        "message": "no",
        "subtype": "message",
        "entityId": "m",
        "encryptedValue": "e",
    }
    return b"\n" + json.dumps(fields).encode() + b"\n"


_EVENTS = [
    *map(_line, TYPES),
    *(json.dumps(patch).encode() for patch in _PATCHES),
    *(b'"%s":"m",' % field.encode() for field in _FIELDS),
    b'"subagentRunId":"s1",',
    b'"metadata":{"k":1},',
    b"\ntrue\n",
    b'\n"it died"\n',
]
_PATHS = [
    *(b"/" + "/".join(endpoint.pattern).encode() for endpoint in ENDPOINTS),
    *(b"/default", b"/t", b"/info"),
    *(b"/..", b"/.", b"%2e", b"%2F", b"%", b"//", b"\\", b"?", b"#", b"http://h", b"\n", b"%C3%BC"),
    *(b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PATCH", b"DELETE", b"PUT"),
]


@attrs.frozen
class Target:
    """
    :param check: raises for an input of which what it promises does not hold.
    :param words: what is worth putting into an input.
    :param make: makes an input of its own, which one in two is then.
    """

    check: Callable[[bytes], None]
    words: list[bytes] = attrs.field(factory=list)
    make: Callable[[Random], bytes] | None = None

    @property
    def name(self) -> str:
        return self.check.__name__

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name

    def inputs(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.corpus.iterdir())]

    def changed_inputs(self, random: Random, max_size: int) -> Iterator[bytes]:
        """Yield the inputs of the corpus, each somehow changed, without end."""
        pool = self.inputs()
        while True:
            yield self.changed(random.choice(pool), random, max_size)

    def changed(self, data: bytes, random: Random, max_size: int) -> bytes:
        """``data`` somehow changed, or an input of the target's own making."""
        if self.make is not None and random.random() < 0.5:
            return self.make(random)
        return mutate(data, self.words, random, max_size)


_SSE = [b"data: ", b"data", b"id: 1", b"id", b"event: x", b"retry: 5", b":", b"\r", b"\n", b"\r\n"]
_SSE += [b"\n\n", b"\xef\xbb\xbf", b"\0", "\u2028".encode(), b"\xff", b"\xed\xa0\x80"]
_HTTP = [
    b"\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100\r\n\r\n",
    b" ",
    b"\t",
]
_HTTP += [
    b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b";",
    b",",
]
_FORM = [
    b"--b\r\n",
    b"--b--",
    b"\r\n",
    b"content-disposition: form-data; ",
    b'name="audio"',
    b"; ",
    b"=",
    b'"',
]
_FORM += [
    b'filename="x"',
    b"filename*=utf-8''x",
    b"content-type: audio/webm\r\n",
    b"%22",
    b"\\",
    b"\xff",
]
_FORM += [b"content-transfer-encoding: base64\r\n", b"multipart/form-data; boundary=b\n", b"aGk="]
_MEMBERS = [b'"%s":' % name for name in (b"method", b"params", b"body", b"path", b"httpMethod")]

TARGETS = {
    target.name: target
    for target in (
        Target(sse, _SSE),
        Target(json_codec, _JSON),
        Target(routing, _PATHS),
        Target(envelope, [*_JSON, *_MEMBERS, *_PATHS, *(name.encode() for name in METHOD_NAMES)]),
        Target(run_input, [*_JSON, *(b'"%s":' % field.encode() for field in _FIELDS)]),
        Target(remote_stream, [*_SSE, *_JSON, b"data: [DONE]\n\n", b'"type":"RUN_FINISHED"']),
        Target(remote_response, _HTTP),
        Target(recording, [*_FORM, *_JSON, b'"audio":', b'"mimeType":', b'"filename":']),
        Target(machines, _EVENTS),
        Target(recorder, _EVENTS),
        Target(conversation, [*_EVENTS, b"\nnull\n"], random_runs),
        Target(
            connection, [case.bytes_to("/api/copilotkit") for case in CASES if len(case.sent) < 300]
        ),
    )
}
