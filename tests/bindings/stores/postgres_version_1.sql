CREATE TABLE SCHEMA.thread (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread_id bytea NOT NULL UNIQUE,
    owner bytea NOT NULL,
    agent_id bytea NOT NULL DEFAULT '',
    created_at double precision NOT NULL DEFAULT 0,
    updated_at double precision NOT NULL DEFAULT 0,
    name bytea,
    archived boolean NOT NULL DEFAULT false,
    runs integer NOT NULL DEFAULT 0,
    messages bytea,
    state bytea
);
CREATE INDEX ON SCHEMA.thread (owner, updated_at DESC, thread_id) WHERE runs > 0;
CREATE INDEX ON SCHEMA.thread (updated_at) WHERE runs > 0;
CREATE TABLE SCHEMA.run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread bigint REFERENCES SCHEMA.thread ON DELETE SET NULL,
    lock bigint NOT NULL,
    thread_id bytea NOT NULL,
    run_id bytea NOT NULL,
    agent_id bytea NOT NULL,
    state smallint NOT NULL DEFAULT 0,
    process text NOT NULL,
    lease timestamptz NOT NULL,
    stop smallint NOT NULL DEFAULT 0,
    sealable boolean NOT NULL DEFAULT false,
    opened_at double precision NOT NULL,
    size bigint NOT NULL DEFAULT 0,
    followers text[] NOT NULL DEFAULT '{}',
    raw_until timestamptz,
    message_ids bytea[] NOT NULL DEFAULT '{}',
    ended_at double precision NOT NULL DEFAULT 0,
    messages bytea,
    json bytea
) WITH (fillfactor = 60);
CREATE INDEX ON SCHEMA.run (thread, id);
CREATE INDEX ON SCHEMA.run (thread, id) WHERE state = 0;
CREATE INDEX ON SCHEMA.run (raw_until) WHERE raw_until IS NOT NULL;
CREATE TABLE SCHEMA.frame (
    run bigint NOT NULL, at bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (run, at)
);
CREATE TABLE SCHEMA.history (
    run bigint NOT NULL, at bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (run, at)
);
CREATE TABLE SCHEMA.message (
    thread bigint NOT NULL REFERENCES SCHEMA.thread ON DELETE CASCADE,
    message_id bytea NOT NULL,
    run bigint NOT NULL,
    PRIMARY KEY (thread, message_id, run)
);

