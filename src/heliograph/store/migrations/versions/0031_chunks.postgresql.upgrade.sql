-- Measurements of one sensor that are no longer hot, as columns: see heliograph.packed. No two
-- chunks of a sensor overlap in (timestamp, fingerprint), and what is in one is no row.
CREATE TABLE chunk (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sensor bigint NOT NULL,
    first bigint NOT NULL,
    first_fingerprint bigint NOT NULL,
    last bigint NOT NULL,
    last_fingerprint bigint NOT NULL,
    row_count integer NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    head bytea NOT NULL,
    body bytea NOT NULL
);

-- They are compressed already, and parts of them are read alone.
ALTER TABLE chunk ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE UNIQUE INDEX chunk_first ON chunk (sensor, first, first_fingerprint);

CREATE UNIQUE INDEX chunk_last ON chunk (sensor, last, last_fingerprint);

CREATE INDEX chunk_ids ON chunk (last_id, first_id);
