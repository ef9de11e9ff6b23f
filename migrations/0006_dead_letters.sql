-- Why a task was given up, in a form that many share: dead letters are grouped by it.
ALTER TABLE task ADD COLUMN cause TEXT;
CREATE INDEX task_cause ON task (cause, dead_at) WHERE dead_at IS NOT NULL;
UPDATE task SET cause = 'other' WHERE dead_at IS NOT NULL;

-- When a cause was last told of by an event.
CREATE TABLE dead_letter_told (
    cause TEXT PRIMARY KEY,
    told_at BIGINT NOT NULL
);

-- Dead letters that are made due again, some at a time; how far that is.
CREATE TABLE replay (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    -- Who, which, how fast, how far, as one JSON text.
    details TEXT NOT NULL
);
CREATE INDEX replay_running ON replay (id) WHERE ended_at IS NULL;

-- What people did that cannot be seen in the things themselves.
CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    details TEXT NOT NULL
);
