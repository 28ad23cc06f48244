"""The runtime under test: every configuration of the suite behind one object.

A request names its configuration in a header. So one process of a server serves all tests, where a
process for each configuration would take most of the time of the suite to start.
"""

from __future__ import annotations

import logging
from typing import Any

import anyio.lowlevel
import attrs
from support.vectors import CONFIGS, scripted_agents

from sansio_copilot import AudioFile, CopilotRuntime, Exchange, Limits, MemoryStore, Request

from .agents import AGENTS
from .contexts import make_looking_runtime
from .faulty_agents import FAULTY
from .faulty_parts import make_faulty_runtime
from .hooks import make_hooks
from .stores import ODD_STORES, AsyncStore, AwayStore, BlockingStore, LongHistories, in_a_file
from .users import make_runtimes

logger = logging.getLogger(__name__)

CONFIG_HEADER = "x-conformance-config"
BODY_BYTES = 100_000
ABANDONED_SECONDS = 0.3
"""Three heartbeats, so that a reader who hears six has been there for longer."""
LARGE_BODY_BYTES = 1_234_567
LIMITS = Limits(body_bytes=BODY_BYTES, heartbeat_seconds=0.1)
LIMITS_OF_A_SERVER = {
    "main": LIMITS,
    "times": attrs.evolve(
        LIMITS,
        header_bytes=2000,
        header_seconds=0.3,
        body_seconds=0.3,
        idle_seconds=0.3,
        write_seconds=1.0,
    ),
    "hooks": attrs.evolve(LIMITS, hook_seconds=2.0, service_seconds=2.0),
    "stores": attrs.evolve(LIMITS, store_seconds=2.0),
    "counts": attrs.evolve(LIMITS, connections=10, runs=2),
    "bodies": attrs.evolve(LIMITS, bodies_bytes=370_000),
    "cannot-start": LIMITS,
}
"""The limits of each runtime of a server, by name; settings of the whole server need their own."""


async def transcribe(audio: AudioFile) -> str:
    return f"{audio.size} bytes of {audio.mime_type}"


def on_start() -> Any:
    """Log a line, which tests look for; a store and a loop are there already."""

    async def start() -> None:
        await anyio.lowlevel.checkpoint()
        logger.info("the runtime starts")

    return start()


async def cannot_start() -> None:
    logger.info("the runtime starts")
    await anyio.lowlevel.checkpoint()
    raise OSError("no such queue")


def on_close() -> None:
    logger.info("the runtime closes")


class ConfiguredRuntime(CopilotRuntime):
    """The ``main`` configuration, and the way to the others.

    A binding asks nothing of a runtime but its exchanges.
    """

    def __init__(
        self, agents: dict[str, Any], others: dict[str, CopilotRuntime], **main: Any
    ) -> None:
        super().__init__(agents, **main)
        self._others = others

    def exchange(self, request: Request, now: float, *, closing: bool = False) -> Exchange:
        name = request.headers.get(CONFIG_HEADER, "main")
        if name == "main":
            return super().exchange(request, now, closing=closing)
        return self._others[name].exchange(request, now, closing=closing)


def make_runtime(base_path: str, limits: str) -> CopilotRuntime:
    others = {
        name: CopilotRuntime(scripted_agents(), base_path=base_path, **config)
        for name, config in CONFIGS.items()
    }
    # An application that mounts the runtime passes on to it only what is below that place.
    probes: dict[str, Any] = {
        "liveness_path": f"{base_path}/healthz",
        "readiness_path": f"{base_path}/readyz",
        "metrics_path": f"{base_path}/metrics",
    }
    stores = {"async-store": AsyncStore(), "blocking-store": BlockingStore()} | ODD_STORES
    for name, store in stores.items():
        others[name] = CopilotRuntime(
            AGENTS,
            base_path=base_path,
            store=store,  # type: ignore[arg-type] # methods are made when they are looked up
            limits=LIMITS,
            **probes,
        )
    others["away-store"] = CopilotRuntime(
        AGENTS, base_path=base_path, store=AwayStore(), limits=LIMITS, **probes
    )
    others["sqlite-store"] = CopilotRuntime(
        AGENTS, base_path=base_path, store=in_a_file(), limits=LIMITS, **probes
    )
    # The client that reads nothing is not to be dropped for that.
    others["long-histories"] = CopilotRuntime(AGENTS, base_path=base_path, store=LongHistories())
    abandoned = {
        "abandoned": None,
        **{f"abandoned-{name}": store for name, store in stores.items()},
    }
    for name, kept_by in abandoned.items():
        others[name] = CopilotRuntime(
            AGENTS | FAULTY,
            base_path=base_path,
            store=kept_by,  # type: ignore[arg-type] # as above
            limits=LIMITS,
            stop_when_abandoned=ABANDONED_SECONDS,
        )
    # A crowd that waits, at the heartbeats of the others, is all that a server would be busy with.
    others["calm"] = CopilotRuntime(AGENTS | FAULTY, base_path=base_path)
    others["large-bodies"] = CopilotRuntime(
        AGENTS, base_path=base_path, limits=attrs.evolve(LIMITS, body_bytes=LARGE_BODY_BYTES)
    )
    others["contexts"] = make_looking_runtime(base_path=base_path, limits=LIMITS)
    others["faults"] = make_faulty_runtime(base_path=base_path, limits=LIMITS)
    others["blocking-faults"] = make_faulty_runtime(
        blocking=True, base_path=base_path, limits=LIMITS
    )
    owned = {
        "users": MemoryStore(),
        "users-plain": MemoryStore(),
        "users-async-store": AsyncStore(),
        "users-sqlite-store": in_a_file(),
    }
    others |= make_runtimes(AGENTS, owned, base_path=base_path, limits=LIMITS)
    enveloped = {f"{name}-single": store for name, store in owned.items()}
    others |= make_runtimes(
        AGENTS, enveloped, mode="single-route", base_path=base_path, limits=LIMITS
    )
    limited = {"users-limited": MemoryStore()}
    others |= make_runtimes(
        AGENTS, limited, base_path=base_path, limits=attrs.evolve(LIMITS, user_runs=1)
    )
    return ConfiguredRuntime(
        AGENTS | FAULTY,
        others,
        base_path=base_path,
        hooks=make_hooks(),
        transcription=transcribe,
        limits=LIMITS_OF_A_SERVER[limits],
        thread_mutations=True,
        debug=True,
        on_start=cannot_start if limits == "cannot-start" else on_start,
        on_close=on_close,
        **probes,
    )
