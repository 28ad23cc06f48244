PRAGMA application_id = 1634170217;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE frame (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
INSERT INTO "frame" VALUES(4294967296,X'69643A20312E36633039666639642E300A646174613A20310A0A69643A20312E36633039666639642E310A646174613A20320A0A');
INSERT INTO "frame" VALUES(8589934592,X'69643A20322E35333066326361662E300A646174613A207B7D0A0A');
CREATE TABLE history (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
INSERT INTO "history" VALUES(4294967296,X'69643A20312E36633039666639642E63300A646174613A20310A0A69643A20312E36633039666639642E63310A646174613A20320A0A');
INSERT INTO "history" VALUES(8589934592,X'69643A20322E35333066326361662E63300A646174613A20330A0A');
CREATE TABLE message (
            thread INTEGER NOT NULL,
            message_id TEXT NOT NULL,
            run INTEGER NOT NULL,
            PRIMARY KEY (thread, message_id, run)
        ) WITHOUT ROWID;
INSERT INTO "message" VALUES(1,'m',1);
CREATE TABLE outcome (
            run INTEGER PRIMARY KEY,
            conversation BLOB,
            state BLOB,
            message_ids TEXT NOT NULL,
            ended_at REAL NOT NULL
        );
INSERT INTO "outcome" VALUES(1,X'5B315D',X'7B7D','["m"]',5.0);
INSERT INTO "outcome" VALUES(2,X'5B312C325D',NULL,'[]',6.0);
CREATE TABLE process (id INTEGER PRIMARY KEY AUTOINCREMENT, seen_at REAL NOT NULL);
INSERT INTO "process" VALUES(1,1.79582983329865670208e+09);
CREATE TABLE run (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            thread INTEGER NOT NULL,
            run_id TEXT NOT NULL,
            agent_id TEXT NOT NULL,
            state INTEGER NOT NULL DEFAULT 0,
            process INTEGER,
            stop INTEGER NOT NULL DEFAULT 0,
            sealable INTEGER NOT NULL DEFAULT 0,
            opened_at REAL NOT NULL,
            size INTEGER NOT NULL DEFAULT 0,
            raw_until REAL
        );
INSERT INTO "run" VALUES(1,1,'r','agent',1,NULL,0,0,0.0,52,NULL);
INSERT INTO "run" VALUES(2,1,'live','agent',0,1,0,1,0.0,0,NULL);
CREATE TABLE thread (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            thread_id TEXT NOT NULL,
            owner TEXT,
            agent_id TEXT NOT NULL DEFAULT '',
            created_at REAL NOT NULL DEFAULT 0,
            updated_at REAL NOT NULL DEFAULT 0,
            name TEXT,
            archived INTEGER NOT NULL DEFAULT 0,
            runs INTEGER NOT NULL DEFAULT 0,
            conversation_run INTEGER,
            state_run INTEGER,
            dead INTEGER NOT NULL DEFAULT 0
        );
INSERT INTO "thread" VALUES(1,'t',NULL,'agent',5.0,5.0,NULL,0,1,1,1,0);
CREATE UNIQUE INDEX thread_by_id ON thread (thread_id) WHERE dead = 0;
CREATE INDEX thread_listed
            ON thread (owner, updated_at DESC, thread_id, archived, agent_id)
            WHERE dead = 0 AND runs > 0;
CREATE INDEX thread_by_age ON thread (updated_at) WHERE dead = 0 AND runs > 0;
CREATE INDEX thread_dead ON thread (id) WHERE dead = 1;
CREATE INDEX run_by_thread ON run (thread, id, state);
CREATE INDEX run_open ON run (thread, id) WHERE state = 0;
CREATE INDEX run_owned ON run (process) WHERE state = 0;
CREATE INDEX run_told ON run (process) WHERE stop > 0 AND process > 0;
CREATE INDEX run_raw ON run (thread, id) WHERE state = 1 AND raw_until IS NULL;
CREATE INDEX run_to_go ON run (raw_until) WHERE raw_until > 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('process',1);
INSERT INTO "sqlite_sequence" VALUES('thread',1);
INSERT INTO "sqlite_sequence" VALUES('run',2);
COMMIT;
