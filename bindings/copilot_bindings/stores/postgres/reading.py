"""The functions of a PostgreSQL store that read frames, each many rows in one answer.

A client takes its time for each row and each round trip, and the server for each plan: so a page
comes in one piece, and several pages at once for a reader that keeps up.
"""

from __future__ import annotations

from typing import Final

READING: Final = """
-- Compacted runs that follow each other, from a place in the first of them on: at most so many
-- pages of ``room`` bytes, where each ends, and how many of the runs are history. It is of one
-- moment, because it is stable.
CREATE OR REPLACE FUNCTION {s}.read_history(
    runs bigint[], offset_ bigint, room integer, most integer
) RETURNS TABLE (there bigint, data bytea, last bigint, until bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE piece record; begin_at bigint; taken integer := 0; rest bytea; chunks bytea[] := '{{}}';
    has_bound boolean;
BEGIN
    SELECT count(*), bool_or(volume IS NOT NULL) INTO there, has_bound
        FROM {s}.run WHERE id = ANY (runs) AND state = 1;
    SELECT coalesce(max(h.at), 0) INTO begin_at FROM {s}.history h
        WHERE h.run = runs[1] AND h.at <= offset_;
    FOR piece IN SELECT h.run, h.at, h.data FROM {s}.history h
        WHERE h.run = ANY (runs) AND (h.run, h.at) >= (runs[1], begin_at)
        UNION ALL SELECT r.id, 0, {s}.bound_frames(r) FROM {s}.run r
        WHERE has_bound AND r.id = ANY (runs) AND r.state = 1 AND r.volume IS NOT NULL
        ORDER BY run, at
    LOOP
        rest := piece.data;
        IF piece.run = runs[1] AND piece.at < offset_ THEN
            rest := substring(rest FROM (offset_ - piece.at)::integer + 1);
        END IF;
        WHILE taken + length(rest) >= room LOOP
            chunks := array_append(chunks, substring(rest FOR room - taken));
            rest := substring(rest FROM room - taken + 1);
            data := {s}.joined(chunks);
            last := piece.run;
            until := piece.at + length(piece.data) - length(rest);
            RETURN NEXT;
            most := most - 1;
            IF most = 0 THEN RETURN; END IF;
            taken := 0;
            chunks := '{{}}';
        END LOOP;
        chunks := array_append(chunks, rest);
        taken := taken + length(rest);
    END LOOP;
    data := {s}.joined(chunks);
    RETURN NEXT;
END $$;

-- The frames of a run that was bound after its reader had asked where it is.
CREATE OR REPLACE FUNCTION {s}.bound_frames(r {s}.run) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT substring(string_agg(h.data, '' ORDER BY h.at) FROM r.volume_from::integer + 1
            FOR (r.volume_to - r.volume_from)::integer)
        FROM {s}.history h WHERE h.run = r.volume
$$;

CREATE OR REPLACE FUNCTION {s}.joined(chunks bytea[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(string_agg(c, '' ORDER BY n), '')
        FROM unnest(chunks) WITH ORDINALITY AS u (c, n)
$$;

-- The same of a run as it was appended, with what it is.
CREATE OR REPLACE FUNCTION {s}.read_raw(
    which bigint, offset_ bigint, room integer,
    OUT state_ smallint, OUT size_ bigint, OUT is_lost boolean, OUT data bytea
) LANGUAGE plpgsql STABLE AS $$
DECLARE begin_at bigint;
BEGIN
    SELECT state, size, lease < clock_timestamp() INTO state_, size_, is_lost
        FROM {s}.run WHERE id = which;
    SELECT coalesce(max(at), 0) INTO begin_at FROM {s}.frame
        WHERE run = which AND at <= offset_;
    SELECT substring(string_agg(f.data, '' ORDER BY f.at) FROM (offset_ - min(f.at))::integer + 1
            FOR room)
        INTO data FROM {s}.frame f
        WHERE f.run = which AND f.at >= begin_at AND f.at < offset_ + room;
END $$;
"""
