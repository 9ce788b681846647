-- Numbers by the hour and the day (UTC), packed or not, of what is rolled up. Of a column that is
-- null: slots and counts are the day's, totals, least and greatest are the last ones.
CREATE VIEW v_hourly AS
SELECT
    sensor_identifier,
    device_id,
    sensor_name,
    network_identifier,
    attribute,
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', at / 1000000, 'unixepoch') AS time,
    at AS timestamp_us,
    day_us,
    count,
    coalesce(json_extract(own, '$[3][' || place || ']'), last) AS minimum,
    coalesce(json_extract(own, '$[4][' || place || ']'), last) AS maximum,
    CAST(sum AS REAL) / count AS average,
    sum,
    last
FROM (
    SELECT
        sensor.identifier AS sensor_identifier,
        sensor.device_id,
        sensor.sensor_name,
        sensor.network_identifier,
        named.key AS attribute,
        named.value AS own,
        hour.key AS place,
        hour.value AS last,
        rollup.start AS day_us,
        rollup.start + 3600000000 * coalesce(
            json_extract(named.value, '$[0][' || hour.key || ']'),
            json_extract(CAST(rollup.packed AS TEXT), '$[0][' || hour.key || ']')
        ) AS at,
        coalesce(
            json_extract(named.value, '$[1][' || hour.key || ']'),
            json_extract(CAST(rollup.packed AS TEXT), '$[1][' || hour.key || ']')
        ) AS count,
        coalesce(json_extract(named.value, '$[2][' || hour.key || ']'), hour.value) AS sum
    FROM rollup
    JOIN sensor ON sensor.number = rollup.sensor
    CROSS JOIN json_each(CAST(rollup.packed AS TEXT), '$[3]') AS named
    CROSS JOIN json_each(named.value, '$[5]') AS hour
    WHERE rollup.level = 3600
) AS hours;

CREATE VIEW v_daily AS
SELECT
    sensor_identifier,
    device_id,
    sensor_name,
    network_identifier,
    attribute,
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', day_us / 1000000, 'unixepoch') AS time,
    day_us AS timestamp_us,
    count,
    minimum,
    maximum,
    CAST(sum AS REAL) / count AS average,
    sum,
    last
FROM (
    SELECT
        sensor.identifier AS sensor_identifier,
        sensor.device_id,
        sensor.sensor_name,
        sensor.network_identifier,
        named.key AS attribute,
        rollup.start AS day_us,
        (
            SELECT sum(value)
            FROM json_each(coalesce(
                json_extract(named.value, '$[1]'),
                json_extract(CAST(rollup.packed AS TEXT), '$[1]')
            ))
        ) AS count,
        (
            SELECT min(value)
            FROM json_each(coalesce(
                json_extract(named.value, '$[3]'), json_extract(named.value, '$[5]')
            ))
        ) AS minimum,
        (
            SELECT max(value)
            FROM json_each(coalesce(
                json_extract(named.value, '$[4]'), json_extract(named.value, '$[5]')
            ))
        ) AS maximum,
        (
            SELECT sum(CAST(value AS REAL))
            FROM json_each(coalesce(
                json_extract(named.value, '$[2]'), json_extract(named.value, '$[5]')
            ))
        ) AS sum,
        json_extract(named.value, '$[5][#-1]') AS last
    FROM rollup
    JOIN sensor ON sensor.number = rollup.sensor
    CROSS JOIN json_each(CAST(rollup.packed AS TEXT), '$[3]') AS named
    WHERE rollup.level = 3600
) AS days;
