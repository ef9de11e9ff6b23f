-- The version of heygen/wire that a receipt was understood by. `reader` was its first name, and is not used any more.
ALTER TABLE receipt_note ADD COLUMN wire_version BIGINT;
