-- Aggregates of measurements, many in a row: of level 60 a row is an hour of a sensor by minute,
-- of level 3600 a day (UTC) by hour.
CREATE TABLE rollup (
    sensor bigint NOT NULL,
    level integer NOT NULL,
    start bigint NOT NULL,
    packed bytea NOT NULL
);

CREATE UNIQUE INDEX rollup_key ON rollup (sensor, level, start);

-- One row. What was measured before the frontier is rolled up, but for what `touched` and
-- `rollup_backlog` name. Whoever changes rollups raises the generation.
CREATE TABLE rollup_state (
    singleton integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    frontier bigint NOT NULL,
    generation bigint NOT NULL
);

-- Hours whose rows came late: their rollups do not hold any more. Nothing but the id is unique:
-- who writes would have to wait for who rolls up.
CREATE TABLE touched (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sensor bigint NOT NULL,
    hour bigint NOT NULL
);

CREATE INDEX touched_sensor ON touched (sensor, hour);

-- Ranges, of whole hours, that are to be rolled up yet.
CREATE TABLE rollup_backlog (
    sensor bigint NOT NULL,
    range_start bigint NOT NULL,
    range_end bigint NOT NULL,
    PRIMARY KEY (sensor, range_start)
);

-- Before this time, at a full hour, raw rows were deleted and the rollups kept as they are.
CREATE TABLE rollup_floor (
    sensor bigint PRIMARY KEY,
    raw_from bigint NOT NULL
);

-- At a full hour, one to two hours ago: newer than that nothing has been rolled up.
INSERT INTO rollup_state (frontier, generation)
VALUES ((floor(extract(epoch FROM now()) / 3600)::bigint - 1) * 3600000000, 0);

INSERT INTO rollup_backlog (sensor, range_start, range_end)
SELECT measured.sensor, measured.first / 3600000000 * 3600000000, rollup_state.frontier
FROM (
    SELECT
        sensor.number AS sensor,
        (
            SELECT min(measurement.timestamp) FROM measurement
            WHERE measurement.sensor = sensor.number
        ) AS first
    FROM sensor
) AS measured
CROSS JOIN rollup_state
WHERE measured.first < rollup_state.frontier;
