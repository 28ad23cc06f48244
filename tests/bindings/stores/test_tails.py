"""Tails tell what they know, say what they do not, and lose no notification."""

from __future__ import annotations

from copilot_bindings.stores.owned_runs import OwnedRuns
from copilot_bindings.stores.tails import TailPiece, Tails
from sansio_copilot.stores.protocol import RunRequest, Signal


class Told:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self, signal: Signal | None = None) -> None:
        self.times += 1
        self.signal = signal


def test_a_run_of_this_process_is_read_as_it_grows() -> None:
    tails, told = Tails(), Told()
    tails.begin(1)
    assert tails.read(1, 0, 10) == TailPiece(b"", False)
    tails.watch(1, 0, told)
    assert tails.followed() == [], "its owner tells of it"
    tails.grew(1, 0, b"abc")
    assert told.times == 1
    assert tails.read(1, 0, 2) == TailPiece(b"ab", False)
    assert tails.read(1, 2, 9) == TailPiece(b"c", False)
    tails.grew(1, 0, b"abc")
    tails.grew(1, 1, b"bcd")
    assert tails.read(1, 0, 10) == TailPiece(b"abcd", False)
    tails.end(1)
    assert tails.read(1, 0, 2) == TailPiece(b"ab", False)
    assert tails.read(1, 2, 9) == TailPiece(b"cd", True)
    assert tails.read(1, 4, 9) == TailPiece(b"", True)


def test_tails_say_which_runs_they_do_not_know() -> None:
    tails = Tails()
    assert tails.read(1, 0, 10) is None
    tails.begin(1)
    tails.grew(1, 5, b"fg")
    assert tails.read(1, 0, 10) is None, "bytes are missing in between"
    assert tails.read(1, 5, 10) == TailPiece(b"fg", False)
    assert tails.read(1, 8, 10) is None
    tails.forget(1)
    assert tails.read(1, 5, 10) is None
    tails.grew(2, 0, b"x")
    tails.end(2)
    tails.lose(2)
    tails.found(2)
    assert tails.read(2, 0, 10) is None, "nobody follows it"


def test_a_run_of_others_is_looked_after_while_somebody_waits() -> None:
    follows, told, gone = Told(), Told(), Told()
    tails = Tails(on_follow=follows)
    cancel = tails.watch(7, 100, told)
    tails.watch(7, 100, gone)()
    assert (follows.times, tails.followed()) == (1, [(7, 100)])
    tails.grew(7, 100, b"abc")
    assert (told.times, gone.times) == (1, 0)
    assert tails.followed() == [], "nobody waits"
    assert tails.read(7, 100, 10) == TailPiece(b"abc", False)
    late = Told()
    tails.watch(7, 100, late)
    assert late.times == 1, "there is more already"
    again = tails.watch(7, 103, told)
    assert tails.followed() == [(7, 103)]
    again()
    cancel()
    assert tails.followed() == []
    tails.end(7)
    tails.watch(7, 103, late)
    assert late.times == 2, "it has ended"


def test_a_run_that_its_owner_here_gives_up_is_followed_like_another_s() -> None:
    follows, told = Told(), Told()
    tails = Tails(on_follow=follows)
    for run in (1, 2):
        tails.begin(run)
        tails.grew(run, 0, b"abc")
    cancel = tails.watch(1, 3, told)
    for run in (1, 2, 3, 1):
        tails.disown(run)
    assert (follows.times, tails.followed()) == (1, [(1, 3)]), "nobody waits for the others"
    tails.watch(2, 3, told)
    assert (follows.times, tails.followed()) == (2, [(1, 3), (2, 3)])
    tails.grew(1, 3, b"d")
    tails.lose(2)
    assert told.times == 2
    assert tails.read(1, 0, 10) == TailPiece(b"abcd", False), "its owner has told more all the same"
    assert tails.read(2, 3, 10) is None
    cancel()
    tails.end(1)
    assert tails.read(1, 4, 10) == TailPiece(b"", True)


def test_readers_of_a_run_that_lost_its_owner_are_sent_to_the_store() -> None:
    tails, told = Tails(), Told()
    tails.watch(7, 0, told)
    tails.lose(7)
    assert told.times == 1
    assert tails.read(7, 0, 10) is None
    tails.watch(7, 0, told)
    assert told.times == 2, "there is something to be done"
    tails.found(7)
    tails.watch(7, 0, told)
    assert (told.times, tails.followed()) == (2, [(7, 0)]), "somebody does it"
    tails.forget(7)
    assert told.times == 3


def kept_of(tails: Tails, run: int) -> int:
    """Return how many bytes are kept of ``run``, which are the last ones."""
    size = tails.known(run) or 0
    return next((size - at for at in range(size) if tails.read(run, at, 1) is not None), 0)


def test_the_tails_that_are_kept_have_bounds() -> None:
    tails = Tails(run_bytes=100, total_bytes=1000, most=3)
    tails.begin(1)
    for at in range(0, 1000, 10):
        tails.grew(1, at, b"0123456789")
    assert tails.read(1, 0, 10) is None
    assert tails.read(1, 900, 1000) == TailPiece(b"0123456789" * 10, False)
    for run in range(2, 30):
        tails.begin(run)
        tails.grew(run, 0, b"x" * 150)
    assert sum(kept_of(tails, run) for run in range(1, 30)) <= 1000
    for run in range(2, 30):
        tails.end(run)
    assert sum(tails.known(run) is not None for run in range(2, 30)) == 3
    tails.begin(40)
    tails.grew(40, 0, b"x" * 5000)
    assert sum(kept_of(tails, run) for run in range(1, 41)) <= 5000
    piece = tails.read(40, 4990, 100)
    assert piece is not None
    assert len(piece.data) == 10


def test_the_tail_of_a_reader_is_not_forgotten_first() -> None:
    tails = Tails(most=2)
    for run in (1, 2):
        tails.begin(run)
        tails.end(run)
    assert tails.read(1, 0, 1) == TailPiece(b"", True)
    tails.begin(3)
    tails.end(3)
    assert tails.read(1, 0, 1) == TailPiece(b"", True)
    assert tails.read(2, 0, 1) is None


def test_owners_are_told_once() -> None:
    owned, told, late = OwnedRuns[int](), Told(), Told()
    owned.watch(1, told)
    assert told.signal is Signal.SEALED, "it is nobody's here"
    owned.begin(1, RunRequest("t", "r", "a"))
    owned.begin(2, RunRequest("t", "r", "a"))
    told.times = 0
    owned.watch(1, told)
    owned.watch(2, late)()
    for run in (1, 2, 3):
        owned.signal(run, Signal.STOP)
        owned.signal(run, Signal.STOP)
    assert (told.times, told.signal, late.times) == (1, Signal.STOP, 0)
    owned.watch(2, late)
    assert (late.times, late.signal) == (1, Signal.STOP)
    owned.signal(1, Signal.SEALED)
    assert (told.times, told.signal) == (2, Signal.SEALED)
    assert list(owned) == [2]
    owned.end(2)
    assert len(owned) == 0
    assert owned.get(2) is None
