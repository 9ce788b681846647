-- name: configuration_add(sensor, configuration, created_at, author)$
INSERT INTO configuration (sensor, revision, configuration, created_at, author)
SELECT
    CAST(:sensor AS bigint), coalesce(max(revision) + 1, 0), CAST(:configuration AS text),
    CAST(:created_at AS bigint), CAST(:author AS text)
FROM configuration
WHERE sensor = :sensor
RETURNING revision;

-- name: configuration_current(sensor)^
SELECT revision, configuration, created_at
FROM configuration
WHERE sensor = :sensor
ORDER BY revision DESC
LIMIT 1;

-- name: configurations_retained(networks, after, limit)
-- What they say is read later: there may be a megabyte of it for each.
SELECT
    number, identifier, device_id, network_identifier, status,
    (
        SELECT max(newest.revision) FROM configuration AS newest
        WHERE newest.sensor = sensor.number
    ),
    (
        SELECT length(newest.configuration) FROM configuration AS newest
        WHERE newest.sensor = sensor.number
        ORDER BY newest.revision DESC
        LIMIT 1
    )
FROM sensor
WHERE number > :after
AND deleted_at IS NULL
AND (CAST(:networks AS text) IS NULL OR network_identifier IN ({networks}))
ORDER BY number
LIMIT :limit;

-- shared: configuration_page
SELECT
    revision, CASE WHEN {configuration_length} <= :longest THEN configuration END AS text,
    created_at, author, publication_timestamp, acknowledgment_timestamp, receipt_timestamp,
    success,
    revision = (
        SELECT max(newer.revision) FROM configuration AS newer
        WHERE newer.sensor = configuration.sensor
    ) AS is_current,
    {configuration_length} AS length
FROM configuration

-- name: configurations_after(sensor, revision, limit, longest)
-- Without the configurations that are longer.
{configuration_page}
WHERE sensor = :sensor AND revision > :revision
ORDER BY revision
LIMIT :limit;

-- name: configurations_before(sensor, revision, limit, longest)
{configuration_page}
WHERE sensor = :sensor AND revision < :revision
ORDER BY revision DESC
LIMIT :limit;

-- name: configuration_targets_of_network(network, limit)
SELECT number
FROM sensor
WHERE network_identifier = :network AND is_active
ORDER BY number
LIMIT :limit;
