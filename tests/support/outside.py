"""Values that may come from a client, an agent, a hook, or an application's configuration."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
from hypothesis import strategies as st
from support.events import TEXT_FIELDS, TYPES

from sansio_copilot import Headers, Request, Response, json_codec
from sansio_copilot.events import EventError, normalize_event
from sansio_copilot.http import envelope

TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ANYTHING = st.one_of(
    JSON,
    st.binary(max_size=5),
    st.sets(st.integers() | TEXT, max_size=2),
    st.sampled_from([object(), object, print, Headers(), Response(), ..., 1j, len]),
)
NAMES = st.sampled_from(["x-a", "authorization", "content-type", "origin", "cookie"]) | TEXT
VALUES = st.sampled_from(["application/json", "https://a.example", "null", "*"]) | TEXT
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
PATH_PARTS = [
    "/",
    "agent",
    "default",
    "run",
    "threads",
    "info",
    "..",
    "%2e",
    "%",
    "\\",
    "?",
    "#",
    "é",
]
PATHS = st.lists(st.sampled_from(PATH_PARTS) | TEXT, max_size=8).map("".join)
METHODS = st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "CONNECT", "PATCH"]) | TEXT
BASES = st.sampled_from([None, "", "/", "/api/copilotkit", "/agent"]) | PATHS
ENVELOPES = st.fixed_dictionaries(
    {"method": st.sampled_from(envelope.METHOD_NAMES) | JSON},
    optional={
        "params": st.dictionaries(
            st.sampled_from(["agentId", "threadId", "path", "httpMethod", "skillsPage"]),
            PATHS | METHODS | JSON,
        )
        | JSON,
        "body": JSON,
    },
)
BODIES = st.none() | st.binary(max_size=20) | (ENVELOPES | JSON).map(json_codec.encode)
REQUESTS = st.builds(Request, METHODS, PATHS, TEXT, HEADERS, BODIES)
ENVELOPE_REQUESTS = st.builds(
    lambda request: attrs.evolve(
        request, method="POST", headers={"content-type": "application/json"}
    ),
    REQUESTS,
)
OTHER_FIELDS = ["delta", "patch", "content", "messages", "metadata", "subagentRunId", "input"]
OTHER_FIELDS += ["name", "snapshot", "outcome", "parentMessageId", "toolCallName", "role"]
EVENTS = st.builds(
    lambda type_, given, more: {"type": type_, **given, **more},
    st.sampled_from(TYPES),
    st.fixed_dictionaries(
        dict.fromkeys({f for fields in TEXT_FIELDS.values() for f in fields}, TEXT)
    ),
    st.dictionaries(
        st.sampled_from(OTHER_FIELDS),
        JSON | st.lists(st.fixed_dictionaries({"id": TEXT, "role": TEXT})) | TEXT,
        max_size=3,
    ),
)
STREAMS = st.lists(EVENTS | JSON | ANYTHING, max_size=6)


def normal(stream: list[Any]) -> list[Any]:
    """The events of ``stream`` that are taken, as they are taken."""
    taken = []
    for event in stream:
        with suppress(EventError):
            taken.append(normalize_event(event))
    return [event for event in taken if event is not None]


CHECKED = STREAMS.map(normal)
