-- name: {table}_insert_staged()
-- Rows were copied to the staging table in the order of their keys: two writers with the same
-- rows wait for each other in one order, and never both.
INSERT INTO {table}
SELECT * FROM {table}_staging
ON CONFLICT (sensor, timestamp, fingerprint) DO NOTHING
RETURNING id;

-- name: {table}_earlier(ids, sensors, timestamps, fingerprints)
-- OFFSET keeps the planner from joining with the whole table; each key is searched by itself.
SELECT wanted.id, stored.id
FROM unnest(
    CAST(:ids AS bigint[]), CAST(:sensors AS bigint[]), CAST(:timestamps AS bigint[]),
    CAST(:fingerprints AS bigint[])
) AS wanted (id, sensor, timestamp, fingerprint)
CROSS JOIN LATERAL (
    SELECT {table}.id FROM {table}
    WHERE {table}.sensor = wanted.sensor AND {table}.timestamp = wanted.timestamp
    AND {table}.fingerprint = wanted.fingerprint
    OFFSET 0
) AS stored;

-- name: rejected_insert(ids, receipt_timestamps, sensors, principals, sources, payloads, sizes, reasons, details, indexes)
INSERT INTO rejected_message
SELECT * FROM unnest(
    CAST(:ids AS bigint[]), CAST(:receipt_timestamps AS bigint[]), CAST(:sensors AS bigint[]),
    CAST(:principals AS text[]), CAST(:sources AS text[]), CAST(:payloads AS bytea[]),
    CAST(:sizes AS bigint[]), CAST(:reasons AS text[]), CAST(:details AS text[]),
    CAST(:indexes AS text[])
)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: rejected_by_id(ids)
SELECT
    id, receipt_timestamp, sensor, principal, source, payload, size, reason, detail, indexes
FROM rejected_message
WHERE id = ANY(CAST(:ids AS bigint[]));

-- name: deliveries_store(keys, ids, expiries, answers, now, claims)
-- Whose transaction is first has the key; the other one waits here until it is committed, and then
-- changes no row. What is no claim takes the place of another packet that had the same id, unless that
-- has an answer and is newer: that is the packet itself, sent again to another server meanwhile. An id
-- of 0 is that of no row, and does not say whose the key is.
INSERT INTO delivery
SELECT * FROM unnest(
    CAST(:keys AS bytea[]), CAST(:ids AS bigint[]), CAST(:expiries AS bigint[]),
    CAST(:answers AS text[])
)
ON CONFLICT (key) DO UPDATE
SET id = excluded.id, expiry = excluded.expiry, answer = excluded.answer
WHERE (delivery.id = excluded.id AND delivery.id <> 0)
OR delivery.expiry <= :now
OR (
    (delivery.id < excluded.id OR delivery.answer IS NULL)
    AND excluded.key <> ALL(CAST(:claims AS bytea[]))
);

-- name: deliveries_find(keys, now)
SELECT key, id, answer
FROM delivery
WHERE key = ANY(CAST(:keys AS bytea[])) AND (expiry IS NULL OR expiry > :now);

-- name: deliveries_forget(keys, ids)!
DELETE FROM delivery
USING unnest(CAST(:keys AS bytea[]), CAST(:ids AS bigint[])) AS done (key, id)
WHERE delivery.key = done.key AND delivery.id = done.id;

-- name: partitions_of(parent)
SELECT child.relname
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = CAST(CAST(:parent AS text) AS regclass);

-- name: partitions_lock(key)
-- Two instances that miss the same month make it one after the other.
SELECT pg_advisory_xact_lock(:key);
