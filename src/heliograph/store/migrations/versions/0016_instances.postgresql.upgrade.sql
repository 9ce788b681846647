-- Which server makes ids with which number. Times are microseconds of this database's clock. Nobody
-- else gets a number before it is free: that is for twice the lease after its end.
CREATE TABLE instance (
    number bigint PRIMARY KEY,
    -- Of the lease: a server that finds another one here has lost the number.
    token text NOT NULL,
    -- Of the process that serves the connection that writes: while it lives, the server does.
    backend bigint NOT NULL,
    -- Under which it shares a broker's messages; null: it does not.
    mqtt_client_id text,
    expires_at bigint NOT NULL,
    free_at bigint NOT NULL
);
