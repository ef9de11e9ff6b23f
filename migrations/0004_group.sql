-- Jobs that were submitted together. `open` counts those that have not ended: whoever takes the last one
-- off publishes the end of the group.
CREATE TABLE job_group (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    jobs BIGINT NOT NULL,
    open BIGINT NOT NULL,
    title TEXT,
    retry_of TEXT
);

ALTER TABLE job ADD COLUMN group_id TEXT;
-- Counts by state are read from it alone.
CREATE INDEX job_of_group ON job (group_id, state, id) WHERE group_id IS NOT NULL;
-- What was retried is not retried again with its group.
CREATE INDEX job_retry_of ON job (retry_of) WHERE retry_of IS NOT NULL;
