-- Which way of reading bodies a receipt was understood by.
ALTER TABLE receipt_note ADD COLUMN reader BIGINT;
