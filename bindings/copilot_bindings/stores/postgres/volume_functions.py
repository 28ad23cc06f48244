"""The functions of a PostgreSQL store that bind the oldest runs of a long thread, and drop them.

A reader of a thread is sent rows, and a row of half a kilobyte costs the server and the client as
much as a row of many kilobytes. So the compacted frames of runs are moved into one row, a few dozen
runs at a time, and each run once.
"""

from __future__ import annotations

from typing import Final

BINDING: Final = """
-- Binds the first loose runs of a thread, as many as a volume takes, unless one of them is open.
CREATE OR REPLACE FUNCTION {s}.bind(t {s}.thread) RETURNS void LANGUAGE plpgsql AS $$
DECLARE bound_ bigint[]; has_open boolean; size_ bigint; which bigint;
BEGIN
    SELECT bool_or(l.state = 0), array_agg(l.id ORDER BY l.id)
            FILTER (WHERE l.upto <= {volume_bytes} OR l.n = 1), min(l.upto)
        INTO has_open, bound_, size_
        FROM (
            SELECT f.id, f.state, row_number() OVER (ORDER BY f.id) AS n, sum((
                    SELECT coalesce(sum(length(h.data)), 0) FROM {s}.history h WHERE h.run = f.id
                )) OVER (ORDER BY f.id) AS upto
            FROM (
                SELECT id, state FROM {s}.run WHERE thread = t.id AND id > t.bound AND state <= 1
                ORDER BY id LIMIT {volume_runs}
            ) f
        ) l;
    IF has_open OR bound_ IS NULL THEN RETURN; END IF;
    INSERT INTO {s}.volume (thread, runs) VALUES (t.id, bound_) RETURNING id INTO which;
    UPDATE {s}.run r SET volume = which, volume_from = p.upto - p.size_, volume_to = p.upto
        FROM (
            SELECT b.id, b.size_, sum(b.size_) OVER (ORDER BY b.id) AS upto
            FROM (
                SELECT u.id, (
                        SELECT coalesce(sum(length(h.data)), 0) FROM {s}.history h
                        WHERE h.run = u.id
                    ) AS size_
                FROM unnest(bound_) u (id)
            ) b
        ) p WHERE r.id = p.id;
    IF size_ > {volume_bytes} THEN
        -- A long run is a volume alone, and stays cut into pieces.
        UPDATE {s}.history SET run = which WHERE run = bound_[1];
    ELSE
        INSERT INTO {s}.history SELECT which, 0, coalesce(string_agg(data, '' ORDER BY run, at), '')
            FROM {s}.history WHERE run = ANY (bound_);
        DELETE FROM {s}.history WHERE run = ANY (bound_);
    END IF;
    UPDATE {s}.thread SET bound = bound_[cardinality(bound_)],
        bound_runs = bound_runs + cardinality(bound_) WHERE id = t.id;
END $$;

-- Drops the oldest runs of a thread, at most so many, because a volume goes as a whole.
CREATE OR REPLACE FUNCTION {s}.drop_oldest(t {s}.thread, excess integer, resume interval)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE v {s}.volume; old bigint; dropped integer := 0; unbound integer := 0;
BEGIN
    FOR v IN SELECT * FROM {s}.volume WHERE thread = t.id ORDER BY id LOOP
        EXIT WHEN dropped + cardinality(v.runs) > excess;
        FOREACH old IN ARRAY v.runs LOOP PERFORM {s}.drop_run(old, resume); END LOOP;
        DELETE FROM {s}.history WHERE run = v.id;
        DELETE FROM {s}.volume WHERE id = v.id;
        dropped := dropped + cardinality(v.runs);
        unbound := dropped;
    END LOOP;
    IF unbound = t.bound_runs THEN
        FOR old IN SELECT id FROM {s}.run WHERE thread = t.id AND state = 1 ORDER BY id
            LIMIT excess - dropped
        LOOP
            PERFORM {s}.drop_run(old, resume);
            dropped := dropped + 1;
        END LOOP;
    END IF;
    UPDATE {s}.thread SET runs = runs - dropped, bound_runs = bound_runs - unbound WHERE id = t.id;
END $$;
"""
