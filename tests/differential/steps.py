"""The steps that the generator makes, and the parts that all kinds of steps are made of."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Literal

import attrs

BASE = "/api/copilotkit"
JSON_TYPE = ("content-type", "application/json")


@attrs.frozen
class Step:
    """A request, or an action on a request that is still being answered.

    :param about: what the step is there for; an accepted difference may ask for it.
    :param configuration: one of those that the two servers have.
    :param target: path and query as they go over the wire.
    :param hold: leave the stream open when so many events have been read; the next step that is a
        "finish" reads the rest.
    """

    about: str
    configuration: str
    method: str = "GET"
    target: str = BASE
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    kind: Literal["request", "finish"] = "request"
    hold: int | None = None

    def __str__(self) -> str:
        if self.kind == "finish":
            return f"[{self.about}] the rest of the stream that was held"
        lines = [f"[{self.about}] {self.configuration}: {self.method} {self.target}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body is not None:
            lines.append(self.body.decode("utf-8", "backslashreplace"))
        return "\n    ".join(lines)


Conversation = list[Step]


def encode(value: Any) -> bytes:
    """``value`` as JSON."""
    # The text is ASCII, so that a lone surrogate is an escape, as JSON.stringify writes it.
    return json.dumps(value).encode()


CONTENT_TYPES = (
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "application/jsonp",
    "x/application/json",
    "application/x-www-form-urlencoded",
)

ORIGINS = (
    "https://app.example.com",
    "https://evil.example",
    "https://app.example.com.evil.example",
    "http://app.example.com",
    "https://APP.example.com",
    "http://localhost:3000",
    "null",
    "*",
)


def origin(random: Random) -> tuple[tuple[str, str], ...]:
    """The header of a page's request; a client that is no page sends none."""
    return (("origin", random.choice(ORIGINS)),) if random.random() < 0.4 else ()
