-- Numbers by the hour and the day (UTC), packed or not, of what is rolled up. Of a column that is
-- null: slots and counts are the day's, totals, least and greatest are the last ones.
CREATE VIEW v_hourly AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    day.attribute,
    'epoch'::timestamptz + hour.at * interval '1 microsecond' AS time,
    hour.at AS timestamp_us,
    day.start AS day_us,
    hour.count,
    hour.minimum,
    hour.maximum,
    hour.sum / hour.count AS average,
    hour.sum,
    hour.last
FROM (
    SELECT rollup.sensor, rollup.start, found.document, named.key AS attribute, named.value AS own
    FROM rollup
    CROSS JOIN LATERAL (SELECT convert_from(rollup.packed, 'UTF8')::jsonb AS document OFFSET 0) AS found
    CROSS JOIN LATERAL jsonb_each(found.document -> 3) AS named
    WHERE rollup.level = 3600
) AS day
JOIN sensor ON sensor.number = day.sensor
CROSS JOIN LATERAL (
    SELECT
        day.start + (slot #>> '{}')::bigint * 3600000000 AS at,
        (rows #>> '{}')::bigint AS count,
        (least #>> '{}')::numeric AS minimum,
        (greatest #>> '{}')::numeric AS maximum,
        (total #>> '{}')::numeric AS sum,
        (newest #>> '{}')::numeric AS last
    FROM ROWS FROM (
        jsonb_array_elements(coalesce(nullif(day.own -> 0, 'null'), day.document -> 0)),
        jsonb_array_elements(coalesce(nullif(day.own -> 1, 'null'), day.document -> 1)),
        jsonb_array_elements(coalesce(nullif(day.own -> 2, 'null'), day.own -> 5)),
        jsonb_array_elements(coalesce(nullif(day.own -> 3, 'null'), day.own -> 5)),
        jsonb_array_elements(coalesce(nullif(day.own -> 4, 'null'), day.own -> 5)),
        jsonb_array_elements(day.own -> 5)
    ) AS slots (slot, rows, total, least, greatest, newest)
) AS hour;

CREATE VIEW v_daily AS
SELECT
    sensor_identifier,
    device_id,
    sensor_name,
    network_identifier,
    attribute,
    'epoch'::timestamptz + day_us * interval '1 microsecond' AS time,
    day_us AS timestamp_us,
    sum(count)::bigint AS count,
    min(minimum) AS minimum,
    max(maximum) AS maximum,
    sum(sum) / sum(count) AS average,
    sum(sum) AS sum,
    (array_agg(last ORDER BY timestamp_us DESC))[1] AS last
FROM v_hourly
GROUP BY sensor_identifier, device_id, sensor_name, network_identifier, attribute, day_us;
