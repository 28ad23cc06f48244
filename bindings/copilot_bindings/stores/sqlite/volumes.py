"""The oldest runs of a long thread, bound together, because a row costs as much to read as
kilobytes do.

No loose run is older than a bound one, and the last bound run is the thread's ``bound``: so volumes
followed by loose runs are the history. A run that is bound knows its volume, and where it begins
and ends there.
"""

from __future__ import annotations

import json
import sqlite3

from ..compacted_frames import VOLUME_BYTES, VOLUME_RUNS
from .schema import OPEN

_AT_ONCE = 16
"""The volumes of a deleted thread that are removed in one transaction."""


def range_of(part: int) -> tuple[int, int]:
    """The ids of the rows of a run or a volume: the first, and the one behind the last."""
    return part << 32, (part + 1) << 32


def bind(db: sqlite3.Connection, thread: int) -> None:
    """Bind the first loose runs, as many as a volume takes, unless one of them is open."""
    found = db.execute(
        "SELECT id, state FROM run WHERE thread = ? AND state < 2"
        " AND id > (SELECT bound FROM thread WHERE id = ?) ORDER BY id LIMIT ?",
        (thread, thread, VOLUME_RUNS),
    ).fetchall()
    if any(state == OPEN for _, state in found):
        return
    places: list[tuple[int, int, int]] = []
    size = 0
    for run, _ in found:
        (more,) = db.execute(
            "SELECT COALESCE(SUM(LENGTH(data)), 0) FROM history WHERE id >= ? AND id < ?",
            range_of(run),
        ).fetchone()
        if places and size + more > VOLUME_BYTES:
            break
        places.append((run, size, size + more))
        size += more
    runs = [run for run, _, _ in places]
    volume = db.execute(
        "INSERT INTO volume (thread, runs) VALUES (?, ?)", (thread, json.dumps(runs))
    ).lastrowid
    assert volume is not None
    if size > VOLUME_BYTES:
        # A long run is a volume alone, and stays cut into pieces.
        db.execute(
            "UPDATE history SET id = id + ? WHERE id >= ? AND id < ?",
            ((volume - runs[0]) << 32, *range_of(runs[0])),
        )
    else:
        data = b"".join([frames_of(db, run) for run in runs])
        db.execute("INSERT INTO history (id, data) VALUES (?, ?)", (volume << 32, data))
        db.executemany("DELETE FROM history WHERE id >= ? AND id < ?", map(range_of, runs))
    db.executemany(
        "UPDATE run SET volume = ?, volume_from = ?, volume_to = ? WHERE id = ?",
        [(volume, begin, end, run) for run, begin, end in places],
    )
    db.execute(
        "UPDATE thread SET bound = ?, bound_runs = bound_runs + ? WHERE id = ?",
        (runs[-1], len(runs), thread),
    )


def frames_of(db: sqlite3.Connection, part: int) -> bytes:
    """The compacted frames of a loose run or a volume."""
    rows = db.execute(
        "SELECT data FROM history WHERE id >= ? AND id < ? ORDER BY id", range_of(part)
    ).fetchall()
    return b"".join([data for (data,) in rows])


def drop_oldest(db: sqlite3.Connection, thread: int, count: int) -> list[int]:
    """Drop the first volumes, each as a whole.

    :returns: the runs of these volumes, and then loose runs to drop: at most ``count`` together.
    """
    runs: list[int] = []
    for volume, bound in db.execute(
        "SELECT id, runs FROM volume WHERE thread = ? ORDER BY id", (thread,)
    ).fetchall():
        members = json.loads(bound)
        if len(runs) + len(members) > count:
            return runs
        runs += members
        drop(db, volume)
        db.execute(
            "UPDATE thread SET bound_runs = bound_runs - ? WHERE id = ?", (len(members), thread)
        )
    loose = db.execute(
        "SELECT id FROM run WHERE thread = ? AND state = 1"
        " AND id > (SELECT bound FROM thread WHERE id = ?) ORDER BY id LIMIT ?",
        (thread, thread, count - len(runs)),
    ).fetchall()
    return runs + [run for (run,) in loose]


def drop_some(db: sqlite3.Connection, thread: int) -> bool:
    """Drop some of the volumes of a deleted thread; returns whether there were any."""
    rows = db.execute(
        "SELECT id FROM volume WHERE thread = ? LIMIT ?", (thread, _AT_ONCE)
    ).fetchall()
    for (volume,) in rows:
        drop(db, volume)
    return bool(rows)


def drop(db: sqlite3.Connection, volume: int) -> None:
    """Forget a volume, and its frames."""
    db.execute("DELETE FROM history WHERE id >= ? AND id < ?", range_of(volume))
    db.execute("DELETE FROM volume WHERE id = ?", (volume,))
