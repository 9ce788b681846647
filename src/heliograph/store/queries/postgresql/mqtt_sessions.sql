-- shared: mqtt_living
SELECT instance.token
FROM instance
JOIN pg_stat_activity AS activity ON activity.pid = instance.backend
WHERE instance.expires_at > {clock}
AND activity.datname = current_database()
AND starts_with(coalesce(activity.application_name, 'heliograph writer'), 'heliograph writer')

-- name: mqtt_sessions_claim(token, keys, expiries, clients, cleans, forced)
-- Those that nobody has, or that this server has, or whose holder does not live; by force any. What
-- was known of them is returned with the new epoch, and forgotten where a client begins anew.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:keys AS bytea[]), CAST(:expiries AS bigint[]), CAST(:clients AS bytea[]),
        CAST(:cleans AS boolean[]), CAST(:forced AS boolean[])
    ) AS given (key, expiry, client, clean, forced)
),
known AS MATERIALIZED (
    SELECT session.* FROM mqtt_session AS session
    WHERE session.key = ANY(CAST(:keys AS bytea[]))
    ORDER BY session.key
    FOR UPDATE
),
free AS MATERIALIZED (
    SELECT known.*, coalesce(known.position, held.position) AS since
    FROM known
    JOIN wanted ON wanted.key = known.key
    LEFT JOIN mqtt_holder AS held ON held.token = known.holder
    WHERE known.holder IN ('', :token) OR wanted.forced
    OR known.holder NOT IN ({mqtt_living})
),
taken AS (
    UPDATE mqtt_session
    SET
        holder = :token, epoch = free.epoch + 1, expiry = wanted.expiry, ends_at = NULL,
        client = wanted.client,
        subscriptions = CASE WHEN NOT wanted.clean THEN free.subscriptions END,
        owed = CASE WHEN NOT wanted.clean THEN free.owed END,
        position = CASE WHEN NOT wanted.clean THEN free.since END
    FROM free
    JOIN wanted ON wanted.key = free.key
    WHERE mqtt_session.key = free.key
    RETURNING mqtt_session.key, mqtt_session.epoch
),
made AS (
    INSERT INTO mqtt_session (key, holder, epoch, expiry, client)
    -- No epoch comes again after a session's end.
    SELECT wanted.key, :token, {clock}, wanted.expiry, wanted.client
    FROM wanted
    WHERE wanted.key NOT IN (SELECT key FROM known)
    ORDER BY wanted.key
    ON CONFLICT (key) DO NOTHING
    RETURNING key, epoch
)
SELECT
    taken.key, taken.epoch, free.holder, free.expiry, free.ends_at, free.client,
    free.subscriptions, free.owed, free.since
FROM taken
JOIN free ON free.key = taken.key
UNION ALL
SELECT key, epoch, '', 0, NULL, NULL, NULL, NULL, NULL FROM made;

-- name: mqtt_sessions_save(token, stand, keys, epochs, holders, expiries, ends, clients, subscriptions, owed, positions)
-- With it the holder notes where it stands, or does not. Whoever writes several rows takes them in
-- the order of their keys: of two that did not, each would wait for the other.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:keys AS bytea[]), CAST(:epochs AS bigint[]), CAST(:holders AS text[]),
        CAST(:expiries AS bigint[]), CAST(:ends AS bigint[]), CAST(:clients AS bytea[]),
        CAST(:subscriptions AS bytea[]), CAST(:owed AS bytea[]), CAST(:positions AS text[])
    ) AS rows (key, epoch, holder, expiry, ends_at, client, subscriptions, owed, position)
),
mine AS MATERIALIZED (
    SELECT session.key, session.epoch FROM mqtt_session AS session
    JOIN given ON given.key = session.key AND given.epoch = session.epoch
    WHERE session.holder = :token
    ORDER BY session.key
    FOR UPDATE OF session
),
stood AS (
    INSERT INTO mqtt_holder (token, position)
    SELECT :token, :stand WHERE CAST(:stand AS text) IS NOT NULL
    ON CONFLICT (token) DO UPDATE SET position = excluded.position
)
UPDATE mqtt_session
SET
    holder = given.holder, expiry = given.expiry, ends_at = given.ends_at, client = given.client,
    subscriptions = given.subscriptions, owed = given.owed, position = given.position
FROM given
JOIN mine ON mine.key = given.key AND mine.epoch = given.epoch
WHERE mqtt_session.key = given.key
RETURNING mqtt_session.key;

-- name: mqtt_sessions_end(token, keys, epochs)
WITH mine AS MATERIALIZED (
    SELECT session.key FROM mqtt_session AS session
    JOIN unnest(CAST(:keys AS bytea[]), CAST(:epochs AS bigint[])) AS given (key, epoch)
    ON given.key = session.key AND given.epoch = session.epoch
    WHERE session.holder = :token
    ORDER BY session.key
    FOR UPDATE OF session
)
DELETE FROM mqtt_session
USING mine
WHERE mqtt_session.key = mine.key
RETURNING mqtt_session.key;

-- name: mqtt_sessions_held(token, keys, epochs)
SELECT mqtt_session.key
FROM unnest(CAST(:keys AS bytea[]), CAST(:epochs AS bigint[])) AS given (key, epoch)
JOIN mqtt_session ON mqtt_session.key = given.key AND mqtt_session.epoch = given.epoch
WHERE mqtt_session.holder = :token;

-- name: mqtt_sessions_orphaned()
-- Whose holder does not live: one look at the index for each holder, not for each session.
WITH RECURSIVE holder (token) AS (
    (SELECT holder FROM mqtt_session ORDER BY holder LIMIT 1)
    UNION ALL
    SELECT (
        SELECT session.holder FROM mqtt_session AS session
        WHERE session.holder > holder.token
        ORDER BY session.holder LIMIT 1
    )
    FROM holder
    WHERE holder.token IS NOT NULL
)
SELECT token FROM holder
WHERE token IS NOT NULL AND token NOT IN ({mqtt_living});

-- name: mqtt_sessions_adopt(token, orphaned, moment, limit)
WITH free AS MATERIALIZED (
    SELECT session.*, coalesce(session.position, held.position) AS since
    FROM mqtt_session AS session
    LEFT JOIN mqtt_holder AS held ON held.token = session.holder
    WHERE session.holder = ANY(CAST(:orphaned AS text[]))
    AND session.holder NOT IN ({mqtt_living})
    ORDER BY session.key
    LIMIT :limit
    FOR UPDATE OF session SKIP LOCKED
)
UPDATE mqtt_session
SET
    holder = :token, epoch = free.epoch + 1, position = free.since,
    ends_at = coalesce(free.ends_at, :moment + free.expiry * 1000000)
FROM free
WHERE mqtt_session.key = free.key
RETURNING
    mqtt_session.key, mqtt_session.epoch, free.holder, free.expiry, free.ends_at, free.client,
    free.subscriptions, free.owed, free.since;

-- name: mqtt_holders_forget(token)
-- Those that have no session any more, and do not live.
DELETE FROM mqtt_holder
WHERE token <> :token
AND NOT EXISTS (SELECT FROM mqtt_session WHERE mqtt_session.holder = mqtt_holder.token)
AND token NOT IN ({mqtt_living})
RETURNING token;
