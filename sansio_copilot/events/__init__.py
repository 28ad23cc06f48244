"""Machines over AG-UI event streams: pure, incremental, and usable on their own.

An event is a dict of the AG-UI JSON shape. Each machine comes twice: as a class that is fed
event by event, and as a function over a list of events.

=====================  ======================  =================================================
class                  function                what it is for
=====================  ======================  =================================================
ChunkExpander          expand_chunks           writes ``*_CHUNK`` events out
ThinkingUpgrader                               upgrades deprecated ``THINKING_*`` events
Verifier               verify_events           refuses an event that may not come next
Finalizer              finalize_events         ends the messages that a run left open
Compactor              compact_events          fewer events that fold to the same
MessageFolder          fold_messages           the conversation
StateFolder            fold_state              the shared state
=====================  ======================  =================================================

A run feeds the events of its agent through them in that order, after :func:`normalize_event`,
which gives an event the form that every client reads, or refuses it; the machines rely on that.
No machine changes an event that it is fed. :class:`EventError` is the only exception they document.

Source: https://docs.ag-ui.com/concepts/events, and the TypeScript implementation in
``@ag-ui/client`` 0.0.59, whose behaviour is the reference.
"""

from .chunk_events import ChunkExpander, expand_chunks
from .compact import Compactor, compact_events
from .finalize import Finalizer, finalize_events
from .message_folder import MessageFolder, fold_messages
from .normalize import KNOWN_TYPES, normalize_event, normalize_input
from .state import StateFolder, fold_state
from .thinking import ThinkingUpgrader
from .types import Event, EventError
from .verify import Verifier, verify_events

__all__ = [
    "KNOWN_TYPES",
    "ChunkExpander",
    "Compactor",
    "Event",
    "EventError",
    "Finalizer",
    "MessageFolder",
    "StateFolder",
    "ThinkingUpgrader",
    "Verifier",
    "compact_events",
    "expand_chunks",
    "finalize_events",
    "fold_messages",
    "fold_state",
    "normalize_event",
    "normalize_input",
    "verify_events",
]
