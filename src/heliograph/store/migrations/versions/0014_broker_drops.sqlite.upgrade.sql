-- What a broker said last of itself, so that what it drops while no server is connected is noticed.
-- Of its address; uptime in seconds, null where it does not say it; noted_at in microseconds.
CREATE TABLE broker_drops (
    broker TEXT PRIMARY KEY,
    total INTEGER NOT NULL,
    uptime INTEGER,
    noted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
