-- Since when the status is what it is; status_at is when it was said last.
ALTER TABLE sensor ADD COLUMN status_since INTEGER;

-- Whether the status came through an external broker, which knows its own connections.
ALTER TABLE sensor ADD COLUMN status_by_broker INTEGER NOT NULL DEFAULT 0;

-- Whether the sensor itself is connected to the listener, and since when that is so.
ALTER TABLE sensor ADD COLUMN connection_open INTEGER NOT NULL DEFAULT 0;

ALTER TABLE sensor ADD COLUMN connection_at INTEGER;

UPDATE sensor SET status_since = status_at WHERE status_at IS NOT NULL;
