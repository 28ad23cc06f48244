"""POST /agent/:agentId/suggest: a run that stores nothing and dies with its client."""

from __future__ import annotations

from ..stores.memory import MemoryStore
from ..stores.protocol import RunOpened
from .request_and_reply import EndpointInput, EndpointSteps
from .run_opening import new_recorder, run_reply, run_request


def suggest(given: EndpointInput) -> EndpointSteps:
    """Run the agent into a log of its own that nobody else can name.

    The reference drops the connection when the agent fails; here the stream ends with the
    RUN_ERROR that any other run would end with.
    """
    agent = yield from given.agent()
    parsed = given.run_input()
    with given.quota_slot() as slot:
        store = MemoryStore(resumable_runs=0)
        # The log needs no owner, because nobody else can name it.
        opened = store.open_run(run_request(given, parsed.input, None))
        assert isinstance(opened, RunOpened), "a new store has no busy thread"
        recorder = new_recorder(given, opened, None)
        return run_reply(
            given, agent, parsed.input, store, opened, recorder, None, slot, ephemeral=True
        )
