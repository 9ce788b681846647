-- name: {table}_by_name(names)
-- Those with these names: a list of [id, sensor, timestamp].
WITH wanted (id, sensor, timestamp) AS (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
    FROM json_each(:names)
)
SELECT id, sensor, timestamp
FROM wanted
CROSS JOIN {table} USING (id, sensor, timestamp);
