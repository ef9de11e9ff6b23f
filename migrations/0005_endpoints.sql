-- Addresses of the application that want events.
CREATE TABLE endpoint (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT,
    -- Where, what is wanted, its signing secrets and how it fares, as one JSON text.
    details TEXT NOT NULL
);

-- One event on its way to one endpoint, or to where its job wants to be told.
CREATE TABLE delivery (
    id TEXT PRIMARY KEY,
    event_number BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    job_id TEXT,
    target TEXT NOT NULL,
    url TEXT,
    created_at BIGINT NOT NULL,
    due_at BIGINT,
    delivered_at BIGINT,
    dead_at BIGINT,
    attempt BIGINT NOT NULL,
    -- The latest attempts, as JSON.
    attempts TEXT NOT NULL
);
CREATE INDEX delivery_due ON delivery (target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_pending ON delivery (id) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (id) WHERE dead_at IS NOT NULL;
CREATE INDEX delivery_target ON delivery (target, id);
CREATE INDEX delivery_job ON delivery (job_id, id) WHERE job_id IS NOT NULL;

-- The receipt that has the bytes of one of upstream's own events.
ALTER TABLE event ADD COLUMN receipt_id TEXT;

-- How many endpoints are live stands beside the last event number: whoever publishes learns it
-- without another question, and whoever adds an endpoint waits for those who publish.
ALTER TABLE counter ADD COLUMN endpoints BIGINT NOT NULL DEFAULT 0;
