-- What a broker said last of itself, so that what it drops while no server is connected is noticed.
-- Of its address; uptime in seconds, null where it does not say it; noted_at in microseconds.
CREATE TABLE broker_drops (
    broker text PRIMARY KEY,
    total bigint NOT NULL,
    uptime bigint,
    noted_at bigint NOT NULL
);
