-- name: sensor_locked(number)^
-- The transaction is the only one that writes.
SELECT {sensor_columns}
FROM sensor
WHERE number = :number;

-- name: sensor_attributes(numbers)
SELECT sensor, name FROM attribute WHERE sensor IN (SELECT value FROM json_each(:numbers));

-- name: sensors_revisions(numbers)
SELECT sensor, revision, success, publication_timestamp
FROM json_each(:numbers) AS wanted
JOIN configuration ON sensor = wanted.value AND revision = (
    SELECT max(newest.revision) FROM configuration AS newest WHERE newest.sensor = wanted.value
);

-- name: sensors_touch(rows)!
-- A time from beyond the one as which the clock was accepted (by a minute: clocks differ) is none.
UPDATE sensor
SET
    last_seen_at = CASE
        WHEN last_seen_at > touched.seen + 60000000 AND EXISTS (
            SELECT 1 FROM clock_state
            WHERE last_seen_at > accepted_at AND last_seen_at <= accepted_until + 60000000
        ) THEN touched.seen
        ELSE max(coalesce(last_seen_at, touched.seen), touched.seen)
    END,
    last_measurement_at = CASE
        WHEN last_measurement_at > touched.seen + 60000000 AND EXISTS (
            SELECT 1 FROM clock_state
            WHERE last_measurement_at > accepted_at AND last_measurement_at <= accepted_until + 60000000
        ) THEN touched.measured
        ELSE coalesce(
            max(last_measurement_at, touched.measured), touched.measured, last_measurement_at
        )
    END
FROM (
    SELECT
        json_extract(value, '$[0]') AS number,
        json_extract(value, '$[1]') AS seen,
        json_extract(value, '$[2]') AS measured
    FROM json_each(:rows)
) AS touched
WHERE sensor.number = touched.number;

-- name: statuses_store(rows)!
-- A time from beyond the one as which the clock was accepted (by a minute: clocks differ) is none.
UPDATE sensor
SET
    status = stated.status,
    status_at = stated.receipt_timestamp,
    status_by_broker = stated.by_broker,
    status_since = CASE
        WHEN sensor.status = stated.status THEN sensor.status_since
        ELSE stated.receipt_timestamp
    END
FROM (
    SELECT
        json_extract(value, '$[0]') AS number,
        json_extract(value, '$[1]') AS receipt_timestamp,
        json_extract(value, '$[2]') AS status,
        json_extract(value, '$[3]') AS by_broker
    FROM json_each(:rows)
) AS stated
WHERE sensor.number = stated.number
AND (
    status_at IS NULL OR status_at <= stated.receipt_timestamp
    OR (
        status_at > stated.receipt_timestamp + 60000000 AND EXISTS (
            SELECT 1 FROM clock_state
            WHERE status_at > accepted_at AND status_at <= accepted_until + 60000000
        )
    )
);

-- name: connections_store(rows)
UPDATE sensor
SET connection_open = noted.live, connection_at = noted.at
FROM (
    SELECT
        json_extract(value, '$[0]') AS number,
        json_extract(value, '$[1]') AS live,
        json_extract(value, '$[2]') AS at
    FROM json_each(:rows)
) AS noted
WHERE sensor.number = noted.number
RETURNING {sensor_columns};

-- name: connections_confirm(rows)!
UPDATE sensor
SET connection_open = true, connection_at = noted.at
FROM (
    SELECT json_extract(value, '$[0]') AS number, json_extract(value, '$[2]') AS at
    FROM json_each(:rows)
) AS noted
WHERE sensor.number = noted.number AND NOT connection_open;

-- name: connections_end(moment)
-- What was said on the listener ends as well: who said it had a connection that is gone.
UPDATE sensor
SET connection_open = false, connection_at = max(:moment, coalesce(status_at, 0))
WHERE connection_open
OR (
    status = 'online' AND NOT status_by_broker
    AND (connection_at IS NULL OR connection_at < status_at)
)
RETURNING {sensor_columns};

-- name: attributes_store(rows)!
INSERT INTO attribute (sensor, name)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
FROM json_each(:rows)
WHERE true
ON CONFLICT (sensor, name) DO NOTHING;

-- name: sensors_of_network(network, offset, limit)
-- A subquery's rows come in its order.
SELECT
    (SELECT json_group_array(number) FROM (
        SELECT number FROM sensor
        WHERE network_identifier = :network AND deleted_at IS NULL
        ORDER BY number
        LIMIT :limit OFFSET :offset
    )),
    (SELECT count(*) FROM sensor WHERE network_identifier = :network AND deleted_at IS NULL);

-- shared: binary
BINARY

-- shared: sensors_tagged
NOT EXISTS (
    SELECT 1 FROM json_each(:tags) AS wanted
    WHERE wanted.value NOT IN (SELECT value FROM json_each(tags))
)

-- shared: sensors_open
SELECT value FROM json_each(:open)

-- shared: sensors_gone
-- Cast: what has no affinity is compared row by row, without an index.
SELECT
    CAST(json_extract(value, '$[0]') AS integer) AS number,
    json_extract(value, '$[1]') AS at
FROM json_each(:gone)

-- shared: sensors_noted
SELECT
    CAST(json_extract(value, '$[0]') AS integer) AS number,
    json_extract(value, '$[1]') AS seen,
    json_extract(value, '$[2]') AS measured
FROM json_each(:noted)
