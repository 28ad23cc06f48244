"""The interrupts that a thread waits for when a run begins, and the answers that fit them.

A run that ends with an interrupt asks its user something, and the next run has the answers in
``input.resume`` (AG-UI 1.1, "Interrupts and Resume"). A page may send an answer twice: after a
double click, from a second tab, or because the response was lost. The input alone does not tell
the agent so, but the thread does: an interrupt is

- *open* until a run begins that answers it;
- *answered* if the run that was given the answer has failed. A client goes on to wait for it, and
  sends an answer with each input, but the run may have done what was approved before it failed;
- unknown otherwise, because a run has ended well since it was asked, or was stopped.

An agent acts on the answers of open interrupts only, so that it does once what was approved once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, TypeAlias

from ag_ui.core import ResumeEntry
from msgspec import Struct

from .. import json_codec
from ..errors import shorten

logger = logging.getLogger(__name__)

InterruptStatus: TypeAlias = Literal["open", "answered"]
_LONGEST_ID: Final = 128
"""The most characters of an interrupt's id that a thread remembers as it is."""


class ResumeRefused(Exception):
    """The answers of a ``resume`` cannot be acted on; the text is for clients."""


def remembered_id(interrupt_id: str) -> str:
    """Return the id by which a thread remembers an interrupt.

    A long id is remembered by its beginning and a digest, so that an answer is never taken for that
    of another interrupt. It stays longer than any id that is remembered as it is, so that no
    client can send it as one.
    """
    if len(interrupt_id) <= _LONGEST_ID:
        return interrupt_id
    digest = hashlib.sha256(interrupt_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{interrupt_id[:_LONGEST_ID]}...{digest}"


class ThreadInterrupts(Struct, frozen=True):
    """The interrupts that a thread waits for.

    :param statuses: their ids as :func:`remembered_id` makes them, each with its status.
    """

    statuses: Mapping[str, InterruptStatus]

    @classmethod
    def of(cls, waits_for: bytes) -> ThreadInterrupts:
        """Read them from what a thread waits for.

        :param waits_for: see :attr:`~sansio_copilot.stores.RunOpened.waits_for`.
        """
        told = json_codec.decode(waits_for)["interrupts"]
        return cls(
            {
                one["id"]: "answered" if one.get("answered") else "open"
                for one in told
                if "id" in one
            }
        )

    def status(self, interrupt_id: str) -> InterruptStatus | None:
        """The status of an interrupt; None if the thread does not wait for it."""
        return self.statuses.get(remembered_id(interrupt_id))

    def open_beside(self, interrupt_ids: Iterable[str]) -> list[str]:
        """The open interrupts that are not among ``interrupt_ids``."""
        given = set(map(remembered_id, interrupt_ids))
        return [
            one for one, status in self.statuses.items() if status == "open" and one not in given
        ]


NO_INTERRUPTS: Final = ThreadInterrupts({})


def answers_to_act_on(
    resume: Collection[ResumeEntry], interrupts: ThreadInterrupts | None
) -> list[ResumeEntry]:
    """The entries of ``resume`` that an agent may act on: those that answer open interrupts.

    The others are left out, and logged, because a client that waits for an interrupt can send
    nothing without an answer to it. But a run in which nothing at all fits would only repeat what
    the thread has done already, and is refused.

    :param interrupts: those that the thread waits for; None if that is not known, so that every
        entry counts as fitting.
    :raises ResumeRefused: if two entries contradict each other, if the thread waits for none of the
        interrupts, or if an open one is not among them.
    """
    entries: dict[str, ResumeEntry] = {}
    for entry in resume:
        other = entries.setdefault(entry.interrupt_id, entry)
        if (other.status, other.payload) != (entry.status, entry.payload):
            raise ResumeRefused(f"{_named(entry.interrupt_id)} has two different answers")
    if interrupts is None or not entries:
        return list(entries.values())
    if not any(map(interrupts.status, entries)):
        raise ResumeRefused(
            f"{_named(next(iter(entries)))} is not open: it was answered before, or the thread has "
            "gone on. Load the thread again"
        )
    if missing := interrupts.open_beside(entries):
        raise ResumeRefused(f"{_named(missing[0])} is open too, and has no answer")
    usable = [
        entry for entry in entries.values() if interrupts.status(entry.interrupt_id) == "open"
    ]
    if len(usable) < len(entries):
        logger.warning(
            "answers of interrupts that are not open are left out: %d", len(entries) - len(usable)
        )
    return usable


def _named(interrupt_id: str) -> str:
    return f"interrupt '{shorten(interrupt_id, _LONGEST_ID)}'"