CREATE FUNCTION SCHEMA.tell(process text, payload text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF process <> '' THEN PERFORM pg_notify('SCHEMA_' || process, payload); END IF;
END $$;

CREATE FUNCTION SCHEMA.tell_followers(r SCHEMA.run, payload text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE follower text;
BEGIN
    FOREACH follower IN ARRAY r.followers LOOP PERFORM SCHEMA.tell(follower, payload); END LOOP;
END $$;

CREATE FUNCTION SCHEMA.withdraw(which bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM SCHEMA.history WHERE run = which;
    UPDATE SCHEMA.run SET sealable = false, message_ids = '{}', messages = NULL, json = NULL
        WHERE id = which;
END $$;

CREATE FUNCTION SCHEMA.add_result(
    which bigint, ats bigint[], pieces bytea[], messages_ bytea, json_ bytea, ids bytea[],
    ended double precision
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM SCHEMA.history WHERE run = which;
    INSERT INTO SCHEMA.history SELECT which, * FROM unnest(ats, pieces);
    UPDATE SCHEMA.run SET sealable = true, message_ids = ids, messages = messages_, json = json_,
        ended_at = ended WHERE id = which;
END $$;

-- Adds what is news, and returns the size after it; -1 if there is a gap.
CREATE FUNCTION SCHEMA.add(r SCHEMA.run, at_ bigint, frames bytea) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE news bytea := frames; payload text; follower text;
BEGIN
    IF at_ > r.size THEN RETURN -1; END IF;
    IF at_ < r.size THEN
        IF r.size - at_ >= length(frames) THEN RETURN r.size; END IF;
        news := substring(frames FROM (r.size - at_)::integer + 1);
    END IF;
    IF length(news) = 0 THEN RETURN r.size; END IF;
    INSERT INTO SCHEMA.frame VALUES (r.id, r.size, news);
    IF cardinality(r.followers) > 0 THEN
        IF length(news) <= 5500 THEN
            payload := 'a ' || r.id || ' ' || r.size || ' '
                || translate(encode(news, 'base64'), E'\n', '');
        ELSE
            payload := 'n ' || r.id;
        END IF;
        PERFORM SCHEMA.tell_followers(r, payload);
    END IF;
    RETURN r.size + length(news);
END $$;

CREATE FUNCTION SCHEMA.drop_run(which bigint, resume interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM SCHEMA.message m USING SCHEMA.run r
        WHERE r.id = which AND m.thread = r.thread AND m.message_id = ANY (r.message_ids)
        AND m.run = which;
    DELETE FROM SCHEMA.history WHERE run = which;
    UPDATE SCHEMA.run SET state = 2, thread = NULL, raw_until = now() + resume WHERE id = which;
END $$;

CREATE FUNCTION SCHEMA.finish(
    r SCHEMA.run, has_result boolean, resume interval, resumable integer, most integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE t SCHEMA.thread; done SCHEMA.run; last bigint; old bigint;
BEGIN
    SELECT * INTO done FROM SCHEMA.run WHERE id = r.id;
    IF has_result AND done.thread IS NOT NULL THEN
        SELECT * INTO t FROM SCHEMA.thread WHERE id = done.thread;
        SELECT max(id) INTO last FROM SCHEMA.run WHERE thread = t.id AND state = 1;
        UPDATE SCHEMA.thread SET
            runs = t.runs + 1,
            created_at = CASE WHEN t.runs = 0 THEN done.ended_at ELSE t.created_at END,
            updated_at = CASE WHEN t.runs = 0 THEN done.ended_at
                ELSE greatest(t.updated_at, done.ended_at) END,
            agent_id = CASE WHEN coalesce(last, 0) < r.id THEN done.agent_id ELSE t.agent_id END,
            messages = CASE WHEN coalesce(last, 0) < r.id AND done.messages IS NOT NULL
                THEN done.messages ELSE t.messages END,
            state = CASE WHEN coalesce(last, 0) < r.id AND done.json IS NOT NULL
                THEN done.json ELSE t.state END
            WHERE id = t.id;
        INSERT INTO SCHEMA.message SELECT t.id, unnest(done.message_ids), r.id
            ON CONFLICT DO NOTHING;
        UPDATE SCHEMA.run SET state = 1, process = '', sealable = false, stop = 0, messages = NULL,
            json = NULL WHERE id = r.id;
        IF resumable >= 0 THEN
            UPDATE SCHEMA.run SET raw_until = now() + resume WHERE raw_until IS NULL AND id = (
                SELECT id FROM SCHEMA.run WHERE thread = t.id AND state = 1
                ORDER BY id DESC LIMIT 1 OFFSET resumable);
        END IF;
        IF most > 0 AND t.runs + 1 > most THEN
            FOR old IN SELECT id FROM SCHEMA.run WHERE thread = t.id AND state = 1 ORDER BY id
                LIMIT t.runs + 1 - most
            LOOP
                PERFORM SCHEMA.drop_run(old, resume);
            END LOOP;
            UPDATE SCHEMA.thread SET runs = most WHERE id = t.id;
        END IF;
    ELSE
        DELETE FROM SCHEMA.history WHERE run = r.id;
        UPDATE SCHEMA.run SET state = 2, process = '', sealable = false, stop = 0, messages = NULL,
            json = NULL, thread = NULL, raw_until = now() + resume WHERE id = r.id;
        DELETE FROM SCHEMA.thread gone WHERE gone.id = done.thread AND gone.runs = 0
            AND NOT EXISTS (SELECT 1 FROM SCHEMA.run WHERE thread = gone.id);
    END IF;
    PERFORM SCHEMA.tell_followers(done, 'n ' || r.id);
END $$;

-- Hands a run out that has lost its owner, and fences that owner out.
CREATE FUNCTION SCHEMA.claim(r SCHEMA.run, handed interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE SCHEMA.run SET process = '', lease = clock_timestamp() + handed WHERE id = r.id;
END $$;

CREATE FUNCTION SCHEMA.is_lost(r SCHEMA.run) RETURNS boolean LANGUAGE sql AS $$
    SELECT r.process = '' OR r.lease < clock_timestamp()
$$;

CREATE FUNCTION SCHEMA.open_run(
    lock_ bigint, thread_id_ bytea, owner_ bytea, run_id_ bytea, agent_id_ bytea, process_ text,
    opened double precision, lease_ interval, handed interval, resume interval,
    resumable integer, most integer, supersedes boolean, ids bytea[],
    OUT outcome text, OUT run bigint, OUT other bytea, OUT known bytea[]
) LANGUAGE plpgsql AS $$
DECLARE t SCHEMA.thread; r SCHEMA.run; newest bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO t FROM SCHEMA.thread WHERE thread_id = thread_id_;
    IF t.id IS NULL THEN
        INSERT INTO SCHEMA.thread (thread_id, owner) VALUES (thread_id_, owner_) RETURNING * INTO t;
    ELSIF t.owner <> owner_ THEN
        outcome := 'other';
        RETURN;
    END IF;
    SELECT max(id) INTO newest FROM SCHEMA.run WHERE thread = t.id AND state = 0;
    FOR r IN SELECT * FROM SCHEMA.run WHERE thread = t.id AND state = 0 ORDER BY id LOOP
        run := r.id;
        IF r.id = newest AND r.sealable THEN
            PERFORM SCHEMA.finish(r, true, resume, resumable, most);
            PERFORM SCHEMA.tell(r.process, 'sealed ' || r.id);
        ELSIF SCHEMA.is_lost(r) THEN
            PERFORM SCHEMA.claim(r, handed);
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
            UPDATE SCHEMA.run SET stop = 1 WHERE id = r.id;
            PERFORM SCHEMA.tell(r.process, 'stop ' || r.id);
        END IF;
    END LOOP;
    IF outcome IS NULL THEN
        INSERT INTO SCHEMA.run (thread, lock, thread_id, run_id, agent_id, process, lease, opened_at)
            VALUES (t.id, lock_, thread_id_, run_id_, agent_id_, process_,
                    clock_timestamp() + lease_, opened)
            RETURNING id INTO run;
        outcome := 'opened';
    END IF;
    SELECT array_agg(DISTINCT m.message_id) INTO known FROM SCHEMA.message m
        WHERE m.thread = t.id AND m.message_id = ANY (ids);
END $$;

CREATE FUNCTION SCHEMA.append(
    lock_ bigint, which bigint, process_ text, at_ bigint, lease_ interval, frames bytea,
    has_result boolean, ats bigint[], pieces bytea[], messages_ bytea, json_ bytea, ids bytea[],
    ended double precision, OUT told integer, OUT size_ bigint
) LANGUAGE plpgsql AS $$
DECLARE r SCHEMA.run;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO r FROM SCHEMA.run WHERE id = which;
    IF r.id IS NULL OR r.state <> 0 OR r.process <> process_ THEN
        told := 2;
        RETURN;
    END IF;
    size_ := SCHEMA.add(r, at_, frames);
    IF size_ < 0 THEN
        told := -1;
        size_ := r.size;
        RETURN;
    END IF;
    told := r.stop;
    UPDATE SCHEMA.run SET size = size_, lease = clock_timestamp() + lease_ WHERE id = which;
    IF has_result THEN
        PERFORM SCHEMA.add_result(which, ats, pieces, messages_, json_, ids, ended);
    ELSIF r.sealable AND size_ > r.size THEN
        PERFORM SCHEMA.withdraw(which);
    END IF;
END $$;

CREATE FUNCTION SCHEMA.close_run(
    lock_ bigint, which bigint, at_ bigint, frames bytea, resume interval, resumable integer,
    most integer, given integer, ats bigint[], pieces bytea[], messages_ bytea, json_ bytea,
    ids bytea[], ended double precision, OUT outcome text, OUT size_ bigint
) LANGUAGE plpgsql AS $$
DECLARE r SCHEMA.run;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO r FROM SCHEMA.run WHERE id = which;
    outcome := 'over';
    IF r.id IS NULL OR r.state <> 0 THEN RETURN; END IF;
    IF given = 2 AND NOT r.sealable THEN
        outcome := 'resend';
        RETURN;
    END IF;
    size_ := SCHEMA.add(r, at_, frames);
    IF size_ < 0 THEN
        outcome := 'gap';
        size_ := r.size;
        RETURN;
    END IF;
    UPDATE SCHEMA.run SET size = size_ WHERE id = which;
    IF given = 1 THEN
        PERFORM SCHEMA.add_result(which, ats, pieces, messages_, json_, ids, ended);
    END IF;
    PERFORM SCHEMA.finish(r, given > 0, resume, resumable, most);
    outcome := 'closed';
END $$;

-- Has a process told of what is appended from now on.
CREATE FUNCTION SCHEMA.follow(which bigint, process_ text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE lock_ bigint;
BEGIN
    SELECT lock INTO lock_ FROM SCHEMA.run WHERE id = which AND state = 0;
    IF lock_ IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(lock_);
        UPDATE SCHEMA.run SET followers = array_append(followers, process_)
            WHERE id = which AND state = 0 AND process_ <> ALL (followers);
    END IF;
END $$;

CREATE FUNCTION SCHEMA.renew(lock_ bigint, which bigint, process_ text, lease_ interval)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE told integer;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    UPDATE SCHEMA.run SET lease = clock_timestamp() + lease_
        WHERE id = which AND state = 0 AND process = process_ RETURNING stop INTO told;
    RETURN coalesce(told, 2);
END $$;

CREATE FUNCTION SCHEMA.request_stop(
    lock_ bigint, thread_id_ bytea, owner_ bytea, run_id_ bytea, handed interval,
    OUT outcome text, OUT run bigint
) LANGUAGE plpgsql AS $$
DECLARE r SCHEMA.run;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    outcome := 'none';
    SELECT r_.* INTO r FROM SCHEMA.thread t JOIN SCHEMA.run r_ ON r_.thread = t.id AND r_.state = 0
        WHERE t.thread_id = thread_id_ AND t.owner = owner_ ORDER BY r_.id DESC LIMIT 1;
    IF r.id IS NULL OR r.stop <> 0 OR (run_id_ IS NOT NULL AND r.run_id <> run_id_) THEN
        RETURN;
    END IF;
    UPDATE SCHEMA.run SET stop = 1 WHERE id = r.id;
    run := r.id;
    IF SCHEMA.is_lost(r) THEN
        PERFORM SCHEMA.claim(r, handed);
        outcome := 'orphan';
    ELSE
        PERFORM SCHEMA.tell(r.process, 'stop ' || r.id);
        outcome := 'told';
    END IF;
END $$;

-- Hands a run out whose lease has run out; returns whether it did.
CREATE FUNCTION SCHEMA.claim_run(which bigint, handed interval) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE r SCHEMA.run;
BEGIN
    SELECT * INTO r FROM SCHEMA.run WHERE id = which;
    PERFORM pg_advisory_xact_lock(r.lock);
    SELECT * INTO r FROM SCHEMA.run WHERE id = which;
    IF r.id IS NULL OR r.state <> 0 OR r.lease >= clock_timestamp() THEN RETURN false; END IF;
    PERFORM SCHEMA.claim(r, handed);
    RETURN true;
END $$;

CREATE FUNCTION SCHEMA.delete_thread(
    lock_ bigint, thread_id_ bytea, owner_ bytea, keeps_open boolean, spares_open boolean,
    resume interval
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE t SCHEMA.thread; r SCHEMA.run; has_open boolean := false;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    SELECT * INTO t FROM SCHEMA.thread WHERE thread_id = thread_id_ AND owner = owner_;
    IF t.id IS NULL THEN RETURN false; END IF;
    has_open := EXISTS (SELECT 1 FROM SCHEMA.run WHERE thread = t.id AND state = 0);
    IF has_open AND spares_open THEN RETURN false; END IF;
    FOR r IN SELECT * FROM SCHEMA.run WHERE thread = t.id AND state = 0 AND NOT keeps_open LOOP
        UPDATE SCHEMA.run SET thread = NULL, stop = 1 WHERE id = r.id;
        PERFORM SCHEMA.tell(r.process, 'stop ' || r.id);
    END LOOP;
    DELETE FROM SCHEMA.message WHERE thread = t.id;
    DELETE FROM SCHEMA.history h USING SCHEMA.run r_
        WHERE r_.thread = t.id AND r_.state = 1 AND h.run = r_.id;
    UPDATE SCHEMA.run SET state = 2, thread = NULL, raw_until = now() + resume
        WHERE thread = t.id AND state = 1;
    IF has_open AND keeps_open THEN
        UPDATE SCHEMA.thread SET runs = 0, messages = NULL, state = NULL, name = NULL,
            archived = false, agent_id = '' WHERE id = t.id;
    ELSE
        DELETE FROM SCHEMA.thread WHERE id = t.id;
    END IF;
    RETURN true;
END $$;
