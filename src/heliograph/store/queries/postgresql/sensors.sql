-- name: sensor_locked(number)^
SELECT {sensor_columns}
FROM sensor
WHERE number = :number
FOR NO KEY UPDATE;

-- name: sensor_attributes(numbers)
SELECT sensor, name
FROM attribute
WHERE sensor IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:numbers AS json))
);

-- name: sensors_revisions(numbers)
SELECT newest.sensor, newest.revision, newest.success, newest.publication_timestamp
FROM json_array_elements_text(CAST(:numbers AS json)) AS wanted
CROSS JOIN LATERAL (
    SELECT sensor, revision, success, publication_timestamp
    FROM configuration
    WHERE sensor = CAST(wanted.value AS bigint)
    ORDER BY revision DESC
    LIMIT 1
) AS newest;

-- name: sensors_touch(rows)!
-- Rows are locked in their order first, as by everyone who locks several: no deadlocks.
-- A time from beyond the one as which the clock was accepted (by a minute: clocks differ) is none.
WITH touched AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS number,
        CAST(value ->> 1 AS bigint) AS seen,
        CAST(value ->> 2 AS bigint) AS measured
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
),
locked AS MATERIALIZED (
    SELECT number FROM sensor WHERE number IN (SELECT number FROM touched)
    ORDER BY number
    FOR NO KEY UPDATE
)
UPDATE sensor
SET
    last_seen_at = CASE
        WHEN last_seen_at > touched.seen + 60000000 AND EXISTS (
            SELECT 1 FROM clock_state
            WHERE last_seen_at > accepted_at AND last_seen_at <= accepted_until + 60000000
        ) THEN touched.seen
        ELSE greatest(last_seen_at, touched.seen)
    END,
    last_measurement_at = CASE
        WHEN last_measurement_at > touched.seen + 60000000 AND EXISTS (
            SELECT 1 FROM clock_state
            WHERE last_measurement_at > accepted_at AND last_measurement_at <= accepted_until + 60000000
        ) THEN touched.measured
        ELSE greatest(last_measurement_at, touched.measured)
    END
FROM touched, locked
WHERE sensor.number = touched.number AND locked.number = touched.number;

-- name: statuses_store(rows)!
-- A time from beyond the one as which the clock was accepted (by a minute: clocks differ) is none.
WITH stated AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS number,
        CAST(value ->> 1 AS bigint) AS receipt_timestamp,
        value ->> 2 AS status,
        CAST(value ->> 3 AS boolean) AS by_broker
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
),
locked AS MATERIALIZED (
    SELECT number FROM sensor WHERE number IN (SELECT number FROM stated)
    ORDER BY number
    FOR NO KEY UPDATE
)
UPDATE sensor
SET
    status = stated.status,
    status_at = stated.receipt_timestamp,
    status_by_broker = stated.by_broker,
    status_since = CASE
        WHEN sensor.status = stated.status THEN sensor.status_since
        ELSE stated.receipt_timestamp
    END
FROM stated, locked
WHERE sensor.number = stated.number AND locked.number = stated.number
AND (
    status_at IS NULL OR status_at <= stated.receipt_timestamp
    OR (
        status_at > stated.receipt_timestamp + 60000000 AND EXISTS (
            SELECT 1 FROM clock_state
            WHERE status_at > accepted_at AND status_at <= accepted_until + 60000000
        )
    )
);

-- name: connections_store(rows, server)
-- That a connection has ended says nothing of one that has begun on another server meanwhile.
WITH noted AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS number,
        CAST(value ->> 1 AS boolean) AS live,
        CAST(value ->> 2 AS bigint) AS at
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
),
locked AS MATERIALIZED (
    SELECT number FROM sensor WHERE number IN (SELECT number FROM noted)
    ORDER BY number
    FOR NO KEY UPDATE
),
stored AS (
    UPDATE sensor
    SET connection_open = noted.live, connection_at = noted.at, connection_server = :server
    FROM noted, locked
    WHERE sensor.number = noted.number AND locked.number = noted.number
    AND (
        noted.live OR NOT connection_open
        OR connection_server IS NULL OR connection_server = :server
    )
    RETURNING sensor.*
)
SELECT {sensor_columns} FROM stored;

-- name: connections_confirm(rows, server)!
WITH noted AS MATERIALIZED (
    SELECT CAST(value ->> 0 AS bigint) AS number, CAST(value ->> 2 AS bigint) AS at
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
),
locked AS MATERIALIZED (
    SELECT number FROM sensor
    WHERE number IN (SELECT number FROM noted) AND NOT connection_open
    ORDER BY number
    FOR NO KEY UPDATE
)
UPDATE sensor
SET connection_open = true, connection_at = noted.at, connection_server = :server
FROM noted, locked
WHERE sensor.number = noted.number AND locked.number = noted.number;

-- name: connections_end(moment, living)
-- What was said on the listener ends as well: who said it had a connection that is gone. On whose
-- listener it was said nobody knows: it stands as long as there are other servers.
WITH ended AS MATERIALIZED (
    SELECT number FROM sensor
    WHERE (
        connection_open
        AND (connection_server IS NULL OR connection_server <> ALL(CAST(:living AS text[])))
    )
    OR (
        NOT connection_open AND cardinality(CAST(:living AS text[])) = 0
        AND status = 'online' AND NOT status_by_broker
        AND (connection_at IS NULL OR connection_at < status_at)
    )
    ORDER BY number
    FOR NO KEY UPDATE
),
stored AS (
    UPDATE sensor
    SET connection_open = false, connection_at = greatest(:moment, status_at)
    FROM ended
    WHERE sensor.number = ended.number
    RETURNING sensor.*
)
SELECT {sensor_columns} FROM stored;

-- name: attributes_store(rows)!
INSERT INTO attribute (sensor, name)
SELECT CAST(value ->> 0 AS bigint), value ->> 1
FROM jsonb_array_elements(CAST(:rows AS jsonb))
ORDER BY 1, 2
ON CONFLICT (sensor, name) DO NOTHING;

-- name: sensors_of_network(network, offset, limit)
SELECT
    (SELECT coalesce(CAST(json_agg(number ORDER BY number) AS text), '[]') FROM (
        SELECT number FROM sensor
        WHERE network_identifier = :network AND deleted_at IS NULL
        ORDER BY number
        LIMIT :limit OFFSET :offset
    ) AS page),
    (SELECT count(*) FROM sensor WHERE network_identifier = :network AND deleted_at IS NULL);

-- shared: binary
"C"

-- shared: sensors_tagged
CAST(tags AS jsonb) @> CAST(:tags AS jsonb)

-- shared: sensors_open
SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:open AS json))

-- shared: sensors_gone
SELECT CAST(value ->> 0 AS bigint) AS number, CAST(value ->> 1 AS bigint) AS at
FROM jsonb_array_elements(CAST(:gone AS jsonb))

-- shared: sensors_noted
SELECT
    CAST(value ->> 0 AS bigint) AS number,
    CAST(value ->> 1 AS bigint) AS seen,
    CAST(value ->> 2 AS bigint) AS measured
FROM jsonb_array_elements(CAST(:noted AS jsonb))
