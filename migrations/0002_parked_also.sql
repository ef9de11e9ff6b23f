-- A receipt may name two things of upstream, such as an agent's session and its video. Either may be
-- what a job is known by later.
ALTER TABLE receipt_note ADD COLUMN parked_also TEXT;
CREATE INDEX receipt_note_parked_also ON receipt_note (parked_also) WHERE parked_also IS NOT NULL;
