-- Aggregates of measurements, many in a row: of level 60 a row is an hour of a sensor by minute,
-- of level 3600 a day (UTC) by hour. A rowid table with an index: rows are of some kilobytes.
CREATE TABLE rollup (
    sensor INTEGER NOT NULL,
    level INTEGER NOT NULL,
    start INTEGER NOT NULL,
    packed BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX rollup_key ON rollup (sensor, level, start);

-- One row. What was measured before the frontier is rolled up, but for what `touched` and
-- `rollup_backlog` name. Whoever changes rollups raises the generation.
CREATE TABLE rollup_state (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    frontier INTEGER NOT NULL,
    generation INTEGER NOT NULL
) STRICT;

-- Hours whose rows came late: their rollups do not hold any more. AUTOINCREMENT: a mark is
-- deleted by the id under which it was seen, which no later one may have.
CREATE TABLE touched (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor INTEGER NOT NULL,
    hour INTEGER NOT NULL
) STRICT;

CREATE INDEX touched_sensor ON touched (sensor, hour);

-- Ranges, of whole hours, that are to be rolled up yet.
CREATE TABLE rollup_backlog (
    sensor INTEGER NOT NULL,
    range_start INTEGER NOT NULL,
    range_end INTEGER NOT NULL,
    PRIMARY KEY (sensor, range_start)
) STRICT, WITHOUT ROWID;

-- Before this time, at a full hour, raw rows were deleted and the rollups kept as they are.
CREATE TABLE rollup_floor (
    sensor INTEGER PRIMARY KEY,
    raw_from INTEGER NOT NULL
) STRICT;

-- At a full hour, one to two hours ago: newer than that nothing has been rolled up.
INSERT INTO rollup_state (frontier, generation)
VALUES ((CAST(strftime('%s', 'now') AS INTEGER) / 3600 - 1) * 3600000000, 0);

INSERT INTO rollup_backlog (sensor, range_start, range_end)
SELECT sensor, first / 3600000000 * 3600000000, frontier
FROM (
    SELECT
        sensor.number AS sensor,
        (
            SELECT min(timestamp) FROM measurement WHERE measurement.sensor = sensor.number
        ) AS first
    FROM sensor
) AS measured
CROSS JOIN rollup_state
WHERE first < frontier;
