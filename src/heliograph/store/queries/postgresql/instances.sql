-- shared: clock
CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)

-- name: instances_lock(key)
-- Two servers that start at once do so one after the other; a renewal waits for neither.
SELECT pg_advisory_xact_lock(CAST(:key AS bigint));

-- name: instances_living(token)
-- Those that may commit, and whose connection is there: of a killed one it is not. A role that may
-- not see another one's connections takes them for living until their lease ends. Behind the
-- connection's name stands which process has it.
SELECT
    instance.number, instance.token, instance.mqtt_client_id,
    substr(activity.application_name, 19),
    CAST(extract(EPOCH FROM activity.backend_start) * 1000000 AS bigint)
FROM instance
JOIN pg_stat_activity AS activity ON activity.pid = instance.backend
WHERE instance.token <> :token
AND instance.expires_at > {clock}
AND activity.datname = current_database()
AND starts_with(coalesce(activity.application_name, 'heliograph writer'), 'heliograph writer')
ORDER BY instance.number;

-- name: instances_standing()
-- Those that have not renewed their lease though their connection is there: whoever ends, or is
-- killed, has none.
SELECT
    instance.number, instance.token, instance.mqtt_client_id,
    substr(activity.application_name, 19),
    CAST(extract(EPOCH FROM activity.backend_start) * 1000000 AS bigint)
FROM instance
JOIN pg_stat_activity AS activity ON activity.pid = instance.backend
WHERE instance.expires_at <= {clock}
AND activity.backend_start < to_timestamp(instance.expires_at / 1000000.0)
AND activity.datname = current_database()
AND starts_with(activity.application_name, 'heliograph writer')
AND NOT EXISTS (
    SELECT FROM instance AS other
    WHERE other.backend = instance.backend AND other.expires_at > {clock}
)
ORDER BY instance.number;

-- name: instance_take(token, mqtt_client_id, lease, maximum)
-- The least number that is free; none if all are taken.
INSERT INTO instance AS taken (number, token, backend, mqtt_client_id, expires_at, free_at)
SELECT
    candidate.number, CAST(:token AS text), pg_backend_pid(), CAST(:mqtt_client_id AS text),
    {clock} + CAST(:lease AS bigint), {clock} + 3 * CAST(:lease AS bigint)
FROM generate_series(0, CAST(:maximum AS bigint)) AS candidate (number)
LEFT JOIN instance AS holder ON holder.number = candidate.number
WHERE holder.number IS NULL OR holder.free_at <= {clock}
ORDER BY candidate.number
LIMIT 1
ON CONFLICT (number) DO UPDATE SET
    token = excluded.token, backend = excluded.backend, mqtt_client_id = excluded.mqtt_client_id,
    expires_at = excluded.expires_at, free_at = excluded.free_at
RETURNING taken.number;

-- name: instance_renew(token, lease)
-- Nobody else has had the number as long as the token is there, however late this comes.
UPDATE instance
SET
    backend = pg_backend_pid(), expires_at = {clock} + CAST(:lease AS bigint),
    free_at = {clock} + 3 * CAST(:lease AS bigint)
WHERE token = :token
RETURNING number;

-- name: instance_release(token, lease)
UPDATE instance
SET expires_at = {clock}, free_at = {clock} + 2 * CAST(:lease AS bigint)
WHERE token = :token
RETURNING number;

-- name: signals_send(channel, texts)
-- In their order; of two that are alike it would deliver one.
SELECT pg_notify(:channel, told.piece) FROM unnest(CAST(:texts AS text[])) AS told (piece);

-- name: duties_make(names)
INSERT INTO duty (name, holder, fence)
SELECT given.name, '', 0
FROM json_array_elements_text(CAST(:names AS json)) AS given (name)
LEFT JOIN duty AS known ON known.name = given.name
WHERE known.name IS NULL
ON CONFLICT (name) DO NOTHING;

-- name: duties_take(token)
-- Those whose holder does not live. One that stands still within a transaction of the duty keeps it
-- until that is ended: nobody waits for it.
UPDATE duty
SET holder = :token, fence = duty.fence + 1
WHERE duty.name IN (
    SELECT free.name
    FROM duty AS free
    WHERE NOT EXISTS (
        SELECT FROM instance
        JOIN pg_stat_activity AS activity ON activity.pid = instance.backend
        WHERE instance.token = free.holder
        AND instance.expires_at > {clock}
        AND activity.datname = current_database()
        AND starts_with(coalesce(activity.application_name, 'heliograph writer'), 'heliograph writer')
    )
    AND EXISTS (SELECT FROM instance WHERE instance.token = :token AND instance.expires_at > {clock})
    ORDER BY free.name
    FOR UPDATE OF free SKIP LOCKED
)
RETURNING duty.name;

-- name: duties_list()
SELECT duty.name, duty.holder, duty.fence, instance.number
FROM duty
LEFT JOIN instance ON instance.token = duty.holder
ORDER BY duty.name;

-- name: duty_hold(duty, holder, number)
-- Nobody takes it over before this transaction has ended.
SELECT name FROM duty
WHERE name = :duty AND holder = :holder AND fence = :number
FOR SHARE;

-- name: duties_release(token)
UPDATE duty SET holder = '' WHERE holder = :token
RETURNING name;
