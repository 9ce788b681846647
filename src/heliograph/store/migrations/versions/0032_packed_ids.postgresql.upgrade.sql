-- The chunks that have ids around one are looked for in each of four classes.
CREATE INDEX chunk_reach ON chunk (
    (
        CASE
            WHEN last_id - first_id < 8796093022208 THEN 0
            WHEN last_id - first_id < 562949953421312 THEN 1
            WHEN last_id - first_id < 9007199254740992 THEN 2
            ELSE 3
        END
    ),
    first_id,
    last_id
);

-- Where views of measurements have none, because they are packed.
CREATE VIEW v_packed AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    'epoch'::timestamptz + chunk.first * interval '1 microsecond' AS first,
    'epoch'::timestamptz + chunk.last * interval '1 microsecond' AS last,
    chunk.first AS first_us,
    chunk.last AS last_us,
    chunk.row_count AS rows
FROM chunk
JOIN sensor ON sensor.number = chunk.sensor;
