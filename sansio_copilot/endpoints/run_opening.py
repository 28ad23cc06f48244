"""Opening and ending runs, for the endpoints that do it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from ag_ui.core import RunAgentInput

from ..agents.attributes import check_headers
from ..agents.disclosure import Teller
from ..agents.interrupts import NO_INTERRUPTS, ThreadInterrupts
from ..agents.protocols import Agent, AgentContext
from ..runs.machine import Run
from ..runs.quotas import QuotaSlot
from ..runs.recorder import RunRecorder
from ..stores.protocol import RunOpened, RunRequest, ThreadStore
from .request_and_reply import STREAM, EndpointInput, LogStream, Reply


def run_request(given: EndpointInput, input: RunAgentInput, owner: str | None) -> RunRequest:
    """The request by which the store opens a run.

    :param owner: the user who owns the thread, or will own it if it is new.
    """
    assert given.route.agent_id is not None
    message_ids = tuple([message.id for message in input.messages])
    return RunRequest(
        input.thread_id, input.run_id, given.route.agent_id, message_ids, given.now, owner
    )


def new_recorder(
    given: EndpointInput,
    opened: RunOpened,
    input: Mapping[str, Any] | None,
    known_message_ids: Collection[str] = (),
) -> RunRecorder:
    """A recorder for a run that has just been opened, with the settings of the runtime.

    :param input: see :class:`~sansio_copilot.runs.recorder.RunRecorder`, as for the rest.
    """
    runtime = given.runtime
    return RunRecorder(
        opened.key,
        input,
        known_message_ids,
        runtime.limits,
        raw_events=runtime.raw_events,
        teller=Teller(given.route.agent_id, runtime.error_message),
        waits_for=opened.waits_for,
    )


def run_reply(
    given: EndpointInput,
    agent: Agent,
    input: RunAgentInput,
    store: ThreadStore,
    opened: RunOpened,
    recorder: RunRecorder,
    owner: str | None,
    quota_slot: QuotaSlot | None,
    *,
    ephemeral: bool = False,
) -> Reply:
    """The reply that starts an open run and streams it.

    :param store: the store that has opened the run.
    :param owner: the user who owns the thread.
    :param quota_slot: the slot of the run among those of the user who starts it.
    :param ephemeral: whether the run dies with its client.
    """
    assert given.route.agent_id is not None
    if (configured := getattr(agent, "headers", None)) is not None:
        check_headers(f"agent {given.route.agent_id!r}", configured)
    headers = given.runtime.forward_headers.merge(configured, given.request.headers)
    # The request that a run keeps has no body, because a run may last for hours, and the body is
    # its input.
    request = given.request.outlived()
    context = AgentContext(given.route.agent_id, request, headers, user=given.user)
    waited = opened.waits_for
    context.interrupts = NO_INTERRUPTS if waited is None else ThreadInterrupts.of(waited)
    limits = given.runtime.limits
    run = Run(agent, input, context, store, opened.key, recorder, opened.lease, limits)
    run.ephemeral, run.owner = ephemeral, owner
    if quota_slot is not None:
        run.quota_slot, quota_slot.is_kept = quota_slot, True
    run.metrics = given.runtime.metrics
    run.on_end, run.title = given.runtime.hooks.on_run_end, given.runtime.title
    if given.runtime.debug_feeds is not None and not ephemeral:
        run.tap = partial(
            given.runtime.debug_feeds.publish, owner, given.route.agent_id, opened.key
        )
    if given.runtime.audiences is not None and not ephemeral:
        run.audience = given.runtime.audiences.open(input.thread_id, owner)
        run.abandon_seconds = given.runtime.stop_when_abandoned
    return Reply(STREAM, LogStream(store, opened.cursor, run, ephemeral, audience=run.audience))
