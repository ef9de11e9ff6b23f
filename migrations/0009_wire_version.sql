-- "Reader" is whoever reads a stream; what understood a receipt is a version of heygen/wire.
ALTER TABLE receipt_note RENAME COLUMN reader TO wire_version;
