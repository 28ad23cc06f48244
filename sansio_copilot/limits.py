"""Limits on what one client, or one request, may cost."""

from __future__ import annotations

from typing import Any

import attrs


def _positive(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{attribute.name} must be a number above 0, got {value!r}")


@attrs.frozen
class Limits:
    """What a runtime allows, each with a default that suits a chat behind a proxy.

    :param body_bytes: largest request body in bytes; a larger one is answered 413. 32 MiB holds a
        long conversation with a few pictures in it as base64, and a browser sends all of it with
        each run.
    :param heartbeat_seconds: seconds of silence after which a stream carries a comment. 15 is well
        under the 55-60 s after which common proxies cut an idle response.
    :param cleanup_seconds: how long a stream stays open for an agent that is silent after its
        terminal event. AG-UI lets a run go on after RUN_FINISHED with another RUN_STARTED, so the
        end of the stream cannot come at once; 0.1 is enough for an agent that means to, and the
        front end waits for the end of the stream before it answers a tool call.
    :param read_bytes: how much of the log a reader takes, and so sends, at a time. 256 KiB keeps a
        long replay from building up in memory for each slow client.
    :raises ValueError: for one that is not above 0.
    """

    body_bytes: int = attrs.field(default=32 * 1024**2, validator=_positive)
    heartbeat_seconds: float = attrs.field(default=15.0, validator=_positive)
    cleanup_seconds: float = attrs.field(default=0.1, validator=_positive)
    read_bytes: int = attrs.field(default=256 * 1024, validator=_positive)
