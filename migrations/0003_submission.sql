-- The whole of what is known about sending, as one JSON text: it is read and written together, under
-- the lock of its one row. The columns of the first schema are not looked at any more.
ALTER TABLE upstream_limit ADD COLUMN details TEXT NOT NULL DEFAULT '{}';

-- Jobs that wait for a slot go by priority, then by age.
ALTER TABLE task ADD COLUMN priority BIGINT NOT NULL DEFAULT 5;
CREATE INDEX task_queue ON task (lane, priority DESC, subject) WHERE lane = 1 AND dead_at IS NULL;
