-- One text for both engines: 64-bit integers (also milliseconds and booleans), text, bytes.

CREATE TABLE job (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    callback_id TEXT,
    upstream_id TEXT,
    upstream_video_id TEXT,
    retry_of TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deadline_at BIGINT NOT NULL,
    finished_at BIGINT,
    details TEXT NOT NULL,
    -- What a search looks in, in small letters: engines disagree on those of most scripts.
    search TEXT NOT NULL
);
CREATE INDEX job_open ON job (state, id) WHERE finished_at IS NULL;
CREATE INDEX job_callback ON job (callback_id, id) WHERE callback_id IS NOT NULL;
CREATE INDEX job_upstream ON job (upstream_id) WHERE upstream_id IS NOT NULL;
CREATE INDEX job_upstream_video ON job (upstream_video_id) WHERE upstream_video_id IS NOT NULL;

-- Apart from the job, so that a change of state does not write the request again.
CREATE TABLE job_request (
    job_id TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE job_label (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    job_id TEXT NOT NULL,
    PRIMARY KEY (name, value, job_id)
);

CREATE TABLE task (
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    lane BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_until BIGINT,
    lease_token BIGINT,
    attempt BIGINT NOT NULL,
    dead_at BIGINT,
    reason TEXT,
    -- Further subjects of the same task, each with a space before it.
    more TEXT,
    PRIMARY KEY (subject, kind)
);
CREATE INDEX task_due ON task (lane, due_at) WHERE dead_at IS NULL;
CREATE INDEX task_dead ON task (dead_at) WHERE dead_at IS NOT NULL;

CREATE TABLE inbox (
    id TEXT PRIMARY KEY,
    dedup_key BYTEA NOT NULL UNIQUE,
    received_at BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    job_address TEXT,
    signed_by TEXT,
    path TEXT NOT NULL,
    remote TEXT,
    headers TEXT NOT NULL,
    body BYTEA NOT NULL
);
CREATE INDEX inbox_address ON inbox (job_address, id) WHERE job_address IS NOT NULL;
CREATE INDEX inbox_refused ON inbox (id) WHERE verdict = 'refused';

-- What a receipt was taken to mean. Apart from the inbox, so that understanding a receipt does not
-- write its bytes again.
CREATE TABLE receipt_note (
    receipt_id TEXT PRIMARY KEY,
    applied_at BIGINT,
    event_type TEXT,
    job_id TEXT,
    parked_under TEXT,
    meaning TEXT
);
CREATE INDEX receipt_note_job ON receipt_note (job_id, receipt_id) WHERE job_id IS NOT NULL;
CREATE INDEX receipt_note_parked ON receipt_note (parked_under) WHERE parked_under IS NOT NULL;

CREATE TABLE event (
    number BIGINT PRIMARY KEY,
    id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    job_id TEXT,
    job_sequence BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX event_job ON event (job_id, number) WHERE job_id IS NOT NULL;

-- Event numbers are taken here, last in their transaction, so that they become visible in order.
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('event', 0);
-- Never counts; its row is the lock of those who park receipts and those who store upstream ids.
INSERT INTO counter (name, value) VALUES ('parking', 0);

-- What the server must remember of itself: its own secret, where it stood in upstream's log.
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE idempotency (
    owner TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    job_id TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner, idempotency_key)
);
CREATE INDEX idempotency_job ON idempotency (job_id);

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

CREATE TABLE webhook_secret (
    id TEXT PRIMARY KEY,
    endpoint_id TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);

-- How much may be outstanding upstream, and whether anything may be sent at all. One row.
CREATE TABLE upstream_limit (
    id BIGINT PRIMARY KEY,
    slots BIGINT NOT NULL,
    paused_since BIGINT,
    paused_until BIGINT,
    paused_reason TEXT
);
INSERT INTO upstream_limit (id, slots) VALUES (1, 10);
