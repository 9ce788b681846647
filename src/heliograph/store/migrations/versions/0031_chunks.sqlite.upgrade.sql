-- Measurements of one sensor that are no longer hot, as columns: see heliograph.packed. No two
-- chunks of a sensor overlap in (timestamp, fingerprint), and what is in one is no row.
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor INTEGER NOT NULL,
    first INTEGER NOT NULL,
    first_fingerprint INTEGER NOT NULL,
    last INTEGER NOT NULL,
    last_fingerprint INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    head BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX chunk_first ON chunk (sensor, first, first_fingerprint);

CREATE UNIQUE INDEX chunk_last ON chunk (sensor, last, last_fingerprint);

CREATE INDEX chunk_ids ON chunk (last_id, first_id);
