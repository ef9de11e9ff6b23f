-- A group may take its rows in several requests: the number that the next row has, none once it takes no more.
ALTER TABLE job_group ADD COLUMN next_row BIGINT;
