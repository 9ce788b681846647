-- shared: value_says
strpos(value, :member) > 0 AND (strpos(value, :said) > 0 OR strpos(value, :spelled) > 0)

-- shared: packet_says
strpos(payload, :member) > 0 AND (strpos(payload, :said) > 0 OR strpos(payload, :spelled) > 0)

-- shared: packet_length
octet_length(payload)

-- shared: named_ids
SELECT CAST(value ->> 0 AS bigint) FROM jsonb_array_elements(CAST(:names AS jsonb))

-- shared: numbers_wanted
SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:numbers AS json))

-- An id is found only by its blocks, so that the key leads there; OFFSET keeps the planner from
-- joining with the whole table.

-- shared: names_wanted
(
    SELECT
        CAST(value ->> 0 AS bigint) AS wanted_id, CAST(value ->> 1 AS bigint) AS wanted_sensor,
        CAST(value ->> 2 AS bigint) AS wanted_timestamp
    FROM jsonb_array_elements(CAST(:names AS jsonb)) AS named (value)
) AS wanted

-- shared: named_measurement
{names_wanted}
CROSS JOIN LATERAL (
    SELECT * FROM measurement
    WHERE sensor = wanted_sensor AND timestamp = wanted_timestamp AND id = wanted_id
    OFFSET 0
) AS stored

-- shared: named_log
{names_wanted}
CROSS JOIN LATERAL (
    SELECT * FROM log
    WHERE sensor = wanted_sensor AND timestamp = wanted_timestamp AND id = wanted_id
    OFFSET 0
) AS stored

-- shared: named_heartbeat
{names_wanted}
CROSS JOIN LATERAL (
    SELECT * FROM heartbeat
    WHERE sensor = wanted_sensor AND timestamp = wanted_timestamp AND id = wanted_id
    OFFSET 0
) AS stored
