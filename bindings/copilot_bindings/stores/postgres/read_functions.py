"""The functions of a PostgreSQL store that read frames, each with many rows in one answer.

Each row and each round trip costs the client time, and each plan costs the server time. So a page
comes in one piece, and several pages come at once for a reader that keeps up.
"""

from __future__ import annotations

from typing import Final

READING: Final = """
-- Where a reader of a thread begins. The first row has the numbers of its parts, as a cursor has
-- them, and the others what is read first of them. All is of one moment, because it is stable.
CREATE OR REPLACE FUNCTION {s}.open_thread(thread_id_ bytea, owner_ bytea, most bigint)
RETURNS TABLE (n integer, at bigint, data bytea) LANGUAGE plpgsql STABLE AS $$
DECLARE which bigint; last bigint; parts bigint[];
BEGIN
    SELECT t.id, t.bound INTO which, last FROM {s}.thread t
        WHERE t.thread_id = thread_id_ AND t.owner = owner_;
    IF which IS NULL THEN RETURN; END IF;
    parts := ARRAY(SELECT v.id FROM {s}.volume v WHERE v.thread = which ORDER BY v.id) || ARRAY(
        SELECT CASE r.state WHEN 1 THEN r.id ELSE -r.id END FROM {s}.run r
        WHERE r.thread = which AND r.id > last AND r.state <= 1 ORDER BY r.id);
    n := -1;
    data := convert_to(array_to_string(parts, ' '), 'UTF8');
    RETURN NEXT;
    IF most > 0 THEN
        RETURN QUERY SELECT * FROM {s}.read_parts(parts[:{parts_at_once}], 0, most);
    END IF;
END $$;

-- Compacted frames of parts that follow each other, from a place in the first of them on: rows
-- that have ``most`` bytes or a little more, unless there are fewer, and the index of their part.
CREATE OR REPLACE FUNCTION {s}.read_parts(parts bigint[], offset_ bigint, most bigint)
RETURNS TABLE (n integer, at bigint, data bytea) LANGUAGE plpgsql STABLE AS $$
DECLARE begin_at bigint := 0; few integer := most * 2 / {volume_bytes} + 2;
BEGIN
    -- So many volumes have enough bytes, if each has half of what it may have.
    IF parts[few] >= {first_volume} THEN parts := parts[:few]; END IF;
    IF offset_ > 0 THEN
        SELECT coalesce(max(h.at), 0) INTO begin_at FROM {s}.history h
            WHERE h.run = parts[1] AND h.at <= offset_;
    END IF;
    RETURN QUERY SELECT p.n, p.at, p.data FROM (
            SELECT u.n::integer - 1 AS n, h.at, h.data, sum(length(h.data)) OVER (
                    ORDER BY u.n, h.at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS before
            FROM unnest(parts) WITH ORDINALITY AS u (id, n) CROSS JOIN LATERAL (
                SELECT x.at, x.data FROM {s}.history x
                WHERE x.run = u.id AND x.at >= CASE u.n WHEN 1 THEN begin_at ELSE 0 END
                ORDER BY x.at LIMIT most / {piece_bytes} + 2
            ) h
        ) p WHERE coalesce(p.before, 0) < most + offset_ - begin_at ORDER BY p.n, p.at;
END $$;

-- The compacted frames of a run that was bound after its reader had asked where it is, from a
-- place on; none if it left an empty text.
CREATE OR REPLACE FUNCTION {s}.read_bound(
    which bigint, offset_ bigint, room integer, OUT there boolean, OUT data bytea
) LANGUAGE plpgsql STABLE AS $$
DECLARE bound_in bigint; begin_at bigint; end_at bigint;
BEGIN
    SELECT r.volume, r.volume_from + offset_, least(r.volume_from + offset_ + room, r.volume_to)
        INTO bound_in, begin_at, end_at FROM {s}.run r WHERE r.id = which AND r.state = 1;
    there := FOUND;
    SELECT substring(string_agg(h.data, '' ORDER BY h.at)
            FROM (begin_at - min(h.at))::integer + 1 FOR (end_at - begin_at)::integer)
        INTO data FROM {s}.history h
        WHERE h.run = bound_in AND h.at < end_at AND h.at + length(h.data) > begin_at;
END $$;

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
