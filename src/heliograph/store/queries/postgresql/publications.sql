-- name: publications_claim(now, horizon, until, claim, limit)
UPDATE publication
SET claim = :claim, due_at = :until
FROM (
    SELECT name FROM publication
    WHERE due_at NOT BETWEEN CAST(:now AS bigint) + 1 AND :horizon
    ORDER BY attempts, due_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
) AS due
WHERE publication.name = due.name
RETURNING publication.name, publication.version, publication.attempts;

-- name: publications_contents(names, short)
SELECT
    sensor.number, sensor.network_identifier, sensor.identifier, sensor.device_id,
    newest.revision, newest.size, newest.text,
    (SELECT version FROM publication WHERE name = sensor.identifier),
    (SELECT version FROM publication WHERE name = sensor.device_id)
FROM (
    SELECT number FROM sensor WHERE identifier IN (
        SELECT json_array_elements_text(CAST(:names AS json))
    )
    UNION
    SELECT number FROM sensor WHERE device_id IN (
        SELECT json_array_elements_text(CAST(:names AS json))
    )
) AS named
JOIN sensor ON sensor.number = named.number
JOIN LATERAL (
    SELECT
        revision,
        octet_length(configuration) AS size,
        CASE
            WHEN octet_length(configuration) <= CAST(:short AS bigint) THEN configuration
        END AS text
    FROM configuration
    WHERE configuration.sensor = sensor.number
    ORDER BY revision DESC
    LIMIT 1
) AS newest ON true
WHERE sensor.deleted_at IS NULL;

-- name: revisions_lock(rows)
-- In their order, as by everyone who locks several: no deadlocks.
SELECT configuration.sensor
FROM configuration
WHERE (sensor, revision) IN (
    SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint)
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
)
ORDER BY sensor, revision
FOR NO KEY UPDATE;

-- name: publications_lock(names)
-- In their order, as by everyone who locks several: no deadlocks.
SELECT name
FROM publication
WHERE name IN (SELECT json_array_elements_text(CAST(:names AS json)))
ORDER BY name
FOR UPDATE;

-- name: publications_delete(claim, rows)
DELETE FROM publication
USING jsonb_array_elements(CAST(:rows AS jsonb)) AS done
WHERE publication.claim = :claim AND publication.name = done ->> 0
AND publication.version = CAST(done ->> 1 AS bigint)
RETURNING publication.name;

-- name: publications_postpone(claim, rows)
UPDATE publication
SET
    claim = NULL,
    due_at = CASE
        WHEN publication.version = failed.version THEN failed.due_at ELSE 0
    END,
    attempts = CASE
        WHEN publication.version = failed.version THEN failed.attempts ELSE 0
    END
FROM (
    SELECT
        value ->> 0 AS name,
        CAST(value ->> 1 AS bigint) AS version,
        CAST(value ->> 2 AS bigint) AS due_at,
        CAST(value ->> 3 AS bigint) AS attempts
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
) AS failed
WHERE publication.name = failed.name AND publication.claim = :claim
RETURNING publication.name;

-- name: publications_mark(names)
SELECT mark_for_publication(
    ARRAY(SELECT json_array_elements_text(CAST(:names AS json)))
);

-- name: publications_settle(rows, names)
-- A revision is published once no topic of its sensor is still to get it. The rows are locked.
WITH published AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS number,
        CAST(value ->> 1 AS bigint) AS revision,
        CAST(value ->> 2 AS bigint) AS timestamp
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
)
UPDATE configuration
SET publication_timestamp = published.timestamp
FROM published
WHERE configuration.sensor = published.number AND configuration.revision = published.revision
AND publication_timestamp IS NULL
AND NOT EXISTS (
    SELECT 1
    FROM sensor
    JOIN publication ON publication.name IN (sensor.identifier, sensor.device_id)
    WHERE sensor.number = published.number
    AND publication.name NOT IN (SELECT json_array_elements_text(CAST(:names AS json)))
)
RETURNING configuration.sensor, configuration.revision;

-- name: publications_renew(claim, names, until)
UPDATE publication
SET due_at = :until
WHERE claim = :claim AND name IN (SELECT json_array_elements_text(CAST(:names AS json)))
RETURNING name;
