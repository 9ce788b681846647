-- name: configuration_add(sensor, configuration, created_at)$
INSERT INTO configuration (sensor, revision, configuration, created_at)
SELECT
    CAST(:sensor AS bigint), coalesce(max(revision) + 1, 0), CAST(:configuration AS text),
    CAST(:created_at AS bigint)
FROM configuration
WHERE sensor = :sensor
RETURNING revision;

-- name: configuration_current(sensor)^
SELECT revision, configuration, created_at
FROM configuration
WHERE sensor = :sensor
ORDER BY revision DESC
LIMIT 1;

-- name: configurations_current_of_all(after, limit)
SELECT sensor, revision, configuration, created_at
FROM configuration
WHERE sensor > :after
AND revision = (
    SELECT max(newer.revision) FROM configuration AS newer
    WHERE newer.sensor = configuration.sensor
)
ORDER BY sensor
LIMIT :limit;
