-- name: publications_claim(now, horizon, until, claim, limit)
UPDATE publication
SET claim = :claim, due_at = :until
WHERE name IN (
    SELECT name FROM publication
    WHERE due_at NOT BETWEEN :now + 1 AND :horizon
    ORDER BY attempts, due_at
    LIMIT :limit
)
RETURNING name, version, attempts;

-- name: publications_contents(names, short)
SELECT
    number, network_identifier, identifier, device_id, configuration.revision,
    length(configuration.configuration),
    CASE WHEN length(configuration.configuration) <= :short THEN configuration.configuration END,
    (SELECT version FROM publication WHERE name = sensor.identifier),
    (SELECT version FROM publication WHERE name = sensor.device_id)
FROM sensor
JOIN configuration ON configuration.sensor = number AND configuration.revision = (
    SELECT max(newer.revision) FROM configuration AS newer WHERE newer.sensor = number
)
WHERE deleted_at IS NULL AND number IN (
    SELECT number FROM sensor WHERE identifier IN (SELECT value FROM json_each(:names))
    UNION
    SELECT number FROM sensor WHERE device_id IN (SELECT value FROM json_each(:names))
);

-- name: revisions_lock(rows)
-- The transaction is the only one that writes.
SELECT NULL WHERE :rows IS NULL;

-- name: publications_lock(names)
-- The transaction is the only one that writes.
SELECT NULL WHERE :names IS NULL;

-- name: publications_delete(claim, rows)
DELETE FROM publication
WHERE claim = :claim AND (name, version) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:rows)
)
RETURNING name;

-- name: publications_postpone(claim, rows)
UPDATE publication
SET
    claim = NULL,
    due_at = CASE WHEN publication.version = failed.version THEN failed.due_at ELSE 0 END,
    attempts = CASE WHEN publication.version = failed.version THEN failed.attempts ELSE 0 END
FROM (
    SELECT
        json_extract(value, '$[0]') AS name,
        json_extract(value, '$[1]') AS version,
        json_extract(value, '$[2]') AS due_at,
        json_extract(value, '$[3]') AS attempts
    FROM json_each(:rows)
) AS failed
WHERE publication.name = failed.name AND claim = :claim
RETURNING publication.name;

-- name: publications_mark(names)
INSERT INTO publication (name)
SELECT value FROM json_each(:names) WHERE true
ON CONFLICT (name) DO UPDATE SET
    version = version + 1,
    attempts = 0,
    due_at = CASE WHEN claim IS NULL THEN 0 ELSE due_at END
RETURNING name;

-- name: publications_settle(rows, names)
-- A revision is published once no topic of its sensor is still to get it.
UPDATE configuration
SET publication_timestamp = published.timestamp
FROM (
    SELECT
        json_extract(value, '$[0]') AS number,
        json_extract(value, '$[1]') AS revision,
        json_extract(value, '$[2]') AS timestamp
    FROM json_each(:rows)
) AS published
WHERE configuration.sensor = published.number AND configuration.revision = published.revision
AND publication_timestamp IS NULL
AND NOT EXISTS (
    SELECT 1
    FROM sensor
    JOIN publication ON publication.name = sensor.identifier OR publication.name = sensor.device_id
    WHERE sensor.number = published.number
    AND publication.name NOT IN (SELECT value FROM json_each(:names))
)
RETURNING configuration.sensor, configuration.revision;

-- name: publications_renew(claim, names, until)
UPDATE publication
SET due_at = :until
WHERE claim = :claim AND name IN (SELECT value FROM json_each(:names))
RETURNING name;
