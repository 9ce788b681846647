-- Since when the status is what it is; status_at is when it was said last.
ALTER TABLE sensor ADD COLUMN status_since bigint;

-- Whether the status came through an external broker, which knows its own connections.
ALTER TABLE sensor ADD COLUMN status_by_broker boolean NOT NULL DEFAULT false;

-- Whether the sensor itself is connected to the listener, and since when that is so.
ALTER TABLE sensor ADD COLUMN connection_open boolean NOT NULL DEFAULT false;

ALTER TABLE sensor ADD COLUMN connection_at bigint;

UPDATE sensor SET status_since = status_at WHERE status_at IS NOT NULL;
