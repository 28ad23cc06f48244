"""The functions of a PostgreSQL store: the steps that must not overlap, each in one round trip.

Each function that writes begins by taking the lock of its thread (``pg_advisory_xact_lock``), which
is held to the end of the transaction and no longer. A transaction has the calls of many threads, in
the order of their locks; so two processes never wait for each other.

A process is notified on a channel of its own, by payloads that may be lost: ``a RUN AT BASE64`` for
appended frames, ``n RUN`` if they are too long or the run has ended, ``stop RUN``, ``sealed RUN``.
"""

from __future__ import annotations

from typing import Final

LONGEST_PAYLOAD: Final = 5500
"""The most bytes of frames in a notification; in base64 and with its head it has less than
8,000."""

FUNCTIONS: Final = """
CREATE OR REPLACE FUNCTION {s}.tell(process text, payload text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF process <> '' THEN PERFORM pg_notify('{s}_' || process, payload); END IF;
END $$;

CREATE OR REPLACE FUNCTION {s}.tell_followers(r {s}.run, payload text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE follower text;
BEGIN
    FOREACH follower IN ARRAY r.followers LOOP PERFORM {s}.tell(follower, payload); END LOOP;
END $$;

CREATE OR REPLACE FUNCTION {s}.withdraw(which bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {s}.history WHERE run = which;
    UPDATE {s}.run SET sealable = false, message_ids = '{{}}', messages = NULL, json = NULL,
        waits_for = NULL WHERE id = which;
END $$;

CREATE OR REPLACE FUNCTION {s}.add_result(
    which bigint, ats bigint[], pieces bytea[], messages_ bytea, json_ bytea, ids bytea[],
    ended double precision, waits bytea DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {s}.history WHERE run = which;
    INSERT INTO {s}.history SELECT which, * FROM unnest(ats, pieces);
    UPDATE {s}.run SET sealable = true, message_ids = ids, messages = messages_, json = json_,
        ended_at = ended, waits_for = waits WHERE id = which;
END $$;

-- Adds what is news, and returns the size after it; -1 if there is a gap.
CREATE OR REPLACE FUNCTION {s}.add(r {s}.run, at_ bigint, frames bytea) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE news bytea := frames; payload text; follower text;
BEGIN
    IF at_ > r.size THEN RETURN -1; END IF;
    IF at_ < r.size THEN
        IF r.size - at_ >= length(frames) THEN RETURN r.size; END IF;
        news := substring(frames FROM (r.size - at_)::integer + 1);
    END IF;
    IF length(news) = 0 THEN RETURN r.size; END IF;
    INSERT INTO {s}.frame VALUES (r.id, r.size, news);
    IF cardinality(r.followers) > 0 THEN
        IF length(news) <= {longest} THEN
            payload := 'a ' || r.id || ' ' || r.size || ' '
                || translate(encode(news, 'base64'), E'\\n', '');
        ELSE
            payload := 'n ' || r.id;
        END IF;
        PERFORM {s}.tell_followers(r, payload);
    END IF;
    RETURN r.size + length(news);
END $$;

CREATE OR REPLACE FUNCTION {s}.drop_run(which bigint, resume interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {s}.message m USING {s}.run r
        WHERE r.id = which AND m.thread = r.thread AND m.message_id = ANY (r.message_ids)
        AND m.run = which;
    DELETE FROM {s}.history WHERE run = which;
    UPDATE {s}.run SET state = 2, thread = NULL, raw_until = now() + resume WHERE id = which;
END $$;

CREATE OR REPLACE FUNCTION {s}.finish(
    r {s}.run, has_result boolean, resume interval, resumable integer, most integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE t {s}.thread; done {s}.run; last bigint;
BEGIN
    SELECT * INTO done FROM {s}.run WHERE id = r.id;
    IF has_result AND done.thread IS NOT NULL THEN
        SELECT * INTO t FROM {s}.thread WHERE id = done.thread;
        SELECT max(id) INTO last FROM {s}.run WHERE thread = t.id AND state = 1;
        UPDATE {s}.thread SET
            runs = t.runs + 1,
            created_at = CASE WHEN t.runs = 0 THEN done.ended_at ELSE t.created_at END,
            updated_at = CASE WHEN t.runs = 0 THEN done.ended_at
                ELSE greatest(t.updated_at, done.ended_at) END,
            agent_id = CASE WHEN coalesce(last, 0) < r.id THEN done.agent_id ELSE t.agent_id END,
            messages = CASE WHEN coalesce(last, 0) < r.id AND done.messages IS NOT NULL
                THEN done.messages ELSE t.messages END,
            state = CASE WHEN coalesce(last, 0) < r.id AND done.json IS NOT NULL
                THEN done.json ELSE t.state END,
            waits_for = CASE WHEN coalesce(last, 0) < r.id THEN done.waits_for
                ELSE t.waits_for END
            WHERE id = t.id;
        INSERT INTO {s}.message SELECT t.id, unnest(done.message_ids), r.id
            ON CONFLICT DO NOTHING;
        UPDATE {s}.run SET state = 1, process = '', sealable = false, stop = 0, messages = NULL,
            json = NULL, waits_for = NULL WHERE id = r.id;
        IF resumable >= 0 THEN
            UPDATE {s}.run SET raw_until = now() + resume WHERE raw_until IS NULL AND id = (
                SELECT id FROM {s}.run WHERE thread = t.id AND state = 1
                ORDER BY id DESC LIMIT 1 OFFSET resumable);
        END IF;
        IF most > 0 AND t.runs + 1 > most THEN
            PERFORM {s}.drop_oldest(t, t.runs + 1 - most, resume);
        ELSIF most = 0 AND t.runs + 1 - t.bound_runs >= {volume_runs} THEN
            PERFORM {s}.bind(t);
        END IF;
    ELSE
        DELETE FROM {s}.history WHERE run = r.id;
        UPDATE {s}.run SET state = 2, process = '', sealable = false, stop = 0, messages = NULL,
            json = NULL, waits_for = NULL, thread = NULL, raw_until = now() + resume
            WHERE id = r.id;
        DELETE FROM {s}.thread gone WHERE gone.id = done.thread AND gone.runs = 0
            AND NOT EXISTS (SELECT 1 FROM {s}.run WHERE thread = gone.id);
    END IF;
    PERFORM {s}.tell_followers(done, 'n ' || r.id);
END $$;

-- Hands a run out that has lost its owner, and fences that owner out.
CREATE OR REPLACE FUNCTION {s}.claim(r {s}.run, handed interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {s}.run SET process = '', lease = clock_timestamp() + handed WHERE id = r.id;
END $$;

CREATE OR REPLACE FUNCTION {s}.is_lost(r {s}.run) RETURNS boolean LANGUAGE sql AS $$
    SELECT r.process = '' OR r.lease < clock_timestamp()
$$;

-- What a thread has waited for before a run; nothing if an earlier run is still open.
CREATE OR REPLACE FUNCTION {s}.waited_before(t {s}.thread, which bigint) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM {s}.run
        WHERE thread = t.id AND state = 0 AND id < which) THEN t.waits_for END
$$;

-- "other" is the run that is in the way, or else what the thread has waited for.
CREATE OR REPLACE FUNCTION {s}.open_run(
    lock_ bigint, thread_id_ bytea, owner_ bytea, run_id_ bytea, agent_id_ bytea, process_ text,
    opened double precision, lease_ interval, handed interval, resume interval,
    resumable integer, most integer, supersedes boolean, ids bytea[],
    OUT outcome text, OUT run bigint, OUT other bytea, OUT known bytea[]
) LANGUAGE plpgsql AS $$
DECLARE t {s}.thread; r {s}.run; newest bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO t FROM {s}.thread WHERE thread_id = thread_id_;
    IF t.id IS NULL THEN
        INSERT INTO {s}.thread (thread_id, owner) VALUES (thread_id_, owner_) RETURNING * INTO t;
    ELSIF t.owner <> owner_ THEN
        outcome := 'other';
        RETURN;
    END IF;
    SELECT max(id) INTO newest FROM {s}.run WHERE thread = t.id AND state = 0;
    FOR r IN SELECT * FROM {s}.run WHERE thread = t.id AND state = 0 ORDER BY id LOOP
        run := r.id;
        IF r.id = newest AND r.sealable THEN
            PERFORM {s}.finish(r, true, resume, resumable, most);
            PERFORM {s}.tell(r.process, 'sealed ' || r.id);
        ELSIF {s}.is_lost(r) THEN
            PERFORM {s}.claim(r, handed);
            outcome := 'orphan';
            RETURN;
        ELSIF r.id < newest THEN
            CONTINUE;
        ELSIF r.run_id = run_id_ AND r.process = process_ AND r.opened_at = opened
                AND r.agent_id = agent_id_ AND r.size = 0 THEN
            outcome := 'again';
            EXIT;
        ELSIF NOT supersedes THEN
            outcome := 'busy';
            other := r.run_id;
            RETURN;
        ELSIF r.stop = 0 THEN
            UPDATE {s}.run SET stop = 1 WHERE id = r.id;
            PERFORM {s}.tell(r.process, 'stop ' || r.id);
        END IF;
    END LOOP;
    IF outcome IS NULL THEN
        INSERT INTO {s}.run (thread, lock, thread_id, run_id, agent_id, process, lease, opened_at)
            VALUES (t.id, lock_, thread_id_, run_id_, agent_id_, process_,
                    clock_timestamp() + lease_, opened)
            RETURNING id INTO run;
        outcome := 'opened';
    END IF;
    SELECT {s}.waited_before(kept, run) INTO other FROM {s}.thread kept WHERE id = t.id;
    SELECT array_agg(DISTINCT m.message_id) INTO known FROM {s}.message m
        WHERE m.thread = t.id AND m.message_id = ANY (ids);
END $$;

CREATE OR REPLACE FUNCTION {s}.append(
    lock_ bigint, which bigint, process_ text, at_ bigint, lease_ interval, frames bytea,
    has_result boolean, ats bigint[], pieces bytea[], messages_ bytea, json_ bytea, ids bytea[],
    ended double precision, waits bytea DEFAULT NULL, OUT told integer, OUT size_ bigint
) LANGUAGE plpgsql AS $$
DECLARE r {s}.run;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO r FROM {s}.run WHERE id = which;
    IF r.id IS NULL OR r.state <> 0 OR r.process <> process_ THEN
        told := 2;
        RETURN;
    END IF;
    size_ := {s}.add(r, at_, frames);
    IF size_ < 0 THEN
        told := -1;
        size_ := r.size;
        RETURN;
    END IF;
    told := r.stop;
    UPDATE {s}.run SET size = size_, lease = clock_timestamp() + lease_ WHERE id = which;
    IF has_result THEN
        PERFORM {s}.add_result(which, ats, pieces, messages_, json_, ids, ended, waits);
    ELSIF r.sealable AND size_ > r.size THEN
        PERFORM {s}.withdraw(which);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION {s}.close_run(
    lock_ bigint, which bigint, at_ bigint, frames bytea, resume interval, resumable integer,
    most integer, given integer, ats bigint[], pieces bytea[], messages_ bytea, json_ bytea,
    ids bytea[], ended double precision, waits bytea DEFAULT NULL, OUT outcome text,
    OUT size_ bigint
) LANGUAGE plpgsql AS $$
DECLARE r {s}.run;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO r FROM {s}.run WHERE id = which;
    outcome := 'over';
    IF r.id IS NULL OR r.state <> 0 THEN RETURN; END IF;
    IF given = 2 AND NOT r.sealable THEN
        outcome := 'resend';
        RETURN;
    END IF;
    size_ := {s}.add(r, at_, frames);
    IF size_ < 0 THEN
        outcome := 'gap';
        size_ := r.size;
        RETURN;
    END IF;
    UPDATE {s}.run SET size = size_ WHERE id = which;
    IF given = 1 THEN
        PERFORM {s}.add_result(which, ats, pieces, messages_, json_, ids, ended, waits);
    END IF;
    PERFORM {s}.finish(r, given > 0, resume, resumable, most);
    outcome := 'closed';
END $$;

-- Has a process told of what is appended from now on.
CREATE OR REPLACE FUNCTION {s}.follow(which bigint, process_ text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE lock_ bigint;
BEGIN
    SELECT lock INTO lock_ FROM {s}.run WHERE id = which AND state = 0;
    IF lock_ IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(lock_);
        UPDATE {s}.run SET followers = array_append(followers, process_)
            WHERE id = which AND state = 0 AND process_ <> ALL (followers);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION {s}.renew(lock_ bigint, which bigint, process_ text, lease_ interval)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE told integer;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    UPDATE {s}.run SET lease = clock_timestamp() + lease_
        WHERE id = which AND state = 0 AND process = process_ RETURNING stop INTO told;
    RETURN coalesce(told, 2);
END $$;

CREATE OR REPLACE FUNCTION {s}.request_stop(
    lock_ bigint, thread_id_ bytea, owner_ bytea, run_id_ bytea, handed interval,
    OUT outcome text, OUT run bigint
) LANGUAGE plpgsql AS $$
DECLARE r {s}.run;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    outcome := 'none';
    SELECT r_.* INTO r FROM {s}.thread t JOIN {s}.run r_ ON r_.thread = t.id AND r_.state = 0
        WHERE t.thread_id = thread_id_ AND t.owner = owner_ ORDER BY r_.id DESC LIMIT 1;
    IF r.id IS NULL OR r.stop <> 0 OR (run_id_ IS NOT NULL AND r.run_id <> run_id_) THEN
        RETURN;
    END IF;
    UPDATE {s}.run SET stop = 1 WHERE id = r.id;
    run := r.id;
    IF {s}.is_lost(r) THEN
        PERFORM {s}.claim(r, handed);
        outcome := 'orphan';
    ELSE
        PERFORM {s}.tell(r.process, 'stop ' || r.id);
        outcome := 'told';
    END IF;
END $$;

-- Hands a run out whose lease has run out; returns whether it did.
CREATE OR REPLACE FUNCTION {s}.claim_run(which bigint, handed interval) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE r {s}.run;
BEGIN
    SELECT * INTO r FROM {s}.run WHERE id = which;
    PERFORM pg_advisory_xact_lock(r.lock);
    SELECT * INTO r FROM {s}.run WHERE id = which;
    IF r.id IS NULL OR r.state <> 0 OR r.lease >= clock_timestamp() THEN RETURN false; END IF;
    PERFORM {s}.claim(r, handed);
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION {s}.delete_thread(
    lock_ bigint, thread_id_ bytea, owner_ bytea, keeps_open boolean, spares_open boolean,
    resume interval
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE t {s}.thread; r {s}.run; has_open boolean := false;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO t FROM {s}.thread WHERE thread_id = thread_id_ AND owner = owner_;
    IF t.id IS NULL THEN RETURN false; END IF;
    has_open := EXISTS (SELECT 1 FROM {s}.run WHERE thread = t.id AND state = 0);
    IF has_open AND spares_open THEN RETURN false; END IF;
    FOR r IN SELECT * FROM {s}.run WHERE thread = t.id AND state = 0 AND NOT keeps_open LOOP
        UPDATE {s}.run SET thread = NULL, stop = 1 WHERE id = r.id;
        PERFORM {s}.tell(r.process, 'stop ' || r.id);
    END LOOP;
    DELETE FROM {s}.message WHERE thread = t.id;
    DELETE FROM {s}.history h USING {s}.run r_
        WHERE r_.thread = t.id AND r_.state = 1 AND h.run = r_.id;
    DELETE FROM {s}.history h USING {s}.volume v WHERE v.thread = t.id AND h.run = v.id;
    DELETE FROM {s}.volume WHERE thread = t.id;
    UPDATE {s}.run SET state = 2, thread = NULL, raw_until = now() + resume
        WHERE thread = t.id AND state = 1;
    IF has_open AND keeps_open THEN
        UPDATE {s}.thread SET runs = 0, messages = NULL, state = NULL, name = NULL,
            archived = false, agent_id = '', waits_for = NULL, bound_runs = 0 WHERE id = t.id;
    ELSE
        DELETE FROM {s}.thread WHERE id = t.id;
    END IF;
    RETURN true;
END $$;
"""
